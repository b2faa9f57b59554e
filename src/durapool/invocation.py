"""The invocation loop: a handler is invoked until its execution ends.

    load journal -> [ settle -> call the handler -> returned | raised -> record the end
                                                 -> suspended -> pause until something is due -> again
                                                 -> crashed   -> raise it (or invoke again, in the testing kit) ]

One object runs one execution once, holding its lock; `durapool.run` and the testing kit differ in the clock and in
what becomes of a crash.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

import durapool.operations.batch  # noqa: F401  # a handler's first batch shall not wait for it
from durapool.clock import Clock, SystemClock
from durapool.context import DurableContext
from durapool.errors import error_of, exception_of
from durapool.exceptions import (
    ClusterFailure,
    ExecutionConflictError,
    ExecutionNotFoundError,
    StoreFailure,
    SuspendExecution,
)
from durapool.executors.base import Crashed, Failed, Suspended
from durapool.executors.runtime import Executors
from durapool.flag import Flag
from durapool.journal import EXECUTION_ID, Journal
from durapool.pool.machine import usable_cpus
from durapool.records import (
    DETAIL_CPUS,
    DETAIL_HANDLER,
    DETAIL_REQUEST_ID,
    DETAIL_STARTED_AT,
    DETAIL_USAGE,
    Action,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationType,
    Payload,
    Update,
)
from durapool.reopen import updates_to_reopen, warn_of_kept
from durapool.scope import Scope, Settings, run_in
from durapool.serdes import dump, load
from durapool.usage import ProcessMeter

if TYPE_CHECKING:
    from durapool.blobs import Blobs
    from durapool.commits import Mode
    from durapool.decorator import DurableHandler
    from durapool.leases import LeasedJournal
    from durapool.stores.base import Store

_SHOWN = 200  # characters of an event in a message


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run.

    `handler` None is enough for an execution that has ended, `event` None for one that is recorded. `target` is what
    `durapool resume` imports later.
    """

    handler: DurableHandler | None
    target: str
    event: Payload | None
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned: its result as recorded, and as the serdes gives it back."""

    payload: Payload | None
    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler raised: the error as recorded, and the exception where it could be kept."""

    error: ErrorObject
    exception: BaseException | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The execution was ended from outside."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class Paused:
    """This run was ended by `Invocations.pause`; the execution is as it would be after a crash."""


Ending = Returned | Raised | Stopped | Paused


class Invocations:
    """One run of one execution.

    Args:
        job: what to run.
        store: where it is recorded.
        settings: of the execution.
        clock: the system's, or one that skips time.
        crashes: how many crashed invocations are followed by another one; then the execution fails. With 0 the first
            crash is raised.
    """

    def __init__(
        self, job: Job, store: Store, settings: Settings, clock: Clock | None = None, crashes: int = 0
    ) -> None:
        self._job = job
        self._store = store
        self._settings = settings
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._crashes = crashes
        self._wake = Flag()
        self._pausing = False
        self._view: LeasedJournal | None = None
        self._journal: Journal | None = None
        self._executors: Executors | None = None

    def run(self) -> Ending:
        """Invoke the handler until the execution ends.

        Raises:
            ExecutionConflictError: the id is recorded with another event.
            ExecutionNotFoundError: without an event, and the id is unknown.
            ExecutionAlreadyRunningError: somebody else holds the execution.
            StoreError: the store failed.
            ClusterError: the cluster that branches run on cannot be used, or is gone.
            BaseException: what the handler crashed with.
        """
        execution_id = self._settings.execution_id
        with self._store.lock(execution_id):
            mode: Mode = "async" if self._settings.checkpoint == "async" else "sync"
            self._journal = journal = Journal.open(self._store, execution_id, self._clock, mode)
            try:
                return self._begin(journal) or self._loop(journal)
            except (StoreFailure, ClusterFailure) as failure:
                raise failure.error from failure.__cause__
            finally:
                journal.close()

    def wake(self) -> None:
        """There is a signal in the store: take it up now rather than at the next poll. From any thread."""
        self._wake.set()

    def pause(self) -> None:
        """End this run at the handler's next operation, or at once while it is suspended. From any thread."""
        self._pausing = True
        self._revoke()
        self._wake.set()

    def stop(self) -> None:
        """There is a request to stop in the store: end open batches at once, the handler at its next operation.

        From any thread but the handler's.

        Raises:
            StoreFailure: the store failed.
        """
        if self._journal is None:
            return  # the request is taken up with the beginning
        self._revoke()
        self._journal.look_now()
        self._journal.settle()
        self._revoke()  # of an invocation that has begun meanwhile; a later one finds the request
        if self._executors is not None:
            self._executors.interrupt()
        self._wake.set()

    def _revoke(self) -> None:
        if self._view is not None:
            self._view.revoke()

    # --- the beginning

    def _begin(self, journal: Journal) -> Ending | None:
        """Record the start, or find what is recorded; an ending if the execution has one already."""
        execution = journal.execution
        if execution is None:
            if self._job.event is None:
                raise ExecutionNotFoundError(
                    f"there is no execution {self._settings.execution_id!r} in {self._store.label}"
                )
            details = {DETAIL_HANDLER: self._job.target}
            journal.append((_of_execution(Action.START)._replace(payload=self._job.event, details=details),))
            journal.barrier()
            return None
        self._check_event()
        if not execution.status.is_terminal:
            return None
        if not self._job.retry_failed:
            return self._recorded(journal, execution)
        updates = updates_to_reopen(journal, self._recorded_event(), self._job.target)
        if not updates:
            return self._recorded(journal, execution)
        warn_of_kept(journal, updates)
        journal.reopen(updates)
        journal.barrier()
        return None

    def _recorded(self, journal: Journal, execution: Operation) -> Ending:
        error = execution.error or ErrorObject("it is not recorded why")
        match execution.status:
            case OperationStatus.SUCCEEDED:
                value = self._load(execution.payload, "the recorded result", journal.blobs)
                return Returned(execution.payload, value)
            case OperationStatus.STOPPED:
                return Stopped(error)
            case _:
                return Raised(error, exception_of(error))

    def _recorded_event(self) -> Payload:
        summary = self._store.find(self._settings.execution_id)
        assert summary is not None
        return summary.event

    def _check_event(self) -> None:
        """Raise ExecutionConflictError unless the event given equals the recorded one."""
        now, recorded = self._job.event, self._recorded_event()
        if now is None or now == recorded:
            return
        given, known = self._load(now, "the event"), self._load(recorded, "the recorded event")
        if not _equal(given, known):
            raise ExecutionConflictError(
                f"execution {self._settings.execution_id!r} is recorded with the event {_shown(known)}, now came "
                f"{_shown(given)}. Use another id for another event, or the recorded event to go on"
            )

    # --- the loop

    def _loop(self, journal: Journal) -> Ending:
        crashes = 0
        while True:
            journal.settle()
            if (ending := self._cut_short(journal)) is not None:
                return ending
            outcome = self._invoke(journal)
            match outcome:
                case _Done(value=value, payload=payload):
                    return Returned(payload, value)
                case Failed(error):
                    return Raised(error, exception_of(error))
                case Suspended(waiting_on):
                    ending = self._wait(journal, waiting_on)
                case Crashed(exception):
                    ending = self._cut_short(journal)
                    crashes += 1
                    if ending is None and (crashes > self._crashes or _is_interrupt(exception)):
                        if self._crashes == 0 or _is_interrupt(exception):
                            raise exception
                        return self._fail(journal, self._error_of(exception))
                case _:
                    assert_never(outcome)
            if ending is not None:
                return ending

    def _invoke(self, journal: Journal) -> _Outcome:
        """One invocation, recorded with its end and, if that is the execution's, with that one too."""
        started, meter = journal.now(), ProcessMeter()
        self._executors = executors = Executors()
        self._view = view = journal.view("the handler")
        if journal.stop_requested is not None:
            view.revoke()
        try:
            outcome = self._call(journal, view, executors)
        finally:
            view.revoke()
            executors.finish_invocation()
        details = {
            DETAIL_REQUEST_ID: uuid.uuid4().hex,
            DETAIL_STARTED_AT: started,
            DETAIL_CPUS: usable_cpus(),
            DETAIL_USAGE: meter.read(),
        }
        invocation = _of_execution(Action.INVOCATION)._replace(details=details)
        match outcome:
            case _Done(payload=payload):
                journal.append((invocation, _of_execution(Action.SUCCEED)._replace(payload=payload)))
            case Failed(error):
                journal.append((invocation, _of_execution(Action.FAIL)._replace(error=error)))
            case Suspended():
                journal.append((invocation,))
            case Crashed(exception):
                journal.append((invocation._replace(error=self._error_of(exception)),))
        journal.barrier()
        return outcome

    def _call(self, journal: Journal, view: LeasedJournal, executors: Executors) -> _Outcome:
        execution = journal.execution
        assert self._job.handler is not None
        assert execution is not None
        scope = Scope(self._settings, view, executors.executor_for, blobs=journal.blobs)
        try:
            event = self._load(execution.payload, "the event")
            result = run_in(scope, self._job.handler, event, DurableContext(scope, None, None))
            what = "the result of the handler"
            payload = dump(result, None, self._settings, EXECUTION_ID, what, journal.blobs)
            return _Done(payload, self._load(payload, what, journal.blobs))
        except SuspendExecution as suspension:
            return Suspended(suspension.waiting_on)
        except StoreFailure:
            raise
        except Exception as error:  # noqa: BLE001  # user code may raise anything
            return Failed(self._error_of(error))
        except BaseException as crash:  # noqa: BLE001  # raised again once the invocation is recorded
            return Crashed(crash)

    def _wait(self, journal: Journal, waiting_on: frozenset[str]) -> Ending | None:
        """Let time pass until one of the operations is due."""
        while True:
            journal.settle()
            if (ending := self._cut_short(journal)) is not None:
                return ending
            if any(map(journal.is_due, waiting_on)):
                return None
            if not journal.pause(self._wake):
                text = "the handler is suspended, but nothing that it waits for can ever be due"
                return self._fail(journal, ErrorObject(text, "InvalidStateError"))
            if self._wake.is_set():
                self._wake.clear()
                journal.look_now()
            if not waiting_on:
                return None

    def _cut_short(self, journal: Journal) -> Ending | None:
        """The ending that came from outside, if one did."""
        if journal.stop_requested is not None:
            error = journal.stop_requested
            journal.append((_of_execution(Action.STOP)._replace(error=error),))
            journal.barrier()
            return Stopped(error)
        return Paused() if self._pausing else None

    def _fail(self, journal: Journal, error: ErrorObject) -> Raised:
        journal.append((_of_execution(Action.FAIL)._replace(error=error),))
        journal.barrier()
        return Raised(error, exception_of(error))

    def _error_of(self, exception: BaseException) -> ErrorObject:
        return error_of(exception, local=self._settings.local_store)

    def _load(self, payload: Payload | None, what: str, blobs: Blobs | None = None) -> Any:
        return load(payload, None, self._settings, EXECUTION_ID, what, blobs)


@dataclass(frozen=True, slots=True)
class _Done:
    """The handler returned."""

    payload: Payload
    value: Any


_Outcome = _Done | Failed | Suspended | Crashed


def _of_execution(action: Action) -> Update:
    return Update(EXECUTION_ID, action, OperationType.EXECUTION)


def _is_interrupt(exception: BaseException) -> bool:
    """Whether somebody pressed Ctrl-C: never taken for a simulated crash where the real one can arrive."""
    return isinstance(exception, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  # a user's __eq__ may raise anything; numpy's does for arrays
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
