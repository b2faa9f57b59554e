"""Not supported: importing it says what to use instead."""

from durapool.exceptions import UnsupportedModuleError

raise UnsupportedModuleError(
    "durapool has no filesystem_serdes: its local store keeps large results whole, as files beside the database, "
    "with the default serdes. For a place of your own, subclass durapool.serdes.SerDes.",
    name=__name__,
)
