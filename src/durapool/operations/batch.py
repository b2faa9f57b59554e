"""`context.parallel` and `context.map`: plan, run on an executor, record, give back.

    plan_parallel / plan_map    everything checked, nothing recorded
      -> run_batch              START, Executor.run, SUCCEED
      -> BatchResult            items load their results when they are asked for

Replay of a finished batch builds the same result from the records, without an executor.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from durapool.collector import patience
from durapool.config import MapConfig, NestingType, ParallelBranch, ParallelConfig
from durapool.errors import raise_from
from durapool.exceptions import ChildContextError, ExecutionError, SerDesError, SuspendExecution, ValidationError
from durapool.executors import ThreadExecutor, parse_executor
from durapool.executors.base import BatchPlan, Decided, ItemRecord, Succeeded, Suspended
from durapool.operations.batch_record import Outline, decode, decode_items, encode, encode_whole
from durapool.operations.checks import check_branches, check_completion, check_function, check_inputs
from durapool.operations.child import BranchRef, make_summary, run_branch_again
from durapool.operations.replay import Call, describe, size_of
from durapool.records import (
    DETAIL_BLOBS,
    DETAIL_REPLAY_CHILDREN,
    DETAIL_TOTAL,
    Action,
    BlobRef,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationType,
    Payload,
    child_id,
)
from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from durapool.serdes import load
from durapool.values import dataclass, replace

if TYPE_CHECKING:
    from durapool.blobs import Blobs
    from durapool.scope import Settings
    from durapool.serdes import SerDes

BatchConfig = ParallelConfig | MapConfig[Any]

_SUCCEEDED = BatchItemStatus.SUCCEEDED  # to look a member up in its class takes time, for each branch
_VERY_MANY = 1_000  # branches: from here on what the collector does is felt


def plan_parallel(call: Call, functions: Any, config: BatchConfig) -> BatchPlan:
    """The plan of a parallel. Raises ValidationError."""
    branches = check_branches(functions, call.what)
    names = [branch.name if isinstance(branch, ParallelBranch) else None for branch in branches]
    return _plan(
        call,
        config,
        total=len(branches),
        branch_name=lambda index: names[index] or f"parallel-branch-{index}",
        functions=[branch.func if isinstance(branch, ParallelBranch) else branch for branch in branches],
    )


def plan_map(call: Call, inputs: Any, function: Callable[..., Any], config: BatchConfig) -> BatchPlan:
    """The plan of a map. Raises ValidationError."""
    items = check_inputs(inputs, call.what)
    check_function(function, f"the function of {call.what}", 4, "ctx, item, index, inputs")
    return _plan(
        call,
        config,
        total=len(items),
        branch_name=_item_names(call, items, config),
        shared=function,
        inputs=items,
    )


def _plan(
    call: Call,
    config: BatchConfig,
    *,
    total: int,
    branch_name: Callable[[int], str],
    functions: Sequence[Callable[..., Any]] | None = None,
    shared: Callable[..., Any] | None = None,
    inputs: Sequence[Any] | None = None,
) -> BatchPlan:
    if not isinstance(config, ParallelConfig | MapConfig):
        raise ValidationError(f"the config of {call.what} must be a ParallelConfig or a MapConfig, not {config!r:.100}")
    check_completion(config.completion_config, total, call.what)
    return BatchPlan(
        operation_id=call.operation_id,
        sub_type=call.sub_type,
        name=call.name,
        total=total,
        branch_name=branch_name,
        functions=functions,
        shared=shared,
        inputs=inputs,
        completion=config.completion_config,
        max_concurrency=config.max_concurrency,
        flat=config.nesting_type is NestingType.FLAT,
        item_serdes=config.item_serdes,
        executor=parse_executor(call.scope.settings.executor if config.executor is None else config.executor),
    )


def _item_names(call: Call, items: Sequence[Any], config: BatchConfig) -> Callable[[int], str]:
    namer = getattr(config, "item_namer", None)
    if namer is None:
        return lambda index: f"map-item-{index}"
    names = [namer(item, index) for index, item in enumerate(items)]
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ValidationError(f"the item_namer of {call.what} must return text, not {name!r:.100} (item {index})")
    return names.__getitem__


def run_batch(call: Call, plan: BatchPlan, config: BatchConfig) -> BatchResult[Any]:
    """The result of the batch: recorded, or by running its branches now.

    Raises:
        SuspendExecution: nothing of it can go on before something is due.
        ChildContextError: the BatchResult itself could not be recorded. A failed branch raises nothing.
    """
    batch = _Batch(call, plan, config)
    recorded = call.recorded()
    if recorded is None:
        call.record(Action.START, details={DETAIL_TOTAL: plan.total})
        return batch.run()
    batch.check(recorded)
    match recorded.status:
        case OperationStatus.SUCCEEDED:
            return batch.rebuild(recorded)
        case status if status.is_terminal:
            return raise_from(recorded.error or ErrorObject(f"{call.what} has ended as {status}"), ChildContextError)
        case _:
            return batch.run()


class _Batch(NamedTuple):
    """One call of parallel or map."""

    call: Call
    plan: BatchPlan
    config: BatchConfig

    def check(self, recorded: Operation) -> None:
        """Compare number and names of the branches with the record. Raises NonDeterministicExecutionError."""
        total = (recorded.details or {}).get(DETAIL_TOTAL, self.plan.total)
        if total != self.plan.total:
            self.call.differs(f"a batch of {total} branches", f"one of {self.plan.total}")
        for index in range(total):
            branch = self._branch(index)
            if branch is None:
                continue
            if self.plan.flat:
                self.call.differs("nesting_type NESTED", "FLAT")
            now = (OperationType.CONTEXT, self.plan.branch_sub_type, self.plan.branch_name(index))
            then = (branch.type, branch.sub_type, branch.name)
            if not self.call.is_same(then, now):
                self.call.differs(f"a {describe(*then)} at index {index}", f"a {describe(*now)}")

    def run(self) -> BatchResult[Any]:
        """Run to the decision and record it."""
        if self.plan.total == 0:
            return self._decided(Decided(CompletionReason.ALL_COMPLETED, []))
        scope = self.call.scope
        here = isinstance(self.plan.executor, ThreadExecutor)
        with patience.hold(here=here) if self.plan.total >= _VERY_MANY else contextlib.nullcontext():
            outcome = scope.executor_for(self.plan.executor).run(self.plan, scope)
            if isinstance(outcome, Suspended):
                raise SuspendExecution(outcome.waiting_on)
            return self._decided(outcome)

    def _decided(self, decided: Decided) -> BatchResult[Any]:
        try:
            result, payload, details = self._recordable(decided)
        except ExecutionError:
            raise
        except Exception as error:  # noqa: BLE001  # serdes and summary_generator are user code
            failure = self.call.error_of(error)
        else:
            self.call.commit(Action.SUCCEED, payload=payload, details=details)
            return result
        self.call.commit(Action.FAIL, error=failure)
        return raise_from(failure, ChildContextError)

    def _recordable(self, decided: Decided) -> tuple[BatchResult[Any], Payload, dict[str, Any] | None]:
        """What user code gets, what is recorded, and the details of that."""
        items = [self._with_payload(item) for item in decided.items]
        outline = Outline.of(decided.reason, self.plan.total, items)
        result = self._result(outline, items)
        summarised = result
        limit = self.call.scope.settings.payload_limit
        if self.config.serdes is not None:
            payload, result = self.call.round_trip(result, self.config.serdes)
            is_too_large = limit is not None and size_of(payload) > limit
        else:
            payload = encode_whole(outline, items) if self._is_whole else encode(outline)
            beside = 0 if limit is None or self.call.scope.settings.service else sum(map(_size, items))
            is_too_large = limit is not None and size_of(payload) + beside > limit
        if not is_too_large:
            return result, payload, self._blobs_of(items)
        generator = self.config.summary_generator
        if generator is None:
            summary = _summary(self.plan, summarised)
        else:
            summary = make_summary(generator, summarised, self.what)
        return result, summary, {DETAIL_REPLAY_CHILDREN: True, **outline.to_dict()}

    def _blobs_of(self, items: Sequence[ItemRecord]) -> dict[str, Any] | None:
        """The details that name the blobs of a FLAT batch, which no record of its branches does."""
        names = [item.payload.name for item in items if self.plan.flat and isinstance(item.payload, BlobRef)]
        return {DETAIL_BLOBS: names} if names else None

    def rebuild(self, recorded: Operation) -> BatchResult[Any]:
        """The result of a finished batch, from the records."""
        serdes = self.config.serdes
        if serdes is not None and not recorded.replay_children:
            return self.call.load(recorded.payload, serdes)  # type: ignore[no-any-return]
        try:
            if recorded.replay_children:
                outline, kept = Outline.from_dict(recorded.details or {}), None
            else:
                outline = decode(recorded.payload)
                kept = decode_items(recorded.payload) if self._is_whole else None
        except (ValueError, KeyError, TypeError) as error:
            raise SerDesError(
                f"the record of {self.what} cannot be read: it was written with a serdes, or by another durapool"
            ) from error
        items = [self._ended(index) if kept is None else kept[index] for index in outline.ended]
        items += [ItemRecord(index, BatchItemStatus.STARTED) for index in outline.started]
        result = self._result(outline, items)
        return result if serdes is None else self.call.round_trip(result, serdes)[1]

    @property
    def what(self) -> str:
        return self.call.what

    @property
    def _is_whole(self) -> bool:
        """Whether the batch's own record holds the items: a FLAT branch has none, and a service forgets branches."""
        return self.plan.flat or self.call.scope.settings.service

    def _branch(self, index: int) -> Operation | None:
        return self.call.scope.journal.get(self.plan.branch_id(index))

    def _with_payload(self, item: ItemRecord) -> ItemRecord:
        """A result that only a summary was recorded of is rebuilt."""
        if item.payload is None and item.status is BatchItemStatus.SUCCEEDED:
            return self._again(item.index)
        return item

    def _ended(self, index: int) -> ItemRecord:
        """One ended branch of a finished batch."""
        if self.plan.flat:
            return self._again(index)
        branch = self._branch(index)
        if branch is None or not branch.status.is_terminal:
            self._is_missing(index)
        if branch.status is not OperationStatus.SUCCEEDED:
            return ItemRecord(index, BatchItemStatus.FAILED, error=branch.error)
        if branch.replay_children:
            return self._again(index)
        return ItemRecord(index, BatchItemStatus.SUCCEEDED, branch.payload)

    def _is_missing(self, index: int) -> NoReturn:
        self.call.differs(f"that branch {index} had ended", "no end of it in the journal")

    def _again(self, index: int) -> ItemRecord:
        """Call the branch's function again over its recorded operations."""
        plan, scope = self.plan, self.call.scope
        name = plan.branch_name(index)
        ref = BranchRef(plan.branch_id(index), plan.operation_id, name, plan.branch_sub_type, index, plan.flat)
        own = replace(
            scope,
            settings=replace(scope.settings, executor=plan.executor),
            label=f"branch {index} ({name})",
            branch=index if plan.flat else None,
            branch_code=None,
        )
        outcome = run_branch_again(plan.function_of(index), ref, own, plan.item_serdes)
        if isinstance(outcome, Succeeded):
            return ItemRecord(index, BatchItemStatus.SUCCEEDED, outcome.payload)
        if not plan.flat:
            self.call.differs(f"a result of branch {index}", f"{outcome.error.type}: {outcome.error.message}")
        return ItemRecord(index, BatchItemStatus.FAILED, error=outcome.error)

    def _result(self, outline: Outline, items: Sequence[ItemRecord]) -> BatchResult[Any]:
        scope = self.call.scope
        loader = _ItemLoader(self.plan.operation_id, self.what, self.plan.item_serdes, scope.settings, scope.blobs)
        return BatchResult(
            all=[_item(item, loader) for item in items],
            completion_reason=outline.reason,
            submitted_count=outline.submitted,
        )


@dataclass(frozen=True, slots=True)
class _ItemLoader:
    """Reads the results of a batch back: one for all of its items, and it holds neither inputs nor functions."""

    batch_id: str
    what: str
    serdes: SerDes[Any] | None
    settings: Settings
    blobs: Blobs | None

    def __call__(self, index: int, payload: Payload | None) -> Any:
        what = f"the result of branch {index} of {self.what}"
        serdes = self.serdes
        branch_id = "" if serdes is None else child_id(self.batch_id, index)  # it alone asks for it
        return load(payload, serdes, self.settings, branch_id, what, self.blobs)


def _item(item: ItemRecord, loader: _ItemLoader) -> BatchItem[Any]:
    if item.status is _SUCCEEDED:
        return BatchItem.recorded(item.index, item.payload, loader)
    return BatchItem(index=item.index, status=item.status, error=item.error)


def _size(item: ItemRecord) -> int:
    """Bytes of an item's result or error, for the question whether the whole batch is too large to record."""
    if item.error is not None:
        return len(item.error.message or "")
    return 0 if item.payload is None else size_of(item.payload)


def _summary(plan: BatchPlan, result: BatchResult[Any]) -> str:
    return json.dumps(
        {
            "type": f"{plan.sub_type}Result",
            "totalCount": result.total_count,
            "successCount": result.success_count,
            "failureCount": result.failure_count,
            "startedCount": result.started_count,
            "completionReason": result.completion_reason.value,
            "status": result.status.value,
        }
    )
