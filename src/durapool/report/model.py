"""A report as plain data: everything that the page and the trace show of an execution, worked out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from durapool.records import ErrorObject, OperationStatus, OperationType, Record
from durapool.report.advice import advice
from durapool.report.figures import BatchFigures, Curves, batches, branch_uses, counted, curves, handler_uses
from durapool.report.folding import Fold
from durapool.report.placing import BarState, LaneKind, Placed, place
from durapool.report.reading import Entry, Invocation, Log, read


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failures of one kind: the same type, raised at the same place. The message and traceback are the first one's."""

    type: str
    message: str
    trace: tuple[str, ...]
    entries: list[int]  # operations that failed so for good
    retried: list[int]  # operations of which an attempt failed so, and was tried again


@dataclass(frozen=True, slots=True)
class InvocationFigures:
    """An invocation and what became of earlier work in it. Steps and branches count; `spared` in seconds."""

    invocation: Invocation
    taken: int  # from the record
    ended: int
    spared: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The execution in numbers. Times in seconds, memory in bytes; None where nothing was measured."""

    active: float  # without pauses between invocations
    cpus: int
    cpus_recorded: bool  # else they are those of the machine that the report was made on
    cpu: float | None
    used: float | None  # part of cpus x active
    lanes: int  # workers and threads at once, at most
    peak_memory: int | None
    branches: dict[str, int]  # by status; FLAT ones included
    steps: int
    retries: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is shown of one execution."""

    id: str
    handler: str
    made_at: float  # epoch seconds
    log: Log
    placed: Placed
    fold: Fold
    curves: Curves
    batches: list[BatchFigures]
    advice: list[str]
    errors: list[ErrorGroup]
    invocations: list[InvocationFigures]
    totals: Totals

    @property
    def ended(self) -> bool:
        """Whether the execution has ended; else the report shows what there is so far."""
        return self.log.execution.status.is_terminal


def build(execution_id: str, handler: str, records: Iterable[Record], *, made_at: float, cpus: int) -> Report:
    """Work out the report of an execution.

    Args:
        execution_id: its id.
        handler: what `durapool ls` calls its handler.
        records: its log, as a store reads it; it begins with the START of the EXECUTION.
        made_at: the time now, in epoch seconds.
        cpus: the CPUs of this machine, for executions that have recorded none.

    Raises:
        ValueError: there are no records.
    """
    log = read(records)
    placed = place(log)
    fold = Fold(log.began, [(each.began, each.ended) for each in log.invocations], log.last_at)
    drawn = curves(log, placed, fold)
    figures = list(batches(log, placed, fold))
    totals = _totals(log, placed, fold, drawn, cpus)
    names = [label(entry) for entry in log.entries]
    return Report(
        id=execution_id,
        handler=handler,
        made_at=made_at,
        log=log,
        placed=placed,
        fold=fold,
        curves=drawn,
        batches=figures,
        advice=[
            text
            for batch in figures
            for text in advice(batch, totals.cpus, names[batch.entry], names[batch.longest_entry])
        ],
        errors=_errors(log),
        invocations=[InvocationFigures(each, *counted(log, each.began, each.ended)) for each in log.invocations],
        totals=totals,
    )


def label(entry: Entry) -> str:
    """What people call an operation: its name, else its kind."""
    operation = entry.operation
    return operation.name or str(operation.sub_type or operation.type)


def _totals(log: Log, placed: Placed, fold: Fold, drawn: Curves, cpus: int) -> Totals:
    uses = [*branch_uses(log, placed), *handler_uses(log)]
    cpu = sum(use.cpu for use in uses) if uses else None
    recorded = [each.cpus for each in log.invocations if each.cpus]
    count = max(recorded, default=cpus)
    active = fold.total - sum(pause.width for pause in fold.pauses)
    branches = Counter(
        bar.state.value
        for bar in placed.bars
        if bar.state is not BarState.EARLIER and placed.lanes[bar.lane].kind is not LaneKind.HANDLER
    )
    return Totals(
        active=active,
        cpus=count,
        cpus_recorded=bool(recorded),
        cpu=cpu,
        used=None if cpu is None or active <= 0 else min(1.0, cpu / (count * active)),
        lanes=sum(lane.kind in (LaneKind.WORKER, LaneKind.THREAD) for lane in placed.lanes),
        peak_memory=max(drawn.memory) or None,
        branches=dict(branches),
        steps=sum(entry.operation.type is OperationType.STEP for entry in log.entries),
        retries=sum(max(0, entry.operation.attempt - 1) for entry in log.entries),
    )


def _errors(log: Log) -> list[ErrorGroup]:
    """All failures, the most frequent first. One that only passes on the failure of an operation below is left out."""
    groups: dict[tuple[str, tuple[str, ...] | str], ErrorGroup] = {}
    for entry in log.entries:
        error = entry.operation.error
        if error is not None and entry.operation.status is not OperationStatus.PENDING and not _passed_on(log, entry):
            _group(groups, error).entries.append(entry.index)
        for attempt in entry.attempts:
            if attempt.error is not None and (entry.operation.ended_at is None or attempt is not entry.attempts[-1]):
                group = _group(groups, attempt.error)
                if entry.index not in group.retried[-1:]:
                    group.retried.append(entry.index)
    return sorted(groups.values(), key=lambda group: -len(group.entries))


def _passed_on(log: Log, entry: Entry) -> bool:
    return any(log.entries[child].operation.error == entry.operation.error for child in entry.children)


def _group(groups: dict[tuple[str, tuple[str, ...] | str], ErrorGroup], error: ErrorObject) -> ErrorGroup:
    kind, message, trace = error.type or "error", error.message or "", error.stack_trace or ()
    return groups.setdefault((kind, trace or message), ErrorGroup(kind, message, trace, [], []))
