"""What is sent of a batch: its settings once per worker, and for each branch its function or item.

`LocalCargo` pickles a plan of this process, branch by branch when each is due. `ShippedCargo` passes on the bytes of
a nested plan that a worker made; they are never loaded here.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from durapool.exceptions import SerDesError
from durapool.executors import PooledExecutor
from durapool.executors.base import BatchPlan
from durapool.functions import plain_parts
from durapool.pickling import APART, PROTOCOL, FunctionPickler, Pickled, dump_function, dump_function_apart
from durapool.pool.transfer import Crates, Part
from durapool.pool.wire import WireError
from durapool.records import OperationSubType
from durapool.scope import Scope
from durapool.values import replace

_SIMPLE = frozenset({int, str, float, bool, bytes, type(None)})


@dataclass(frozen=True, slots=True)
class Limits:
    """What the executor of one batch asks of its branches. Seconds and bytes."""

    timeout: float | None = None
    memory_limit: int | None = None
    cancel_running: bool = True
    retry_lost: int = 0

    @classmethod
    def of(cls, executor: PooledExecutor) -> Limits:
        """Those of an executor."""
        memory = executor.memory_limit
        assert not isinstance(memory, str), "the executor has parsed it"
        return cls(executor.timeout, memory, executor.cancel_running, executor.retry_lost)


class Cargo(Protocol):
    """The pickled parts of a batch."""

    @property
    def settings(self) -> bytes:
        """(Settings, item_serdes)."""
        ...

    @property
    def shared(self) -> Part | None:
        """The function of a map."""
        ...

    def function(self, index: int) -> Part | None:
        """The function of one branch of a parallel."""
        ...

    def item(self, index: int) -> Part | None:
        """The item of one branch of a map."""
        ...

    def items(self) -> Sequence[Part | str]:
        """All items of a map; text says why one cannot be sent."""
        ...


class LocalCargo:
    """Of a plan made in this process. All but `function` and `item` is pickled at once.

    Raises:
        SerDesError: something cannot be pickled; the message names it.
    """

    def __init__(self, plan: BatchPlan, scope: Scope, pickler: type[FunctionPickler] = FunctionPickler) -> None:
        self._plan = plan
        self._pickler = pickler
        self._crates = Crates()
        settings = replace(scope.settings, executor=plan.executor)
        what = f"the configuration of {plan.name or plan.sub_type}"
        self.settings = dump_function((settings, plan.item_serdes), what, pickler)
        what = f"the function of {_named(plan)}"
        self.shared = None if plan.shared is None else self._packed(self._crates.pack_for_all, plan.shared, what)
        self._items: list[Part | str] | None = None

    def function(self, index: int) -> Part | None:
        """See `Cargo.function`."""
        plan = self._plan
        if plan.functions is None:
            return None
        function = plan.functions[index]
        plain = plain_parts(function)
        if plain is not None:
            return plain
        return self._packed(self._crates.pack, function, f"branch {index} ({plan.branch_name(index)})")

    def item(self, index: int) -> Part | None:
        """See `Cargo.item`."""
        return None if self._plan.inputs is None else self._item(index, self._crates.pack)

    def items(self) -> list[Part | str]:
        """See `Cargo.items`."""
        if self._items is None:
            # any branch may load them, at any time
            pack = self._crates.pack_for_all
            self._items = [_part_or_why(partial(self._item, index, pack)) for index in range(self._plan.total)]
        return self._items

    def _item(self, index: int, pack: Callable[[Pickled], Part]) -> Part:
        inputs = self._plan.inputs
        assert inputs is not None
        try:
            item = inputs[index]
        except Exception as error:  # the user's own sequence may raise anything
            raise SerDesError(f"the inputs of {_named(self._plan)} have no item {index}: {error!r}") from error
        if type(item) in _SIMPLE and sys.getsizeof(item) < APART:
            return pickle.dumps(item, PROTOCOL)
        return self._packed(pack, item, f"item {index} of {_named(self._plan)}")

    def _packed(self, pack: Callable[[Pickled], Part], part: Any, what: str) -> Part:
        """Pickled, with what is large in crates; whole where no segment can be had for them."""
        pickled = dump_function_apart(part, what, self._pickler)
        try:
            return pack(pickled)
        except OSError:
            return dump_function(part, what, self._pickler)


def _named(plan: BatchPlan) -> str:
    return plan.name or "the map"


@dataclass(frozen=True, slots=True)
class ShippedCargo:
    """Of a nested plan, as its worker pickled it."""

    settings: bytes
    shared: bytes | None
    functions: Sequence[bytes | str] | None  # text says why a part could not be pickled
    parts: Sequence[bytes | str] | None  # the items of a map

    def function(self, index: int) -> bytes | None:
        """See `Cargo.function`."""
        return None if self.functions is None else _part(self.functions[index])

    def item(self, index: int) -> bytes | None:
        """See `Cargo.item`."""
        return None if self.parts is None else _part(self.parts[index])

    def items(self) -> Sequence[Part | str]:
        """See `Cargo.items`."""
        return self.parts or ()


def _part_or_why(pickled: Callable[[], Part]) -> Part | str:
    """A part of a batch, or the text of the error for which it cannot be sent: it concerns that branch alone."""
    try:
        return pickled()
    except SerDesError as error:
        return str(error)


def _part(part: bytes | str) -> bytes:
    if isinstance(part, str):
        raise SerDesError(part)
    return part


def unpack_plan(body: Any, executor: PooledExecutor) -> tuple[BatchPlan, ShippedCargo, Limits]:
    """The inverse of `worker.nested.describe`. The plan's functions and inputs stay empty: they are in the cargo.

    Raises:
        WireError: a field is missing or of another type.
    """
    from durapool.config import CompletionConfig

    try:
        names: list[str] = body["names"]
        plan = BatchPlan(
            operation_id=body["operation_id"],
            sub_type=OperationSubType(body["sub_type"]),
            name=body["name"],
            total=body["total"],
            branch_name=names.__getitem__,
            functions=None,
            shared=None,
            inputs=None,
            completion=CompletionConfig(*body["completion"]),
            max_concurrency=body["max_concurrency"],
            flat=body["flat"],
            item_serdes=None,
            executor=executor,
        )
        cargo = ShippedCargo(body["settings"], body["shared"], body["functions"], body["items"])
        parts = names, cargo.parts if cargo.functions is None else cargo.functions
        if any(part is None or len(part) != plan.total for part in parts):
            raise ValueError(f"it does not have {plan.total} names and branches")
        return plan, cargo, Limits(*body["limits"])
    except (KeyError, TypeError, ValueError) as problem:
        raise WireError(f"a nested batch that is not well-formed: {problem!r}") from problem
