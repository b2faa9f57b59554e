"""What the endpoint and its environments tell each other."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class LambdaContext:
    """The second argument of a Lambda handler, with the names that Lambda's has."""

    aws_request_id: str
    function_name: str
    invoked_function_arn: str
    deadline: float  # seconds since the epoch
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "3008"
    log_group_name: str = "/aws/lambda/local"
    log_stream_name: str = "local"
    tenant_id: str | None = None
    client_context: None = None
    identity: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Until this environment is killed."""
        return max(0, int((self.deadline - time.time()) * 1000))


@dataclass(frozen=True)
class Ready:
    """An environment has imported its handler: the time of an invocation begins after that."""


@dataclass(frozen=True)
class Invocation:
    """One call of a handler, named "module:attribute"; the event is JSON."""

    handler: str
    event: bytes
    context: LambdaContext


@dataclass(frozen=True)
class Returned:
    """The handler's result, as JSON."""

    payload: bytes


@dataclass(frozen=True)
class Raised:
    """A function error: what Lambda answers with the header X-Amz-Function-Error."""

    payload: bytes


@dataclass(frozen=True)
class Ended:
    """The environment has ended without an answer, or was killed at the deadline."""


Answer = Returned | Raised
Outcome = Answer | Ended
