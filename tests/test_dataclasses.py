"""`values.dataclass` makes what `dataclasses.dataclass` makes, later."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest

from durapool.config import MapConfig, StepConfig
from durapool.values import dataclass, field, replace


def made(decorator: Any, field: Any, **options: Any) -> Any:
    """A class by either decorator."""

    @decorator(**options)
    class Plain:
        name: str
        parts: list[int] = field(default_factory=list, compare=False)
        secret: Any = field(default=None, repr=False)
        size: int = 1

    return Plain


def both(**options: Any) -> tuple[Any, Any]:
    """Ours, and the standard library's."""
    return made(dataclass, field, **options), made(dataclasses.dataclass, dataclasses.field, **options)


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"eq": False}, {"repr": False, "frozen": True},
                                     {"order": True, "frozen": True}, {"eq": False, "frozen": True}])  # fmt: skip
def test_a_class_behaves_as_the_standard_librarys(options: dict[str, bool], slots: bool) -> None:
    ours, theirs = both(slots=slots, **options)
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
        with pytest.raises(dataclasses.FrozenInstanceError):
            del ours("a").size
    if options.get("order"):
        assert ours("a") < ours("b") >= ours("b")
        assert ours("b") > ours("a") <= ours("a")
    with pytest.raises(TypeError):
        ours("a") < 1  # noqa: B015  # the comparison is what is tested
    assert ours.__match_args__ == theirs.__match_args__
    assert dataclasses.asdict(ours("a")) == dataclasses.asdict(theirs("a"))
    assert dataclasses.replace(ours("a"), name="b").name == replace(ours("a"), name="b").name == "b"
    for its_own, standard in zip(dataclasses.fields(ours), dataclasses.fields(theirs), strict=True):
        assert repr(its_own) == repr(standard)
    assert repr(ours.__dataclass_params__) == repr(theirs.__dataclass_params__)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("slots", [False, True])
def test_it_is_made_as_the_standard_librarys(frozen: bool, slots: bool) -> None:
    ours, theirs = both(frozen=frozen, slots=slots)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert inspect.signature(ours("a").__init__) == inspect.signature(ours)
    assert ours("a").parts is not ours("a").parts
    assert ours.size is not theirs.size if slots else ours.size == 1
    assert hasattr(ours("a"), "__dict__") is not slots
    assert ours.__qualname__ == theirs.__qualname__
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        ours()
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        ours("a", colour=1)


@dataclass(frozen=True, slots=True)
class Sealed:
    """Pickled and copied."""

    name: str
    parts: tuple[int, ...] = ()


def test_a_frozen_one_with_slots_is_pickled_and_copied() -> None:
    sealed = Sealed("a", (1,))
    for again in (pickle.loads(pickle.dumps(sealed)), copy.copy(sealed), copy.deepcopy(sealed)):
        assert again == sealed
        assert hash(again) == hash(sealed)


def test_fields_and_the_last_step_are_inherited() -> None:
    @dataclass(frozen=True)
    class Base:
        first: int = 1
        second: int = 2

        def __post_init__(self) -> None:
            if self.first > 10:
                raise ValueError(self.first)

    @dataclass(frozen=True)
    class Derived(Base):
        third: int = 3
        second: int = 4

    class Bare(Derived):
        """Adds nothing that is a field."""

    assert repr(Derived(5)).endswith("Derived(first=5, second=4, third=3)")
    assert Base() == Base(1, 2)
    assert Base(1, 4) != Derived()
    for each in (Base, Derived, Bare):
        with pytest.raises(ValueError, match="11"):
            each(11)
    bare = Bare(6)
    bare.note = "its own"  # type: ignore[attr-defined]  # as with the standard library's, what is no field may be set
    assert bare.note == "its own"  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bare.first = 7  # type: ignore[misc]


def test_whoever_uses_them_does_not_import_dataclasses() -> None:
    program = (
        "import sys; from durapool.values import dataclass, field\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class Point:\n"
        "    x: int\n"
        "    y: list = field(default_factory=list)\n"
        "assert repr(Point(1)) == 'Point(x=1, y=[])' and Point(1) == Point(1)\n"
        "print('dataclasses' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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
