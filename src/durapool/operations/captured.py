"""A context that a branch captured from its surroundings, after it has travelled to a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from durapool.context import DurableContext, ExecutionContext
from durapool.logger import DurableLogger, context_logger
from durapool.operations.ownership import foreign_use, seed_of
from durapool.scope import running_scope

if TYPE_CHECKING:
    from durapool.types import LoggerInterface


class CapturedContext(DurableContext):
    """Another run's context, as it comes out of a pickle: it has a logger, and no operations."""

    def __init__(self, execution_id: str, arn: str, id_root: str | None, name: str | None, label: str) -> None:
        self._identity = (execution_id, arn, id_root, name, label)
        self._scope: Any = object()  # no run is its own
        self._base_logger = self._logger = None

    def claim(self, what: str) -> NoReturn:
        running = running_scope.get()
        raise foreign_use(what, self._identity[-1], "code outside of it" if running is None else running.label)

    def is_replaying(self) -> bool:
        return False

    def logger_to(self, logger: LoggerInterface | None) -> DurableLogger:
        execution_id, _, id_root, name, _ = self._identity
        return context_logger(logger, execution_id, id_root, name, self.is_replaying)

    @property
    def execution_context(self) -> ExecutionContext:
        return ExecutionContext(self._identity[1])

    @property
    def lambda_context(self) -> None:
        return None

    @property
    def seed(self) -> int:
        return seed_of(self._identity[0], self._identity[2])

    def __reduce__(self) -> tuple[Any, ...]:
        return CapturedContext, self._identity
