"""One execution at the Lambda service, as a store: reading is paging, writing is checkpointing.

    CommitLog --write(records)--> batches within the service's limits --> CheckpointDurableExecution, one by one
                                  what the service says has changed   --> news, for the ServiceJournal

A checkpoint takes the token of the one before, so there is one call at a time. The service has one invocation of an
execution at a time, so there is no lock. Thread-safe.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from durapool.aws.client import Remedy, ServiceClient, ServiceError, default_client
from durapool.aws.wire import Ids, Snapshot, is_held_back, is_sent, records, snapshot
from durapool.exceptions import StoreError
from durapool.records import Action, OperationType, Record, Update
from durapool.stores.base import ExecutionSummary, SignalRecord

PAYLOAD_LIMIT = 256 * 1024  # bytes; above it a context's result is rebuilt from its children
MOST_UPDATES = 250  # of one call
MOST_BYTES = 750 * 1024  # of one call's updates; a larger one goes alone

_PAIRED = frozenset({OperationType.STEP.value, OperationType.CONTEXT.value})


class TokenRevokedError(StoreError):
    """The service gave no token for the next checkpoint: this invocation is to end, and says PENDING."""


class LambdaStore:
    """The journal of one durable execution of a Lambda function.

    The entry point makes one of each invocation's event; there is nothing to configure. What only a store of many
    executions can do (list, delete, signals) raises StoreError: use the service's console or API.

    Args:
        arn: of the durable execution.
        token: the checkpoint token of the invocation.
        state: the invocation's InitialExecutionState: operations, and the marker of the next page.
        client: of boto3; None for one made from the environment.

    Raises:
        ValidationError: boto3 is missing, or knows no durable executions.

    Example:
        >>> LambdaStore(arn, token, {"Operations": []}, client).payload_limit
        262144
    """

    local = False
    payload_limit = PAYLOAD_LIMIT
    label = "the Lambda service"
    flush_age = 0.25  # seconds that a START may wait for company: most steps end before, and one call takes both

    def __init__(self, arn: str, token: str, state: Mapping[str, Any], client: Any = None) -> None:
        self._client = ServiceClient(default_client() if client is None else client, arn)
        self._execution_id = arn.rpartition("/")[2]
        self._token: str | None = token
        self._state = state
        self._ids = Ids()
        self._held: dict[str, Update] = {}  # by operation, sent ahead of its next update
        self._calling = threading.Lock()
        self._news: list[Snapshot] = []
        self._news_lock = threading.Lock()
        self.asked_at = time.monotonic()  # when the service last told what has changed
        self.revoked = False

    # --- reading

    def read(self, execution_id: str) -> Iterator[Record]:  # noqa: ARG002  # it has one execution
        """All operations of all pages, as a log that folds into them.

        Raises:
            ServiceError: a page could not be had.
            StoreError: an operation cannot be read.
        """
        with self._calling:
            found = list(self._state.get("Operations") or ())
            found += self._pages(self._state.get("NextMarker"))
        operations = {}
        for data in found:
            operation = snapshot(data, self._execution_id)
            operations[operation.id] = operation  # of two tellings the later one counts
            self._ids.learn(operation)
        return records(list(operations.values()))

    def _pages(self, marker: str | None) -> list[Any]:
        """The operations of all further pages; nothing of them counts before the last one has come."""
        found: list[Any] = []
        while marker:
            page = self._client.page(self._current_token(), marker)
            found += page.get("Operations") or ()
            marker = page.get("NextMarker")
        return found

    # --- writing

    def write(self, execution_id: str, records: Sequence[Record]) -> None:  # noqa: ARG002
        """Checkpoint, in as few calls as the service's limits allow.

        Raises:
            ServiceError: a call failed for good. What was acknowledged before is kept.
            TokenRevokedError: the service has taken the updates and wants no more of them from this invocation.
        """
        with self._calling:
            for batch in batches([self._ids.update_dict(update) for update in self._to_send(records)]):
                self._checkpoint(batch)

    def _to_send(self, records: Sequence[Record]) -> Iterator[Update]:
        for _, _, update in records:
            if not is_sent(update):
                continue
            if is_held_back(update):
                self._held[update.operation_id] = update
                continue
            held = self._held.pop(update.operation_id, None)
            if held is not None:
                yield held
            yield update

    def refresh(self) -> None:
        """Ask what has changed, by a checkpoint without updates. Raises as `write`."""
        with self._calling:
            self._checkpoint([])

    def _checkpoint(self, updates: Sequence[Mapping[str, Any]]) -> None:
        answer = self._client.checkpoint(self._current_token(), updates)
        self._token = answer.get("CheckpointToken") or None
        state = answer.get("NewExecutionState") or {}
        ends = any(update["Type"] == OperationType.EXECUTION.value for update in updates)
        if self._token is None and not ends:
            self.revoked = True
            raise TokenRevokedError("the service wants no further checkpoint of this invocation: it ends as PENDING")
        found = list(state.get("Operations") or ())
        if not ends:
            found += self._pages(state.get("NextMarker"))
        self.asked_at = time.monotonic()
        changes = [snapshot(data, self._execution_id) for data in found]
        if changes:
            with self._news_lock:
                self._news += changes

    def _current_token(self) -> str:
        if self._token is None:
            if self.revoked:
                raise TokenRevokedError("the service wants no further checkpoint of this invocation")
            raise ServiceError("the execution has ended: there is no checkpoint after its end", Remedy.FAIL)
        return self._token

    @property
    def has_news(self) -> bool:
        """Whether the service has told of changes that nobody has taken."""
        return bool(self._news)

    def take_news(self) -> list[Snapshot]:
        """What the service has told of since it was last asked for, oldest first."""
        with self._news_lock:
            news, self._news = self._news, []
        return news

    # --- what else a store can do

    def lock(self, execution_id: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """The service has one invocation at a time: a second one's token makes the first one's invalid."""
        return nullcontext()

    def find(self, execution_id: str) -> ExecutionSummary | None:  # noqa: ARG002
        """None: the service is asked with `read`."""
        return None

    def executions(self) -> list[ExecutionSummary]:
        """Raises StoreError."""
        _only_there("ListDurableExecutionsByFunction")

    def delete(self, execution_id: str) -> None:  # noqa: ARG002
        """Raises StoreError."""
        _only_there("DeleteDurableExecution")

    def post(self, execution_id: str, signal: SignalRecord) -> None:  # noqa: ARG002
        """Raises StoreError."""
        _only_there("SendDurableExecutionCallbackSuccess and StopDurableExecution")

    def signals(self, execution_id: str) -> list[SignalRecord]:  # noqa: ARG002
        """None: what comes from outside comes as news."""
        return []

    def discard(self, execution_id: str, count: int) -> None:
        """Nothing to discard."""

    def close(self) -> None:
        """Nothing to release: the client serves further invocations."""


def _only_there(operation: str) -> NoReturn:
    raise StoreError(f"the executions of the Lambda service are seen and changed with its own API: {operation}")


def batches(updates: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The updates in calls that the service takes: not too many, not too large, and each operation once.

    A step or a context may start and end in one call.
    """
    batch: list[Mapping[str, Any]] = []
    size = 0
    last: dict[str, Mapping[str, Any]] = {}
    for update in updates:
        bytes_ = len(json.dumps(update))
        before = last.get(update["Id"])
        if batch and (len(batch) >= MOST_UPDATES or size + bytes_ > MOST_BYTES or _clashes(before, update)):
            yield batch
            batch, size, last = [], 0, {}
        batch.append(update)
        size += bytes_
        last[update["Id"]] = update
    if batch:
        yield batch


def _clashes(before: Mapping[str, Any] | None, update: Mapping[str, Any]) -> bool:
    if before is None:
        return False
    start = Action.START.value
    return update["Type"] not in _PAIRED or before["Action"] != start or update["Action"] == start
