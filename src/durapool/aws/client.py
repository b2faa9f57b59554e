"""The two calls of the service, with retries: what comes back is an answer, or a ServiceError that says what to do.

    throttled, 5xx, no connection     tried again with backoff and full jitter, then Remedy.INVOKE_AGAIN
    a checkpoint token that is old    Remedy.INVOKE_AGAIN at once: the next invocation gets a fresh one
    other 4xx, keys of KMS            Remedy.FAIL at once: it will never succeed

A checkpoint carries a client token, the same in each try: where the answer was lost, the service gives it again and
applies nothing twice.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from durapool.exceptions import StoreError, ValidationError

ATTEMPTS = 6
FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 5.0  # seconds
PAGE_ITEMS = 1000  # the most that the service gives at once
_CONNECT_TIMEOUT = 5  # seconds
_READ_TIMEOUT = 50  # seconds

_THROTTLED = 429
_STALE_TOKEN = "invalid checkpoint token"
_OF_KMS = frozenset(
    {"KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException"}
)
"""They come as 502, and only somebody who mends the key can help."""

_PASSING = frozenset({"ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError"})

_log = logging.getLogger("durapool")


class Remedy(StrEnum):
    """What helps after the service has refused a call."""

    INVOKE_AGAIN = "invoke again"  # the next invocation starts from the last checkpoint
    FAIL = "fail"  # no invocation will ever get further


class ServiceError(StoreError):
    """The Lambda service could not be reached, or refused a call. What it acknowledged before is kept.

    Args:
        message: which call, what came back, what to do.
        remedy: "invoke again" where the next invocation may get further, "fail" where none will.
    """

    def __init__(self, message: str, remedy: Remedy = Remedy.INVOKE_AGAIN) -> None:
        super().__init__(message)
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.remedy)


class ServiceClient:
    """A boto3 Lambda client for one execution. Not thread-safe: the store makes one call at a time.

    Args:
        client: of boto3.
        arn: of the execution.
    """

    def __init__(self, client: Any, arn: str) -> None:
        for name in ("checkpoint_durable_execution", "get_durable_execution_state"):
            if not hasattr(client, name):
                raise ValidationError(
                    f"boto3_client has no {name}: give boto3.client('lambda') of a boto3 that knows durable "
                    "executions (1.42 or newer), and package it with the function"
                )
        self._client = client
        self._arn = arn

    def checkpoint(self, token: str, updates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Apply the updates, once; the response. Raises ServiceError."""
        client_token = uuid.uuid4().hex
        return self._tried(
            "CheckpointDurableExecution",
            lambda: self._client.checkpoint_durable_execution(
                DurableExecutionArn=self._arn, CheckpointToken=token, Updates=list(updates), ClientToken=client_token
            ),
        )

    def page(self, token: str, marker: str) -> Mapping[str, Any]:
        """The page of the state that the marker stands for. Raises ServiceError."""
        return self._tried(
            "GetDurableExecutionState",
            lambda: self._client.get_durable_execution_state(
                DurableExecutionArn=self._arn, CheckpointToken=token, Marker=marker, MaxItems=PAGE_ITEMS
            ),
        )

    def _tried(self, what: str, call: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except Exception as error:
                verdict = _verdict(error)
                if verdict is None and attempt < ATTEMPTS:
                    self._pause(what, error, attempt)
                    continue
                raise _refusal(what, error, attempt, verdict or Remedy.INVOKE_AGAIN) from error
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, what: str, error: Exception, attempt: int) -> None:
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0**attempt)
        seconds = max(random.uniform(0.0, longest), min(LONGEST_DELAY, _retry_after(error)))
        _log.info("%s: %s; tried again in %.2f s (attempt %d of %d)", what, error, seconds, attempt, ATTEMPTS)
        time.sleep(seconds)


def _verdict(error: Exception) -> Remedy | None:
    """What helps against the error; None where the same call may succeed if it is made again."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return None if _is_passing(error) else Remedy.FAIL
    if str(_error(response).get("Code")) in _OF_KMS:
        return Remedy.FAIL
    status = _status(response)
    if status is None or status == _THROTTLED or not 400 <= status < 500:
        return None
    return Remedy.INVOKE_AGAIN if _is_stale(error) else Remedy.FAIL


def _is_passing(error: Exception) -> bool:
    """Whether the service may not have been reached, or its answer was lost. botocore's own errors go by name."""
    return isinstance(error, OSError) or any(base.__name__ in _PASSING for base in type(error).__mro__)


def _refusal(what: str, error: Exception, attempts: int, remedy: Remedy) -> ServiceError:
    tries = "" if attempts == 1 else f" after {attempts} attempts"
    if _is_stale(error):
        advice = "another invocation has gone on with this execution, or it has ended: the service invokes again"
    elif remedy is Remedy.INVOKE_AGAIN:
        advice = "the invocation ends with this error, so that the service invokes the function again"
    else:
        advice = "it would be refused again, so the execution fails"
    return ServiceError(f"{what} failed{tries}: {type(error).__name__}: {error}; {advice}", remedy)


def _is_stale(error: Exception) -> bool:
    """Whether the checkpoint token is not the present one."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return False
    return str(_error(response).get("Message") or "").lower().startswith(_STALE_TOKEN)


def _error(response: Mapping[str, Any]) -> Mapping[str, Any]:
    found = response.get("Error")
    return found if isinstance(found, Mapping) else {}


def _metadata(response: Mapping[str, Any]) -> Mapping[str, Any]:
    found = response.get("ResponseMetadata")
    return found if isinstance(found, Mapping) else {}


def _status(response: Mapping[str, Any]) -> int | None:
    status = _metadata(response).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _retry_after(error: Exception) -> float:
    """Seconds that the service asks for."""
    response = getattr(error, "response", None)
    headers = _metadata(response).get("HTTPHeaders") if isinstance(response, Mapping) else None
    value = headers.get("retry-after") if isinstance(headers, Mapping) else None
    try:
        return max(0.0, float(value)) if value is not None else 0.0
    except ValueError:
        return 0.0


_clients: list[Any] = []  # one for all invocations of this process: to make it takes a second on a small function


def default_client() -> Any:
    """The client of this process, from the environment.

    Raises:
        ValidationError: boto3 is not installed.
    """
    if not _clients:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise ValidationError(
                "running on the Lambda service needs boto3: pip install 'durapool[aws]', "
                "or give @durable_execution(boto3_client=...)"
            ) from error
        config = Config(
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            retries={"total_max_attempts": 1},  # `ServiceClient` tries again, and knows what is worth it
            user_agent_extra="durapool",
        )
        _clients.append(boto3.client("lambda", config=config))
    return _clients[0]
