"""What a batch gives back: one item for each branch that had started, and why the batch was complete.

Plain values: nothing here knows journals, executors or coordinators. Workers import it for nested batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from operator import attrgetter
from typing import Any, Generic, NoReturn, TypeVar, cast

from durapool.config import CompletionConfig
from durapool.exceptions import ChildContextError
from durapool.records import BlobRef, ErrorObject, Payload
from durapool.values import dataclass

R = TypeVar("R")
_publishing = threading.Lock()  # held only to store a loaded result, never while one is loaded


class BatchItemStatus(StrEnum):
    """How a branch ended; STARTED for one that was still unfinished when its batch was complete."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STARTED = "STARTED"


class CompletionReason(StrEnum):
    """Why a batch was complete."""

    ALL_COMPLETED = "ALL_COMPLETED"
    MIN_SUCCESSFUL_REACHED = "MIN_SUCCESSFUL_REACHED"
    FAILURE_TOLERANCE_EXCEEDED = "FAILURE_TOLERANCE_EXCEEDED"


_SUCCEEDED = BatchItemStatus.SUCCEEDED  # to look a member up in its class takes time, for each branch
_INDEX = attrgetter("index")  # of an item


class BatchItem(Generic[R]):
    """One branch of a batch's result. Immutable; equal where index, status, result and error are.

    Args:
        index: the branch's place in the list that was given, from 0.
        status: how it ended.
        result: what it returned; None where it did not succeed.
        error: what it failed with; None where it did not fail.

    Example:
        >>> BatchItem(index=0, status=BatchItemStatus.SUCCEEDED, result=42).result
        42
    """

    __slots__ = ("_error", "_index", "_load", "_payload", "_result", "_status")
    __match_args__ = ("index", "status", "result", "error")

    def __init__(
        self,
        index: int,
        status: BatchItemStatus,
        result: R | None = None,
        error: ErrorObject | None = None,
    ) -> None:
        self._index = index
        self._status = BatchItemStatus(status)
        self._result = result
        self._error = error
        self._load: Callable[[int, Any], R] | None = None  # of the index and the payload
        self._payload: Payload | None = None

    @classmethod
    def lazy(cls, index: int, load: Callable[[], R]) -> BatchItem[R]:
        """A succeeded item whose result is loaded when it is first asked for.

        `load` is not called again once it has returned; what it raises comes out of `result` every time. Two threads
        that ask first at the same moment may both call it, and both get the same object.
        """
        return cls.recorded(index, None, lambda _index, _payload: load())

    @classmethod
    def recorded(cls, index: int, payload: Payload | None, load: Callable[[int, Any], R]) -> BatchItem[R]:
        """As `lazy`: `load` is called with the index and the payload. All items of a batch share one.

        Bytes and text that are kept outside of memory (the payload is a BlobRef) are loaded each time they are read.
        They cannot change, so nobody sees a difference, and going through a batch of them takes the memory of one.
        Arrays are mapped, and take memory only where they are written to.
        """
        item = cls.__new__(cls)  # there is one for each branch: `__init__` would look the status up, and set all twice
        item._index = index
        item._status = _SUCCEEDED
        item._result = item._error = None
        item._load = load
        item._payload = payload
        return item

    @property
    def index(self) -> int:
        """The branch's place in the list that was given, from 0."""
        return self._index

    @property
    def status(self) -> BatchItemStatus:
        """How the branch ended."""
        return self._status

    @property
    def error(self) -> ErrorObject | None:
        """What the branch failed with; None where it did not fail."""
        return self._error

    @property
    def result(self) -> R | None:
        """What the branch returned; None where it did not succeed. Loaded when it is first asked for.

        Raises:
            SerDesError: the recorded result cannot be read back.
        """
        payload = self._payload  # before `_load`: while that is there, the payload is
        load = self._load
        if load is not None:
            loaded = load(self._index, payload)
            if type(payload) is BlobRef and type(loaded) in (bytes, str):
                return loaded
            with _publishing:
                if self._load is not None:
                    self._result = loaded
                    self._load = None
                    self._payload = None
        return self._result

    def to_dict(self) -> dict[str, Any]:
        """Plain fields: JSON-able where the result is."""
        return {
            "index": self._index,
            "status": self._status.value,
            "result": self.result,
            "error": None if self._error is None else self._error.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BatchItem[R]:
        """The inverse of :meth:`to_dict`."""
        error = data.get("error")
        return cls(
            index=data["index"],
            status=BatchItemStatus(data["status"]),
            result=data.get("result"),
            error=None if error is None else ErrorObject.from_dict(error),
        )

    def _fields(self) -> tuple[int, BatchItemStatus, R | None, ErrorObject | None]:
        return self._index, self._status, self.result, self._error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchItem):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self._index, self._status))  # results may be unhashable

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._fields()

    def __repr__(self) -> str:
        return (
            f"BatchItem(index={self._index}, status={self._status.value}, "
            f"result={self.result!r}, error={self._error!r})"
        )


@dataclass(frozen=True)
class BatchResult(Generic[R]):
    """What `parallel` and `map` return.

    Args:
        all: one item for each branch that had started, in index order. Branches that never started are left out.
        completion_reason: why the batch was complete.
        submitted_count: how many branches were given, never-started ones included; by default the number of items.

    Example:
        >>> item = BatchItem(index=0, status=BatchItemStatus.SUCCEEDED, result="a")
        >>> BatchResult(all=[item], completion_reason=CompletionReason.ALL_COMPLETED).successful_results
        ['a']
    """

    all: list[BatchItem[R]]
    completion_reason: CompletionReason
    submitted_count: int = cast(int, None)  # None stands for the number of items; read, it is always an int

    def __post_init__(self) -> None:
        object.__setattr__(self, "all", sorted(self.all, key=_INDEX))
        object.__setattr__(self, "completion_reason", CompletionReason(self.completion_reason))
        if self.submitted_count is None:
            object.__setattr__(self, "submitted_count", len(self.all))

    def _with(self, status: BatchItemStatus) -> Iterator[BatchItem[R]]:
        return (item for item in self.all if item.status is status)

    def succeeded(self) -> list[BatchItem[R]]:
        """The items that succeeded, in index order."""
        return list(self._with(BatchItemStatus.SUCCEEDED))

    def failed(self) -> list[BatchItem[R]]:
        """The items that failed, in index order."""
        return list(self._with(BatchItemStatus.FAILED))

    def started(self) -> list[BatchItem[R]]:
        """The items that were unfinished when the batch was complete, in index order."""
        return list(self._with(BatchItemStatus.STARTED))

    def get_results(self) -> list[R]:
        """The results of the branches that succeeded, in index order; None is a result like any other."""
        return [item.result for item in self.all if item.status is _SUCCEEDED]  # type: ignore[misc]  # R may have None

    def get_errors(self) -> list[ErrorObject]:
        """The errors of the branches that failed, in index order."""
        return [_error_of(item) for item in self._with(BatchItemStatus.FAILED)]

    @property
    def successful_results(self) -> list[R]:
        """As :meth:`get_results`."""
        return self.get_results()

    @property
    def failed_results(self) -> list[ErrorObject]:
        """As :meth:`get_errors`."""
        return self.get_errors()

    @property
    def has_failure(self) -> bool:
        """Whether any branch failed."""
        return next(self._with(BatchItemStatus.FAILED), None) is not None

    def throw_if_error(self) -> None:
        """Raise the error of the first failed branch (by index); return where none failed.

        Raises:
            ChildContextError: with the message and type of the branch's error; its `__cause__` is the original
                exception where it could be kept.
        """
        first = next(self._with(BatchItemStatus.FAILED), None)
        if first is not None:
            _throw(first)

    @property
    def success_count(self) -> int:
        """How many branches succeeded."""
        return self._count(BatchItemStatus.SUCCEEDED)

    @property
    def failure_count(self) -> int:
        """How many branches failed."""
        return self._count(BatchItemStatus.FAILED)

    @property
    def started_count(self) -> int:
        """How many branches were unfinished when the batch was complete."""
        return self._count(BatchItemStatus.STARTED)

    def _count(self, status: BatchItemStatus) -> int:
        return sum(1 for _ in self._with(status))

    @property
    def total_count(self) -> int:
        """How many items the result has; branches that never started are not among them."""
        return len(self.all)

    @property
    def status(self) -> BatchItemStatus:
        """FAILED if any branch failed, else SUCCEEDED."""
        return BatchItemStatus.FAILED if self.has_failure else BatchItemStatus.SUCCEEDED

    def to_dict(self) -> dict[str, Any]:
        """Plain fields: JSON-able where the results are. Loads all results."""
        return {
            "all": [item.to_dict() for item in self.all],
            "completionReason": self.completion_reason.value,
            "submittedCount": self.submitted_count,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], completion_config: CompletionConfig | None = None) -> BatchResult[R]:
        """The inverse of :meth:`to_dict`.

        Args:
            data: what `to_dict` gave. Without a ``completionReason`` the reason is inferred from the items.
            completion_config: the batch's config, for that inference alone.
        """
        items: list[BatchItem[R]] = [BatchItem.from_dict(item) for item in data["all"]]
        submitted = data.get("submittedCount")
        given = len(items) if submitted is None else submitted
        reason = data.get("completionReason")
        if reason is None:
            reason = _infer_reason(items, completion_config or CompletionConfig(), given)
        return cls(items, CompletionReason(reason), given)


def _error_of(item: BatchItem[Any]) -> ErrorObject:
    """The item's error; a stand-in for one that was made without, so that every failure has a message."""
    return item.error or ErrorObject(message=f"branch {item.index} failed and no error was recorded")


def _throw(item: BatchItem[Any]) -> NoReturn:
    from durapool.errors import raise_from  # only here: a worker without failures does not need it

    try:
        raise_from(_error_of(item), ChildContextError)
    except ChildContextError as error:
        error.add_note(f"raised by branch {item.index} of the batch")
        raise


def _infer_reason(items: list[BatchItem[Any]], config: CompletionConfig, total: int) -> CompletionReason:
    from durapool.coordinator import CompletionPolicy  # only here: workers must not import the coordinator

    succeeded = sum(1 for item in items if item.status is BatchItemStatus.SUCCEEDED)
    failed = sum(1 for item in items if item.status is BatchItemStatus.FAILED)
    return CompletionPolicy.of(config, total).verdict(succeeded, failed) or CompletionReason.ALL_COMPLETED
