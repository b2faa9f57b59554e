"""One run of one branch in a worker: what the RUN message says, turned into a call of `run_branch`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any, NamedTuple, overload

from durapool.exceptions import SerDesError, StoreFailure
from durapool.executors.base import BranchOutcome, Crashed, Failed
from durapool.functions import is_plain_parts, plain_function
from durapool.operations.child import BranchRef, run_branch
from durapool.operations.tail_call import code_of
from durapool.pausing import PauseAfter
from durapool.pool.wire import Kind, unpack_operation
from durapool.records import Operation, OperationSubType
from durapool.scope import Scope
from durapool.unpickling import load_function
from durapool.worker.channel import Channel
from durapool.worker.journal import StreamedJournal
from durapool.worker.nested import NestedExecutors
from durapool.worker.transfer import WorkerBlobs


class WorkerBatch:
    """What the branches of a batch have in common. The function of a map is kept as bytes: each branch loads its own,
    so that nothing leaks from branch to branch."""

    def __init__(self, key: int, settings: bytes, shared: bytes | list[Any] | None) -> None:
        self.key = key
        self.shared = shared
        self.problem: BaseException | None = None
        try:
            self.settings, self.item_serdes = load_function(settings)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # importing the user's modules may raise anything
            self.problem = error


class Run(NamedTuple):
    """One run of one branch."""

    number: int
    batch: WorkerBatch
    ref: BranchRef
    function: bytes | list[Any] | None  # of a branch of a parallel
    item: bytes | list[Any] | None  # of a branch of a map
    total: int
    recorded: list[list[Any]]
    mode: str
    brisk: bool
    pause_after: PauseAfter
    may_import: bool  # loading its function may import modules of the user's: it is no plain one

    def journal(self, channel: Channel) -> StreamedJournal:
        """A fresh journal over what was recorded below the branch."""
        recorded: dict[str, Operation] = {}
        if self.recorded:
            now = time.time()
            recorded = {row[0]: unpack_operation(row, now) for row in self.recorded}
        return StreamedJournal(channel, self.number, self.ref.operation_id, recorded, self.mode, self.brisk)

    def execute(self, channel: Channel, journal: StreamedJournal, after_loading: Callable[[], None]) -> BranchOutcome:
        """Load the function, tell `after_loading` so if that may have imported modules, and run it."""
        batch, ref = self.batch, self.ref
        label = f"branch {ref.index} ({ref.name})"
        try:
            if batch.problem is not None:
                raise batch.problem
            function, arguments = self._function(channel, journal)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # importing the user's modules may raise anything
            from durapool.errors import error_of

            problem = SerDesError(f"{label} cannot be loaded in a worker: {type(error).__name__}: {error}")
            problem.__cause__ = error
            return Failed(error_of(problem, local=True))
        if self.may_import:
            after_loading()
        blobs = WorkerBlobs(channel, journal) if batch.settings.blobs else None
        scope = Scope(
            settings=batch.settings,
            journal=journal,
            executor_for=lambda spec: NestedExecutors(channel, journal).executor_for(spec),  # few branches ask
            label=label,
            branch=ref.index if ref.flat else None,
            blobs=blobs,
            branch_code=self._code_unless_awaited(function),
        )
        try:
            return run_branch(function, ref, scope, batch.item_serdes, arguments)
        except StoreFailure as failure:
            return Crashed(failure)
        finally:
            if blobs is not None:
                blobs.close()

    def _code_unless_awaited(self, function: Callable[..., Any]) -> CodeType | None:
        """The code for `Scope.branch_code`; None where each step must be waited for.

        Those of a short branch in a store that ends with the program need not be, nor those in mode async. In another
        store a kill of the program would undo all short steps that are on their way, instead of one a worker.
        """
        if not self.brisk or not (self.mode == "async" or self.batch.settings.volatile):
            return None
        is_last = self.batch.item_serdes is None  # else that runs after the step, and may be the user's
        return code_of(function) if is_last else None

    def _function(self, channel: Channel, journal: StreamedJournal) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The function, and its arguments behind the context."""
        load = channel.arrivals.load
        if self.function is not None:
            return load(self.function) if self.may_import else plain_function(*self.function), ()
        shared = load(self.batch.shared or b"")
        item = load(self.item or b"")
        inputs = RemoteInputs(channel, journal, self.batch.key, self.total)
        return shared, (item, self.ref.index, inputs)


_new = tuple.__new__  # of a NamedTuple it takes half the time of a call, which goes through a function
_SUB_TYPES = {str(each): each for each in (OperationSubType.PARALLEL_BRANCH, OperationSubType.MAP_ITERATION)}
_PAUSES = {str(each): each for each in PauseAfter}


def run_message(body: list[Any], batches: dict[int, WorkerBatch]) -> Run:
    """The inverse of what `pool.cargo` packs."""
    number, key, ref, function, item, total, recorded, mode, brisk, pause_after = body
    operation_id, batch_id, name, sub_type, index, flat = ref
    fields = (
        number,
        batches[key],
        _new(BranchRef, (operation_id, batch_id, name, _SUB_TYPES[sub_type], index, flat)),
        function,
        item,
        total,
        recorded,
        mode,
        brisk,
        _PAUSES[pause_after],
        not is_plain_parts(function),
    )
    return _new(Run, fields)


class RemoteInputs(Sequence[Any]):
    """The `inputs` of a map in a worker: read-only; the items are fetched at the first access."""

    def __init__(self, channel: Channel, journal: StreamedJournal, batch: int, total: int) -> None:
        self._channel = channel
        self._journal = journal
        self._batch = batch
        self._total = total
        self._loaded: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._total))]
        if not -self._total <= index < self._total:
            raise IndexError(f"the map has {self._total} inputs")
        position = index % self._total
        if position not in self._loaded:
            item = self._fetch()[position]
            if isinstance(item, str):
                raise SerDesError(item)
            self._loaded[position] = self._channel.arrivals.load(item)
        return self._loaded[position]

    def _fetch(self) -> list[bytes | list[Any] | str]:
        inputs, batch = self._channel.inputs, self._batch
        if batch not in inputs:
            self._journal.ask(Kind.FETCH_INPUTS, batch)
            self._channel.wait(lambda: batch in inputs)
        return inputs[batch]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self._total))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
