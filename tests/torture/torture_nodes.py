"""The programs of the torture test, as plain data: what a durable handler may do, without any code of its own.

Workers import this module, so it knows nothing of hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from durapool import CompletionConfig


@dataclass(frozen=True)
class Step:
    """A step whose first `failures` attempts fail; all of them, if `gives_up`.

    An at-most-once attempt that a kill interrupts is used up, so such a step never gives up: its error would tell.
    """

    value: Any
    failures: int = 0
    gives_up: bool = False
    at_most_once: bool = False


@dataclass(frozen=True)
class Wait:
    """Time that passes."""

    seconds: int


@dataclass(frozen=True)
class Poll:
    """A wait_for_condition that is met at the `checks`-th check, or given up there."""

    checks: int
    gives_up: bool = False


@dataclass(frozen=True)
class Raise:
    """An exception of the program itself, not of an operation."""


@dataclass(frozen=True)
class Try:
    """Nodes whose first failure the program handles."""

    body: Body


@dataclass(frozen=True)
class Child:
    """A child context; a virtual one has no operation of its own."""

    body: Body
    virtual: bool


@dataclass(frozen=True)
class Retried:
    """A block under with_retry whose first `failures` attempts fail at their end."""

    body: Body
    failures: int
    wrapped: bool


class Answer(Enum):
    """What the outside world says to a callback, at once: a result, a failure, or nothing until it times out."""

    OK = "ok"
    FAILED = "failed"
    NEVER = "never"


@dataclass(frozen=True)
class Callback:
    """A callback whose result is asked for after `meanwhile`; the failures of that are handled."""

    answer: Answer
    meanwhile: Body


@dataclass(frozen=True)
class Asked:
    """A wait_for_callback."""

    answer: Answer


class Completion(Enum):
    """When a batch is complete."""

    ALL_COMPLETED = CompletionConfig.all_completed()
    ALL_SUCCESSFUL = CompletionConfig.all_successful()
    NO_CRITERION = CompletionConfig()
    FIRST_SUCCESSFUL = CompletionConfig.first_successful()
    ONE_FAILURE = CompletionConfig(tolerated_failure_count=1)
    HALF = CompletionConfig(tolerated_failure_percentage=50)


@dataclass(frozen=True)
class Batch:
    """A parallel or a map; `throws` calls throw_if_error() on its result."""

    branches: tuple[Body, ...]
    is_map: bool
    max_concurrency: int | None
    completion: Completion
    flat: bool
    throws: bool

    @property
    def depends_on_timing(self) -> bool:
        """Whether the order in which concurrent branches end could change the result."""
        if self.max_concurrency == 1 or self.completion is Completion.ALL_COMPLETED:
            return False
        return self.completion is Completion.FIRST_SUCCESSFUL or any(map(may_fail, self.branches))


Node = Step | Wait | Poll | Raise | Try | Child | Retried | Callback | Asked | Batch
Body = tuple[Node, ...]


def may_fail(body: Body) -> bool:
    """Whether these nodes may end in an exception: they do, unless a batch is complete before it comes to that."""
    return any(map(_node_may_fail, body))


def _node_may_fail(node: Node) -> bool:
    match node:
        case Step(gives_up=gives_up) | Poll(gives_up=gives_up):
            return gives_up
        case Raise():
            return True
        case Child(body=body) | Retried(body=body):
            return may_fail(body)
        case Callback(answer=answer) | Asked(answer=answer):
            return answer is not Answer.OK
        case Batch(throws=throws, branches=branches):
            return throws and any(map(may_fail, branches))
        case _:
            return False
