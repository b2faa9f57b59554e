"""What is a context's own: the right to be used by its run alone, and its seed."""

from __future__ import annotations

from durapool.digests import blake2b
from durapool.exceptions import InvalidStateError


def seed_of(execution_id: str, id_root: str | None) -> int:
    """64 bits from the execution and the context, the same in every run."""
    return int.from_bytes(blake2b(f"{execution_id}/{id_root or ''}".encode(), digest_size=8).digest())


def foreign_use(what: str, owner: str, running: str) -> InvalidStateError:
    """The error of a call on the context of another run; all three are words for the message."""
    return InvalidStateError(
        f"{what}: called on the context of {owner} by {running}. "
        "Use the branch's own ctx, the first argument of its function"
    )
