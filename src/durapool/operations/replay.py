"""One context call, compared with the record: the determinism check and the way to the journal.

A replay calls the handler again from its first line; each context call finds its operation by position. That holds
only if the calls come in the same order with the same meaning, so every call is compared before it is answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from durapool.errors import error_of
from durapool.exceptions import NonDeterministicExecutionError, SerDesError, SuspendExecution
from durapool.json_text import scalar_text
from durapool.naming import service_name, service_sub_type
from durapool.records import (
    Action,
    BlobRef,
    ErrorObject,
    Operation,
    OperationSubType,
    OperationType,
    Payload,
    Update,
)
from durapool.serdes import dump, load

if TYPE_CHECKING:
    from durapool.context import DurableContext
    from durapool.scope import Scope
    from durapool.serdes import SerDes

SERVICE_LIMIT = 1024 * 1024
"""Bytes of one payload that a service takes at the most."""

Identity = tuple[OperationType, OperationSubType | None, str | None]

_KINDS: Mapping[OperationSubType, str] = {
    OperationSubType.STEP: "step",
    OperationSubType.WAIT: "wait",
    OperationSubType.RUN_IN_CHILD_CONTEXT: "child context",
    OperationSubType.PARALLEL: "parallel",
    OperationSubType.PARALLEL_BRANCH: "branch",
    OperationSubType.MAP: "map",
    OperationSubType.MAP_ITERATION: "map item",
    OperationSubType.CALLBACK: "callback",
    OperationSubType.WAIT_FOR_CALLBACK: "wait_for_callback",
    OperationSubType.WAIT_FOR_CONDITION: "wait_for_condition",
    OperationSubType.CHAINED_INVOKE: "invoke",
}
_ADVICE = (
    "Operations must come in the same order, with the same names, in every run of one execution: "
    "undo the change of the handler, or start a new execution"
)


_new = tuple.__new__  # of a NamedTuple it takes half the time of a call, which goes through a function


class Call(NamedTuple):
    """One call of a context method: the identity of its operation, and the run that makes it.

    `branch` is the index that every update carries: of a FLAT branch's run, or of the branch whose context this is.
    """

    scope: Scope
    operation_id: str
    type: OperationType
    sub_type: OperationSubType
    parent_id: str | None
    name: str | None
    branch: int | None
    context: DurableContext  # which was called; of a branch, its own

    @property
    def what(self) -> str:
        """How messages call the operation."""
        return describe(self.type, self.sub_type, self.name)

    def recorded(self) -> Operation | None:
        """The operation as recorded, None for a new one.

        Raises:
            NonDeterministicExecutionError: another operation is recorded at this place.
        """
        operation = self.scope.journal.get(self.operation_id)
        if operation is not None:
            self.check(operation)
        return operation

    def check(self, operation: Operation) -> None:
        """Compare with what is recorded at this place.

        Raises:
            NonDeterministicExecutionError: type, sub-type or name differ.
        """
        recorded = (operation.type, operation.sub_type, operation.name)
        if not self.is_same(recorded, (self.type, self.sub_type, self.name)):
            self.differs(f"a {describe(*recorded)}", f"a {self.what}")

    def is_same(self, recorded: Identity, now: Identity) -> bool:
        """Whether type, sub-type and name are those recorded; a service keeps names in a form of its own."""
        if recorded == now:
            return True
        kind, sub_type, name = now
        own = (kind, service_sub_type(sub_type), service_name(name))
        return self.scope.settings.service and recorded == own

    def differs(self, recorded: str, now: str) -> NoReturn:
        """Raise the error of a replay that does not match."""
        raise NonDeterministicExecutionError(
            f"{self.what} (operation {self.operation_id}, in {self.scope.label}): "
            f"recorded was {recorded}, now came {now}. {_ADVICE}",
            self.operation_id,
        )

    def record(
        self,
        action: Action,
        *,
        payload: Payload | None = None,
        error: ErrorObject | None = None,
        attempt: int = 0,
        delay: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an update of this operation without waiting."""
        fields = (self[1], action, *self[2:7], payload, error, attempt, delay, details)
        self.scope.journal.record(_new(Update, fields))

    def commit(
        self,
        action: Action,
        *,
        payload: Payload | None = None,
        error: ErrorObject | None = None,
        attempt: int = 0,
        delay: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an update and wait until it is committed."""
        self.record(action, payload=payload, error=error, attempt=attempt, delay=delay, details=details)
        self.scope.journal.flush()

    def suspend(self) -> NoReturn:
        """Leave the branch until this operation is due."""
        raise SuspendExecution(frozenset({self.operation_id}))

    def is_due(self) -> bool:
        """Whether a run that is suspended on this operation can go on."""
        return self.scope.journal.is_due(self.operation_id)

    def dump(self, value: Any, serdes: SerDes[Any] | None) -> Payload:
        """Serialise a value of this operation. Raises SerDesError."""
        if serdes is None and (text := scalar_text(value)) is not None:
            return text
        scope = self.scope
        return dump(value, serdes, scope.settings, self.operation_id, _ResultOf(self), scope.blobs)

    def load(self, payload: Payload | None, serdes: SerDes[Any] | None) -> Any:
        """Read a recorded value of this operation back. Raises SerDesError."""
        if payload is None:
            return None
        scope = self.scope
        return load(payload, serdes, scope.settings, self.operation_id, _ResultOf(self), scope.blobs)

    def round_trip(self, value: Any, serdes: SerDes[Any] | None) -> tuple[Payload, Any]:
        """The payload of a value and the value as every replay will see it. Raises SerDesError."""
        if serdes is None and (text := scalar_text(value)) is not None:
            return text, value
        payload = self.dump(value, serdes)
        return payload, self.load(payload, serdes)

    def error_of(self, error: BaseException) -> ErrorObject:
        """The error as it is recorded."""
        return error_of(error, local=self.scope.settings.local_store)

    def is_too_large(self, payload: Payload) -> bool:
        """Whether the store would not take the payload whole."""
        limit = self.scope.settings.payload_limit
        return limit is not None and size_of(payload) > limit

    def check_size(self, payload: Payload) -> None:
        """Refuse what a service does not take, and what no children rebuild. Raises SerDesError."""
        if self.scope.settings.service and size_of(payload) > SERVICE_LIMIT:
            raise SerDesError(
                f"the result of {self.what} has {size_of(payload)} bytes, and the service takes {SERVICE_LIMIT}: "
                "keep it elsewhere and return where, or split it over several steps of a child context"
            )


class _ResultOf:
    """The words of a message for the result of a call; made when there is a message."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __str__(self) -> str:
        return f"the result of {self._call.what}"


def describe(kind: OperationType, sub_type: OperationSubType | None, name: str | None) -> str:
    """An operation in words: ``step 'load'``."""
    word = (_KINDS.get(sub_type) if sub_type is not None else None) or str(sub_type or kind)
    return word if name is None else f"{word} {name!r}"


def size_of(payload: Payload) -> int:
    """Bytes of a payload as it is stored."""
    if isinstance(payload, BlobRef):
        return payload.size
    if isinstance(payload, bytes) or payload.isascii():
        return len(payload)
    return len(payload.encode("utf-8", "surrogatepass"))


def default_summary(payload: Payload) -> str:
    """The text recorded in place of a result that is too large, where the user makes none."""
    return json.dumps({"summary": "rebuilt by replaying its children", "bytes": size_of(payload)})
