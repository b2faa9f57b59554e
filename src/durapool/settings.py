"""What a run is made of: its id, and the choices that a call, a decorator and the environment leave open."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durapool.configuration import CHECKPOINT, EXECUTOR, configured
from durapool.exceptions import ValidationError
from durapool.executors import ExecutorSpec, parse_executor
from durapool.invokable import registered_functions
from durapool.scope import Settings

if TYPE_CHECKING:
    from durapool.config import RetryStrategy
    from durapool.decorator import DurableHandler
    from durapool.stores.base import Store

MODES = ("sync", "async")
LONGEST_ID = 200  # characters


@dataclass(frozen=True, slots=True)
class Choices:
    """How a run is carried out, each choice looked up in its order and checked."""

    executor: ExecutorSpec
    checkpoint: str
    default_retry: RetryStrategy | None

    @classmethod
    def of(
        cls,
        handler: DurableHandler | None,
        executor: ExecutorSpec | None = None,
        checkpoint: str | None = None,
        default_retry: RetryStrategy | None = None,
    ) -> Choices:
        """The executor of the decorator, the run, the configuration; the retry strategy of the run, the decorator.

        Raises:
            ValidationError: an executor or a mode that does not exist, or a wrong pyproject.toml.
        """
        chosen = None if handler is None else handler.executor
        if chosen is None:
            chosen = executor if executor is not None else _configured_executor()
        parse_executor(chosen)
        mode = checkpoint or _configured_mode()
        if mode not in MODES:
            raise ValidationError(f"checkpoint must be one of {', '.join(MODES)}, not {mode!r}")
        if default_retry is None and handler is not None:
            default_retry = handler.default_retry
        return cls(chosen, mode, default_retry)

    def settings(self, execution_id: str, store: Store) -> Settings:
        """The settings of one execution in one store."""
        from durapool.stores.base import has_blobs, is_volatile  # stores are imported by the first run

        return Settings(
            execution_id=execution_id,
            arn=arn_of(execution_id),
            executor=self.executor,
            default_retry=self.default_retry,
            payload_limit=store.payload_limit,
            local_store=store.local,
            checkpoint=self.checkpoint,
            blobs=has_blobs(store),
            volatile=is_volatile(store),
            functions=registered_functions(),
        )


def _configured_executor() -> str:
    found = configured(EXECUTOR)
    try:
        parse_executor(found.value)
    except ValidationError as error:
        raise ValidationError(f"{error} ({found.source})") from error
    return found.value


def _configured_mode() -> str:
    found = configured(CHECKPOINT)
    if found.value not in MODES:
        raise ValidationError(f"checkpoint must be one of {', '.join(MODES)}, not {found.value!r} ({found.source})")
    return found.value


def new_execution_id() -> str:
    """A short id that no execution has."""
    return os.urandom(5).hex()


def checked_id(execution_id: object) -> str:
    """The id, if it is one.

    Raises:
        ValidationError: empty, too long, or with control characters.
    """
    if not isinstance(execution_id, str) or not 1 <= len(execution_id) <= LONGEST_ID:
        raise ValidationError(f"an execution id is text of 1 to {LONGEST_ID} characters, not {execution_id!r:.100}")
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in execution_id):
        raise ValidationError(f"an execution id has no control characters: {execution_id!r}")
    return execution_id


def arn_of(execution_id: str) -> str:
    """The arn-like name of a local execution."""
    from urllib.parse import quote  # only here: a worker is told its arn

    return f"arn:durapool:local:execution:{quote(execution_id, safe='')}"
