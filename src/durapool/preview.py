"""Not supported: importing it says what to use instead."""

from durapool.exceptions import UnsupportedModuleError

raise UnsupportedModuleError(
    "durapool has no previews: `durapool show ID` reads results from the store. For a short text in place of a "
    "large batch result, give summary_generator in ParallelConfig, MapConfig or ChildConfig.",
    name=__name__,
)
