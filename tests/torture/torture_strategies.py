"""Random programs and random kills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from hypothesis import strategies as st
from torture_interpreter import MOST_KILLS
from torture_nodes import (
    Answer,
    Asked,
    Batch,
    Body,
    Callback,
    Child,
    Completion,
    Node,
    Poll,
    Raise,
    Retried,
    Step,
    Try,
    Wait,
    may_fail,
)
from torture_runs import Kill, Setting

DEPTH = 3
_values = st.sampled_from([None, 0, -1.5, True, "text", b"\x00\xff", (1, 2), ["a", None], {"key": (3,)}, "long" * 20])


def _step(value: object, failures: int, kind: str) -> Step:
    if kind == "gives up":
        return Step(value, max(1, failures), gives_up=True)
    return Step(value, failures, at_most_once=kind == "at most once")


_steps = st.builds(
    _step, _values, st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from(["plain", "plain", "gives up", "at most once"])
)
_leaves: st.SearchStrategy[Node] = st.one_of(
    _steps,
    _steps,
    st.builds(Wait, st.integers(1, 100_000)),
    st.builds(Poll, st.integers(1, 3), st.booleans()),
    st.builds(Raise),
    st.builds(Asked, st.sampled_from(Answer)),
)


@cache
def _bodies(depth: int, most: int = 3) -> st.SearchStrategy[Body]:
    """Some nodes one after the other; the ones that contain nodes are nested at most `depth` deep.

    Most failures are handled, so that the nodes behind them have their turn.
    """
    node = st.builds(_handled, _nodes(depth), st.sampled_from([True, True, True, False]))
    return st.lists(node, min_size=1, max_size=most).map(tuple)


def _handled(node: Node, handled: bool) -> Node:
    return Try((node,)) if handled and may_fail((node,)) else node


@cache
def _nodes(depth: int) -> st.SearchStrategy[Node]:
    if depth == 0:
        return _leaves
    inner = _bodies(depth - 1)
    return st.one_of(
        _leaves,
        _batches(inner),
        st.one_of(
            st.builds(Try, inner),
            st.builds(Child, inner, st.booleans()),
            st.builds(Retried, inner, st.integers(0, 2), st.booleans()),
            st.builds(Callback, st.sampled_from(Answer), inner),
        ),
    )


def _batches(inner: st.SearchStrategy[Body]) -> st.SearchStrategy[Batch]:
    return st.builds(
        _batch,
        st.one_of(st.lists(inner, min_size=2, max_size=4), st.lists(inner, max_size=1)).map(tuple),
        st.booleans(),
        st.sampled_from([1, 2, None]),
        st.sampled_from(Completion),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )


def _batch(
    branches: tuple[Body, ...],
    is_map: bool,
    max_concurrency: int | None,
    completion: Completion,
    flat: bool,
    throws: bool,
    one_by_one: bool,
) -> Batch:
    """A batch whose result is the same whichever of its branches is the faster."""
    if not branches and completion is Completion.FIRST_SUCCESSFUL:
        completion = Completion.ALL_COMPLETED  # it could never be met
    batch = Batch(branches, is_map, max_concurrency, completion, flat, throws)
    if not batch.depends_on_timing:
        return batch
    return replace(batch, max_concurrency=1) if one_by_one else replace(batch, completion=Completion.ALL_COMPLETED)


def programs(depth: int = DEPTH) -> st.SearchStrategy[Body]:
    """Whole handlers: a batch, and nodes before and after it."""
    batch = _batches(_bodies(depth - 1)).map(lambda node: (_handled(node, True),))
    around = st.one_of(st.just(()), _bodies(depth - 1, most=2))
    return st.tuples(around, batch, around).map(lambda parts: sum(parts, ()))


kills = st.lists(
    st.builds(Kill, st.integers(1, 16), st.sampled_from([0.0, 0.5, 0.8, 1.0])), min_size=2, max_size=MOST_KILLS
)
settings_of_runs: Callable[..., st.SearchStrategy[Setting]] = lambda executor: st.builds(  # noqa: E731
    Setting,
    st.just(executor),
    st.sampled_from(["sync", "sync", "async"]),
    st.sampled_from([None, 250]),
    st.booleans(),
)
