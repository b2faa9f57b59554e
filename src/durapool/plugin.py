"""Not supported: importing it says what to use instead."""

from durapool.exceptions import UnsupportedModuleError

raise UnsupportedModuleError(
    "durapool has no plugins. Log with context.logger (or logging, also from branches), and read what an execution "
    "did with `durapool history ID --json`.",
    name=__name__,
)
