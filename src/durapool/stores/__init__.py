"""Where executions are recorded: an SQLite file (the default), or memory."""

from __future__ import annotations

import os

from durapool.configuration import STORE, configured
from durapool.exceptions import ValidationError
from durapool.stores.base import ExecutionSummary, SignalRecord, Store
from durapool.stores.memory import MemoryStore
from durapool.stores.sqlite import SQLiteStore

__all__ = ["ExecutionSummary", "MemoryStore", "SQLiteStore", "SignalRecord", "Store", "open_store"]

_MEMORY = ("memory", ":memory:")


def open_store(store: str | os.PathLike[str] | Store | None = None) -> Store:
    """The store that is meant.

    Args:
        store: a store, given back as it is; the path of an SQLite file; "memory" for a store that ends with the
            process; None for what DURAPOOL_STORE says, else pyproject.toml, else ``.durapool/journal.db`` in the
            working directory.

    Raises:
        StoreError: the file cannot be used; the message says what to do.
        ValidationError: `store` is none of these.

    Example:
        >>> open_store("memory").label
        'memory'
    """
    if store is None:
        store = configured(STORE).value
    if isinstance(store, (str, os.PathLike)):
        if store in _MEMORY:
            return MemoryStore()
        return SQLiteStore(os.path.expanduser(store))
    if not hasattr(store, "executions"):
        raise ValidationError(f'store must be a path, "memory" or a store, not {store!r}')
    return store
