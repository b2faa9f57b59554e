"""A durable handler as the entry point of a Lambda function: one invocation by the service, one answer.

event, Lambda context --> serve --> PENDING    suspended, or out of time: the service invokes again
                                --> SUCCEEDED, FAILED
                                --> raises     the invocation failed: the service tries it again
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from durapool.aws.client import Remedy, ServiceError
from durapool.aws.deadline import Deadline
from durapool.aws.journal import ServiceJournal
from durapool.aws.payloads import error_dict
from durapool.aws.store import LambdaStore, TokenRevokedError
from durapool.clock import SystemClock
from durapool.context import DurableContext
from durapool.errors import error_of
from durapool.exceptions import (
    ExecutionError,
    InvocationError,
    OrphanedBranch,
    StoreError,
    StoreFailure,
    SuspendExecution,
    ValidationError,
)
from durapool.executors.runtime import Executors
from durapool.journal import EXECUTION_ID
from durapool.records import Action, ErrorObject, OperationType, Update
from durapool.retries import RetryPresets
from durapool.scope import Scope, Settings, run_in
from durapool.serdes import dump, load
from durapool.settings import Choices
from durapool.values import replace

if TYPE_CHECKING:
    from durapool.commits import Mode
    from durapool.decorator import DurableHandler

LARGEST_RESPONSE = 6 * 1024 * 1024 - 1024  # bytes of a result in the answer; Lambda takes 6 MiB, with what is around it

_log = logging.getLogger("durapool")

Answer = dict[str, Any]
PENDING: Mapping[str, Any] = {"Status": "PENDING"}


def is_invocation(event: object) -> bool:
    """Whether the event is one of the durable execution service."""
    return isinstance(event, Mapping) and "DurableExecutionArn" in event and "CheckpointToken" in event


def refuse(handler: DurableHandler, context: object) -> NoReturn:
    """Raise the error of an invocation that is none of the durable execution service.

    Raises:
        ExecutionError: always.
    """
    function = getattr(context, "invoked_function_arn", None) or "the function"
    raise ExecutionError(
        f"{handler.__qualname__} was invoked without the fields of a durable execution (DurableExecutionArn, "
        f"CheckpointToken): durability is not switched on for {function}. Create the function with a DurableConfig, "
        "and invoke it by a qualified ARN (a version, an alias or $LATEST)"
    )


def serve(handler: DurableHandler, event: Mapping[str, Any], context: Any) -> Answer:
    """Run one invocation.

    Args:
        handler: the durable handler.
        event: the service's: DurableExecutionArn, CheckpointToken, InitialExecutionState.
        context: of Lambda; asked for the remaining time.

    Returns:
        ``{"Status": "SUCCEEDED", "Result": text}``, ``{"Status": "FAILED", "Error": {...}}`` or
        ``{"Status": "PENDING"}``.

    Raises:
        ServiceError: the service could not be reached, or has another invocation of this execution.
        InvocationError: as the handler raised it.
        BaseException: what the handler crashed with.
    """
    arn, token = event["DurableExecutionArn"], event["CheckpointToken"]
    state = event.get("InitialExecutionState") or {}
    if not isinstance(arn, str) or not isinstance(token, str) or not isinstance(state, Mapping):
        raise ExecutionError(
            "no event of the durable execution service: DurableExecutionArn and CheckpointToken must be text, "
            f"InitialExecutionState an object; they are {type(arn).__name__}, {type(token).__name__} and "
            f"{type(state).__name__}"
        )
    try:
        store = LambdaStore(arn, token, state, handler.boto3_client)
        return _serve(handler, arn, store, context)
    except StoreFailure as failure:
        return _after(failure.error)
    except StoreError as error:
        return _after(error)
    except ValidationError as error:
        return _failed(error_of(error, local=False))  # boto3, or the configuration: no invocation mends it


def _serve(handler: DurableHandler, arn: str, store: LambdaStore, context: Any) -> Answer:
    deadline = Deadline(context)
    choices = Choices.of(handler)
    settings = replace(
        choices.settings(arn, store),
        arn=arn,
        default_retry=choices.default_retry or RetryPresets.default(),
        service=True,
    )
    mode: Mode = "async" if settings.checkpoint == "async" else "sync"
    journal = ServiceJournal.open(store, arn, SystemClock(), mode)
    assert isinstance(journal, ServiceJournal)
    try:
        return _Invocation(handler, settings, journal, deadline, context).answer()
    finally:
        journal.close()


def _after(error: StoreError) -> Answer:
    """What is answered when the service has failed us."""
    if isinstance(error, TokenRevokedError):
        _log.warning("%s", error)
        return dict(PENDING)
    if isinstance(error, ServiceError) and error.remedy is Remedy.INVOKE_AGAIN:
        raise error
    return _failed(error_of(error, local=False))


def _failed(error: ErrorObject) -> Answer:
    return {"Status": "FAILED", "Error": error_dict(error)}


@dataclass(frozen=True, slots=True)
class _Invocation:
    handler: DurableHandler
    settings: Settings
    journal: ServiceJournal
    deadline: Deadline
    lambda_context: Any

    def answer(self) -> Answer:
        """Call the handler until it has ended or waits for something that is not there yet; the service's answer.

        What it waits for may have come with the last checkpoint. The service has told of it then, and invokes nobody
        for it again.
        """
        while True:
            try:
                return self._pass()
            except SuspendExecution as suspension:
                self.journal.barrier()
                if not any(map(self.journal.is_due, suspension.waiting_on)):
                    return dict(PENDING)

    def _pass(self) -> Answer:
        """Call the handler once.

        Raises:
            SuspendExecution: it waits for something.
        """
        view, executors = self.journal.view("the handler"), Executors()
        scope = Scope(self.settings, view, executors.executor_for, lambda_context=self.lambda_context)
        try:
            with self.deadline.watching(view, executors):
                return self._call(scope)
        except OrphanedBranch:
            if not self.deadline.reached:
                raise
        except (StoreFailure, InvocationError):
            raise
        except Exception as error:  # noqa: BLE001  # user code may raise anything
            self.journal.barrier()
            return _failed(error_of(error, local=False))
        finally:
            view.revoke()
            executors.finish_invocation()
        return self._out_of_time()

    def _call(self, scope: Scope) -> Answer:
        execution = self.journal.execution
        assert execution is not None
        event = None
        if execution.payload is not None and str(execution.payload).strip():
            event = load(execution.payload, None, self.settings, EXECUTION_ID, "the event")
        result = run_in(scope, self.handler, event, DurableContext(scope, None, None))
        payload = dump(result, None, self.settings, EXECUTION_ID, "the result of the handler")
        assert isinstance(payload, str)
        self.journal.barrier()
        if len(json.dumps(payload)) <= LARGEST_RESPONSE:
            return {"Status": "SUCCEEDED", "Result": payload}
        update = Update(EXECUTION_ID, Action.SUCCEED, OperationType.EXECUTION, payload=payload)
        self.journal.append((update,))
        self.journal.barrier()
        return {"Status": "SUCCEEDED", "Result": ""}

    def _out_of_time(self) -> Answer:
        """Ask to be invoked again in a second."""
        error = self.deadline.record(self.journal)
        return dict(PENDING) if error is None else _failed(error)
