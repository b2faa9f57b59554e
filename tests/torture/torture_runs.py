"""Runs of a program: one that nobody disturbs, and those of one execution that is killed again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torture_interpreter import Effect, EffectLog, answer_to, run_body
from torture_nodes import Answer, Body

from durapool import DurableContext, durable_execution
from durapool.clock import SkippingClock
from durapool.exceptions import StoreError
from durapool.invocation import Invocations, Job, Raised, Returned
from durapool.records import DETAIL_CALLBACK_ID, Action, ErrorObject, OperationType, Record
from durapool.retries import RetryPresets
from durapool.settings import Choices
from durapool.stores import ExecutionSummary, MemoryStore, SignalRecord

EXECUTION = "torture"


class Killed(BaseException):
    """Stands for the death of the program."""


@dataclass(frozen=True)
class Kill:
    """When a run is killed: at its n-th commit (from 1), of which the store has taken a share, from 0 to 1.

    A share stands for a kill between two commits: the log may commit what is pending at any moment.
    """

    commit: int
    kept: float

    def kept_of(self, records: Sequence[Record]) -> Sequence[Record]:
        """What the store has taken; the end of the execution comes in one commit with that of its last invocation."""
        count = round(self.kept * len(records))
        if 0 < count < len(records) and records[count - 1].update.action is Action.INVOCATION:
            count -= 1
        return records[:count]


@dataclass(frozen=True)
class Setting:
    """What the runs of one execution have in common."""

    executor: str
    checkpoint: str
    payload_limit: int | None
    local: bool


@dataclass
class MortalStore:
    """A memory store that may die with its program, and whose outside world answers each callback at once."""

    inner: MemoryStore
    kill: Kill | None = None
    wake: Callable[[], None] = lambda: None
    dead: bool = False
    commits: int = 0
    label: str = "memory"
    payload_limit: int | None = field(init=False)
    local: bool = field(init=False)

    def __post_init__(self) -> None:
        self.payload_limit, self.local = self.inner.payload_limit, self.inner.local

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        self._check_alive()
        self.commits += 1
        if self.kill is not None and self.commits == self.kill.commit:
            self.dead = True
            records = self.kill.kept_of(records)
        self.inner.write(execution_id, records)
        self._answer(execution_id, records)
        if self.dead:
            if threading.current_thread().name == "durapool-flusher":
                self._check_alive()  # it works for nobody: all others hear of the death by the state of the log
            raise Killed

    def _answer(self, execution_id: str, records: Sequence[Record]) -> None:
        for record in records:
            update = record.update
            if update.type is OperationType.CALLBACK and update.action is Action.START:
                callback_id = (update.details or {})[DETAIL_CALLBACK_ID]
                match answer_to(update.name or ""):
                    case Answer.OK:
                        signal = SignalRecord("succeed", callback_id, payload=f"answer to {update.name}")
                    case Answer.FAILED:
                        signal = SignalRecord("fail", callback_id, error=ErrorObject("refused", "Refusal"))
                    case Answer.NEVER:
                        continue
                self.inner.post(execution_id, signal)
                self.wake()

    def _check_alive(self) -> None:
        if self.dead:
            raise StoreError("the program is dead")

    def lock(self, execution_id: str) -> AbstractContextManager[None]:
        return self.inner.lock(execution_id)

    def find(self, execution_id: str) -> ExecutionSummary | None:
        self._check_alive()
        return self.inner.find(execution_id)

    def read(self, execution_id: str) -> Iterator[Record]:
        self._check_alive()
        return self.inner.read(execution_id)

    def executions(self) -> list[ExecutionSummary]:
        self._check_alive()
        return self.inner.executions()

    def delete(self, execution_id: str) -> None:
        self._check_alive()
        self.inner.delete(execution_id)

    def post(self, execution_id: str, signal: SignalRecord) -> None:
        self._check_alive()
        self.inner.post(execution_id, signal)

    def signals(self, execution_id: str) -> list[SignalRecord]:
        self._check_alive()
        return self.inner.signals(execution_id)

    def discard(self, execution_id: str, count: int) -> None:
        self._check_alive()
        self.inner.discard(execution_id, count)

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class Run:
    """One run of an execution: what came of it, and what it left in the world and in the store."""

    ending: Returned | Raised | None  # None: it was killed
    handler_calls: int
    effects: list[Effect]
    records: list[Record]  # of the whole execution, as they stood at the end of this run

    @property
    def outcome(self) -> Any:
        """What a user sees of the end."""
        match self.ending:
            case Returned(value=value):
                return "returned", value
            case Raised(error=error):
                return "raised", error.type, error.message
        return None


class Execution:
    """The runs of one execution of a program, each after the death of the one before, over the same records."""

    def __init__(self, program: Body, setting: Setting, make_log: Callable[[], EffectLog]) -> None:
        self.runs: list[Run] = []
        self._program = program
        self._setting = setting
        self._make_log = make_log
        self._store = MemoryStore(setting.payload_limit, setting.local)
        self._clock = SkippingClock()  # one for all runs: time goes on while the program is dead

    def run(self, kill: Kill | None = None) -> Run:
        """Run to the end, or until it is killed."""
        log, calls = self._make_log(), [0]
        program = self._program

        @durable_execution(default_retry=RetryPresets.none())
        def handler(event: Any, context: DurableContext) -> Any:
            calls[0] += 1
            return run_body(context, program, "p", log)

        store = MortalStore(self._store, kill)
        settings = Choices.of(handler, self._setting.executor, self._setting.checkpoint).settings(EXECUTION, store)
        invocations = Invocations(Job(handler, "torture:handler", "null"), store, settings, self._clock)
        store.wake = invocations.wake
        try:
            ending = invocations.run()
        except (Killed, StoreError):
            if not store.dead:
                raise
            ending = None
        else:
            assert not store.dead, "the run ended as if nothing had happened to its store"
            assert isinstance(ending, Returned | Raised)
        run = Run(ending, calls[0], log.read(), list(self._store.read(EXECUTION)))
        self.runs.append(run)
        return run

    def run_through(self, kills: Sequence[Kill]) -> Run:
        """Run it until it ends, killed so often meanwhile."""
        for kill in kills:
            if self.run(kill).ending is not None:
                return self.runs[-1]
        return self.run()
