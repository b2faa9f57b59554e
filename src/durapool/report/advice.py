"""What the figures of an execution mean, in a sentence or two for whoever wrote the job. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from durapool.report.figures import BatchFigures

_TAIL = 0.15  # of the batch's time
_TAIL_SECONDS = 0.5
_BRIEF = 0.002  # seconds of a median branch
_MANY = 100  # branches from which their brevity matters
_WAITING = 0.6  # of the branches' time on a CPU
_SATURATED = 0.8  # of the CPUs: more workers than CPUs have to wait for each other
_GIL = 1.15  # CPUs that threads of one interpreter use together at most


def advice(batch: BatchFigures, cpus: int, name: str, longest: str) -> Iterator[str]:
    """Sentences on one batch.

    Args:
        batch: its figures.
        cpus: that the execution could use.
        name: what it is called.
        longest: the name of its longest branch.
    """
    if batch.longest_entry < 0 or batch.seconds <= 0:
        return
    used = 0.0 if batch.cpu is None else batch.cpu / batch.seconds
    saturated = used > _SATURATED * cpus
    bound_by_gil = batch.on_threads and batch.lanes > 1 and 0.8 <= used <= _GIL
    if bound_by_gil:
        yield (
            f"{name} ran on {batch.lanes} threads, which shared one interpreter and used {used:.1f} CPUs together. "
            'On worker processes (executor="process") each gets a CPU of its own.'
        )
    elif not saturated and batch.busy_cpu is not None and batch.busy_cpu < _WAITING and batch.median > _BRIEF:
        yield (
            f"Branches of {name} used a CPU for {batch.busy_cpu:.0%} of their time; for the rest they waited: for "
            "files, the network, nested batches, or a CPU that others had."
        )
    if batch.tail > _TAIL_SECONDS and batch.tail > _TAIL * batch.seconds:
        share = batch.longest / batch.median if batch.median else 0.0
        yield (
            f"For the last {batch.tail:.1f} s of {name} fewer than half of its workers had something to do. Its "
            f"longest branch, {longest}, took {batch.longest:.1f} s, {share:.1f} times the median: start it first, or "
            "split it."
        )
    if batch.total >= _MANY and batch.median < _BRIEF:
        yield (
            f"Half of the branches of {name} took less than {max(batch.median, 1e-4) * 1000:.1f} ms. Give each more to "
            "do: several items a branch cost less than a branch an item."
        )
