"""The durable execution service in memory: a boto3 Lambda client's two calls, and the loop that invokes a handler.

As strict as the service: tokens go stale, an operation is updated once a call, what has ended stays ended, and
children of what has ended are forgotten. Time stands still except where `advance` moves it.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

ARN = (
    "arn:aws:lambda:us-east-1:123456789012:function:job:1/durable-execution/"
    "5a1c0000-0000-4000-8000-000000000000/7f3e0000-0000-4000-8000-000000000000"
)
EXECUTION = ARN.rpartition("/")[2]
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "STOPPED"}
DETAILS = {
    "EXECUTION": "ExecutionDetails",
    "CONTEXT": "ContextDetails",
    "STEP": "StepDetails",
    "WAIT": "WaitDetails",
    "CALLBACK": "CallbackDetails",
    "CHAINED_INVOKE": "ChainedInvokeDetails",
}


def refusal(status: int, code: str, message: str = "no", headers: Mapping[str, str] | None = None) -> ClientError:
    """The error that boto3 raises for such a response."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": dict(headers or {})}
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return ClientError(response, "CheckpointDurableExecution")


def invalid(message: str) -> ClientError:
    return refusal(400, "InvalidParameterValueException", message)


@dataclass
class LambdaContext:
    """What Lambda hands to a function."""

    seconds: float = 900.0
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:job:1"
    aws_request_id: str = "1"

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(max(0.0, self._end - time.monotonic()) * 1000)


@dataclass
class FakeService:
    """One execution. `before` and `after` are called around each checkpoint, and may raise."""

    event: Any = None
    page_size: int = 1000
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[list[dict[str, Any]]] = field(default_factory=list)  # the updates of each checkpoint that was applied
    tries: int = 0  # checkpoints, the refused ones too
    tokens: list[str] = field(default_factory=list)  # client tokens, of each try
    pages: int = 0
    skipped: float = 0.0
    result: str | None = None
    error: dict[str, Any] | None = None
    status: str = "RUNNING"
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    before_page: Callable[[], None] | None = None
    withhold_token: bool = False

    def __post_init__(self) -> None:
        self._token = 0
        self._cached: tuple[str, str, dict[str, Any]] | None = None
        self._unseen: deque[str] = deque()
        self.operations[EXECUTION] = {
            "Id": EXECUTION,
            "Type": "EXECUTION",
            "Status": "STARTED",
            "StartTimestamp": self.now(),
            "ExecutionDetails": {"InputPayload": json.dumps(self.event)},
        }

    # --- time

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.skipped, UTC)

    def advance(self, seconds: float) -> None:
        self.skipped += seconds

    def due(self) -> None:
        """Let what is due fall due."""
        for operation in self.operations.values():
            details = operation.get(DETAILS[operation["Type"]], {})
            if operation["Type"] == "WAIT" and operation["Status"] == "STARTED":
                if details["ScheduledEndTimestamp"] <= self.now():
                    self._end(operation, "SUCCEEDED")
            elif operation["Status"] == "PENDING" and details["NextAttemptTimestamp"] <= self.now():
                operation["Status"] = "READY"
                del details["NextAttemptTimestamp"]
                self._unseen.append(operation["Id"])

    # --- the client

    def checkpoint_durable_execution(self, **request: Any) -> dict[str, Any]:
        updates, token, client_token = request["Updates"], request["CheckpointToken"], request["ClientToken"]
        self.tries += 1
        self.tokens.append(client_token)
        assert request["DurableExecutionArn"] == ARN
        json.dumps(updates)
        if self.before is not None:
            self.before()
        if self._cached is not None and self._cached[:2] == (client_token, token):
            return self._cached[2]
        if token != str(self._token) or self.status != "RUNNING":
            raise invalid("Invalid checkpoint token")
        self._check(updates)
        for update in updates:
            self._apply(update)
        self.calls.append(updates)
        self._token += 1
        self.due()
        answer: dict[str, Any] = {"NewExecutionState": {"Operations": self._take_unseen()}}
        if self.status == "RUNNING" and not self.withhold_token:
            answer["CheckpointToken"] = str(self._token)
        self._cached = (client_token, token, answer)
        if self.after is not None:
            self.after()
        return answer

    def get_durable_execution_state(self, **request: Any) -> dict[str, Any]:
        assert request["DurableExecutionArn"] == ARN
        assert request["MaxItems"] <= 1000
        if request["CheckpointToken"] != str(self._token):
            raise invalid("Invalid checkpoint token")
        self.pages += 1
        if self.before_page is not None:
            self.before_page()
        return self._page(int(request["Marker"]))

    def _page(self, start: int) -> dict[str, Any]:
        found = self.visible()
        page: dict[str, Any] = {"Operations": found[start : start + self.page_size]}
        if start + self.page_size < len(found):
            page["NextMarker"] = str(start + self.page_size)
        return page

    def visible(self) -> list[dict[str, Any]]:
        """All operations but those below something that has ended, unless it asked to keep them."""
        hidden: set[str] = set()
        found = []
        for operation in self.operations.values():
            parent = self.operations.get(operation.get("ParentId", ""))
            if parent is not None and (
                parent["Id"] in hidden
                or (parent["Status"] in ENDED and not parent.get("ContextDetails", {}).get("ReplayChildren"))
            ):
                hidden.add(operation["Id"])
                continue
            found.append(json.loads(json.dumps(operation, default=lambda value: value.isoformat())))
        return found

    def _take_unseen(self) -> list[dict[str, Any]]:
        found = {identity: dict(self.operations[identity]) for identity in self._unseen}
        self._unseen.clear()
        return list(found.values())

    # --- updates

    def _check(self, updates: list[dict[str, Any]]) -> None:
        seen: dict[str, dict[str, Any]] = {}
        for place, update in enumerate(updates):
            identity = update["Id"]
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", identity):
                raise invalid(f"Invalid Id {identity}")
            if not re.fullmatch(r"[\x20-\x7e]{1,256}", update.get("Name", "x")):
                raise invalid("Invalid Name")
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,32}", update.get("SubType", "x")):
                raise invalid("Invalid SubType")
            if len(json.dumps(update.get("Error"))) > 32768:
                raise invalid("Error object size must be less than 32768 bytes.")
            before = seen.get(identity)
            if before is not None and not (
                update["Type"] in ("STEP", "CONTEXT") and before["Action"] == "START" and update["Action"] != "START"
            ):
                raise invalid("Cannot checkpoint multiple operations with the same ID.")
            if update["Type"] == "EXECUTION" and place != len(updates) - 1:
                raise invalid("EXECUTION checkpoint must be the last update.")
            parent = update.get("ParentId")
            if parent is not None:
                known = seen.get(parent) or self.operations.get(parent)
                if known is None or known["Type"] != "CONTEXT":
                    raise invalid("Invalid parent operation id.")
            self._check_transition(before or self.operations.get(identity), update)
            seen[identity] = update

    def _check_transition(self, known: dict[str, Any] | None, update: dict[str, Any]) -> None:
        kind, action = update["Type"], update["Action"]
        status = None if known is None else known.get("Status", "STARTED")
        if known is not None:
            for key in ("Type", "SubType", "Name", "ParentId"):
                if update.get(key) is not None and update[key] != known.get(key):
                    raise invalid(f"Inconsistent operation {key}.")
        allowed = {
            ("STEP", "START"): {None, "READY"},
            ("STEP", "SUCCEED"): {"STARTED", "READY"},
            ("STEP", "FAIL"): {"STARTED", "READY"},
            ("STEP", "RETRY"): {"STARTED", "READY"},
            ("CONTEXT", "START"): {None},
            ("CONTEXT", "SUCCEED"): {"STARTED"},
            ("CONTEXT", "FAIL"): {"STARTED"},
            ("WAIT", "START"): {None},
            ("CALLBACK", "START"): {None},
            ("CHAINED_INVOKE", "START"): {None},
            ("EXECUTION", "SUCCEED"): {None},
            ("EXECUTION", "FAIL"): {None},
        }
        if status not in allowed.get((kind, action), set()):
            raise invalid(f"Invalid action {action} for a {kind} that is {status}.")
        if action == "RETRY" and ("Payload" in update and "Error" in update):
            raise invalid("Cannot provide both error and payload to RETRY a STEP.")

    def _apply(self, update: dict[str, Any]) -> None:
        identity, kind, action = update["Id"], update["Type"], update["Action"]
        if kind == "EXECUTION":
            self.status = "SUCCEEDED" if action == "SUCCEED" else "FAILED"
            self.result, self.error = update.get("Payload"), update.get("Error")
            return
        operation = self.operations.get(identity)
        if operation is None:
            operation = {key: update[key] for key in ("Id", "Type", "SubType", "Name", "ParentId") if key in update}
            operation["StartTimestamp"] = self.now()
            self.operations[identity] = operation
        details = operation.setdefault(DETAILS[kind], {})
        operation["Status"] = {"START": "STARTED", "SUCCEED": "SUCCEEDED", "FAIL": "FAILED", "RETRY": "PENDING"}[action]
        if kind == "STEP":
            details.setdefault("Attempt", 0)
            details["Attempt"] += action != "START"
        for key, name in (("Payload", "Result"), ("Error", "Error")):
            details.pop(name, None)
            if key in update and kind != "CHAINED_INVOKE":
                details[name] = update[key]
        match kind, action:
            case "STEP", "RETRY":
                details["NextAttemptTimestamp"] = self._in(update["StepOptions"]["NextAttemptDelaySeconds"])
            case "WAIT", _:
                details["ScheduledEndTimestamp"] = self._in(update["WaitOptions"]["WaitSeconds"])
            case "CALLBACK", _:
                details["CallbackId"] = f"cb{len(self.operations)}"
            case "CONTEXT", "SUCCEED":
                details["ReplayChildren"] = update.get("ContextOptions", {}).get("ReplayChildren", False)
        if operation["Status"] in ENDED:
            operation["EndTimestamp"] = self.now()
        self._unseen.append(identity)

    def _in(self, seconds: int) -> datetime:
        assert seconds >= 1
        return datetime.fromtimestamp(self.now().timestamp() + seconds, UTC)

    def _end(self, operation: dict[str, Any], status: str, **details: Any) -> None:
        operation["Status"] = status
        operation["EndTimestamp"] = self.now()
        operation.setdefault(DETAILS[operation["Type"]], {}).update(details)
        self._unseen.append(operation["Id"])

    # --- the outside world

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [operation for operation in self.operations.values() if operation["Type"] == kind]

    def named(self, name: str) -> dict[str, Any]:
        (found,) = [operation for operation in self.operations.values() if operation.get("Name") == name]
        return found

    def answer(self, kind: str, status: str = "SUCCEEDED", **details: Any) -> None:
        """End the open callbacks, or the open chained invocations."""
        for operation in self.of_type(kind):
            if operation["Status"] == "STARTED":
                self._end(operation, status, **details)

    # --- invocations

    def invocation(self) -> dict[str, Any]:
        """The event of the next invocation; tokens of earlier ones are stale from now on."""
        self._token += 1
        self.due()
        self._unseen.clear()
        page = self._page(0)
        return {"DurableExecutionArn": ARN, "CheckpointToken": str(self._token), "InitialExecutionState": page}

    def invoke(self, handler: Any, context: Any = None) -> dict[str, Any]:
        """One invocation; its answer, which is taken for the execution's end where it is one."""
        answer: dict[str, Any] = handler(self.invocation(), context or LambdaContext())
        json.dumps(answer)
        match answer["Status"]:
            case "PENDING":
                assert self.has_pending(), "PENDING with nothing that could end it"
            case "SUCCEEDED":
                self.status = "SUCCEEDED"
                self.result = answer["Result"] or self.result
            case "FAILED":
                self.status, self.error = "FAILED", answer.get("Error")
        return answer

    def has_pending(self) -> bool:
        """Whether something may bring the execution on."""
        waiting = {"STEP": "PENDING", "WAIT": "STARTED", "CALLBACK": "STARTED", "CHAINED_INVOKE": "STARTED"}
        return bool(self._unseen) or any(
            waiting.get(operation["Type"]) == operation["Status"] for operation in self.operations.values()
        )

    def run(self, handler: Any, most: int = 20) -> Any:
        """Invoke until the execution ends, skipping time; the result."""
        for _ in range(most):
            answer = self.invoke(handler)
            if answer["Status"] != "PENDING":
                break
            times = [
                operation[DETAILS[operation["Type"]]].get(key)
                for operation in self.operations.values()
                for key in ("ScheduledEndTimestamp", "NextAttemptTimestamp")
                if operation["Status"] in ("STARTED", "PENDING") and DETAILS[operation["Type"]] in operation
            ]
            due = min((each for each in times if each is not None), default=self.now())
            self.advance(max(0.0, (due - self.now()).total_seconds()))
        assert self.status == "SUCCEEDED", self.error
        return json.loads(self.result or "null")
