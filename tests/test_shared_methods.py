"""`values.dataclass` makes what `dataclasses.dataclass` makes, with shared methods."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import field
from typing import Any

import pytest

from durapool.config import MapConfig, StepConfig
from durapool.values import dataclass


class Plain:
    """Made into a class by either decorator."""

    name: str
    parts: list[int] = field(default_factory=list, compare=False)
    secret: Any = field(default=None, repr=False)


def made(decorator: Any, **options: Any) -> Any:
    """A class of the same name and fields."""
    body = {name: value for name, value in vars(Plain).items() if name not in ("__dict__", "__weakref__")}
    return decorator(**options)(type("Plain", (), body))


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"eq": False}, {"repr": False, "frozen": True},
                                     {"order": True, "frozen": True}, {"eq": False, "frozen": True}])  # fmt: skip
def test_a_class_behaves_as_the_standard_librarys(options: dict[str, bool], slots: bool) -> None:
    ours, theirs = (made(each, slots=slots, **options) for each in (dataclass, dataclasses.dataclass))
    for first, second in [(("a", [1], 2), ("a", [3], 2)), (("a", [1], 2), ("a", [1], 3)), (("a",), ("b",))]:
        assert (ours(*first) == ours(*second)) is (theirs(*first) == theirs(*second))
    assert ours("a") != theirs("a")
    assert (ours.__repr__ is object.__repr__) is (theirs.__repr__ is object.__repr__)
    if options.get("repr", True):
        assert repr(ours("a", [1], 2)) == repr(theirs("a", [1], 2))
    assert (ours.__hash__ is None) is (theirs.__hash__ is None)
    assert (ours.__hash__ is object.__hash__) is (theirs.__hash__ is object.__hash__)
    if options.get("frozen") and options.get("eq", True):
        assert hash(ours("a", [1], 2)) == hash(theirs("a", [3], 2))
    if options.get("frozen"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            ours("a").name = "b"
    if options.get("order"):
        assert ours("a") < ours("b")
    assert ours.__match_args__ == theirs.__match_args__
    assert dataclasses.asdict(ours("a")) == dataclasses.asdict(theirs("a"))
    assert dataclasses.replace(ours("a"), name="b").name == "b"


def test_methods_of_a_class_s_own_are_kept() -> None:
    @dataclass(frozen=True)
    class Loud:
        text: str

        def __repr__(self) -> str:
            return self.text.upper()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loud) and self.text.lower() == other.text.lower()

    assert repr(Loud("a")) == "A"
    assert Loud("a") == Loud("A")
    assert hash(Loud("a")) == hash(("a",))


def test_a_value_that_holds_itself_has_a_repr() -> None:
    @dataclass
    class Node:
        next: Any = None

    node = Node()
    node.next = node
    assert repr(node).endswith("Node(next=...)")


def test_users_may_derive_from_a_config() -> None:
    @dataclasses.dataclass(frozen=True)
    class Named(StepConfig):
        label: str = "mine"

    assert Named() == Named()
    assert Named() != StepConfig()
    assert "label='mine'" in repr(Named())
    assert pickle.loads(pickle.dumps(MapConfig(max_concurrency=3))) == MapConfig(max_concurrency=3)
