"""Dataclasses that cost nothing until they are used: whoever starts a pool waits while a new interpreter defines them.

`dataclasses` compiles six methods a class, 0.4 ms, and imports `inspect`. Here `__init__` is compiled when it is first
asked for, the other methods are functions that all classes share, and what only the standard library wants to know (in
`dataclasses.fields`, or for a dataclass derived from one of ours) is made by `dataclasses` itself when it asks. Type
checkers take them for the standard library's.
"""

from __future__ import annotations

import reprlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

__all__ = ["dataclass", "field", "replace"]


class _Missing:
    """No default. Signatures show it where a default is made anew for each instance."""

    def __repr__(self) -> str:
        return "<factory>"


_MISSING: Any = _Missing()


class _Field:
    """One field: what `dataclasses.field` says of it, and its annotation."""

    __slots__ = ("annotation", "compare", "default", "default_factory", "repr")

    def __init__(
        self, *, default: Any = _MISSING, default_factory: Any = _MISSING, repr: bool = True, compare: bool = True
    ) -> None:
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.compare = compare
        self.annotation: Any = None

    @property
    def options(self) -> dict[str, Any]:
        """As `dataclasses.field` takes them."""
        defaults = {"default": self.default, "default_factory": self.default_factory}
        given = {name: value for name, value in defaults.items() if value is not _MISSING}
        return {"repr": self.repr, "compare": self.compare, **given}


def _dataclass(
    cls: type | None = None,
    /,
    *,
    init: bool = True,
    repr: bool = True,
    eq: bool = True,
    order: bool = False,
    frozen: bool = False,
    slots: bool = False,
) -> Any:
    """As `dataclasses.dataclass`, for classes whose annotations are all fields."""
    options: dict[str, Any] = {"init": init, "repr": repr, "eq": eq, "order": order, "frozen": frozen, "slots": slots}
    if cls is None:
        return lambda cls: _dataclass(cls, **options)
    fields = _fields_of(cls)
    own = set(vars(cls))
    made = _with_slots(cls, fields) if slots else cls
    methods: dict[str, Any] = {"__replace__": replace}
    if init:
        methods["__init__"] = _LateInit(made, fields, frozen)
    if repr:
        methods["__repr__"] = _repr
    if eq:
        methods["__eq__"] = _eq
    if order:
        methods |= {"__lt__": _lt, "__le__": _le, "__gt__": _gt, "__ge__": _ge}
    if frozen:
        methods |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
        if slots:
            methods |= {"__getstate__": _getstate, "__setstate__": _setstate}
    methods["__match_args__"] = tuple(fields)
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    if eq and vars(cls).get("__hash__") is None:  # a class with an __eq__ of its own has None there
        made.__hash__ = _hash if frozen else None  # type: ignore[method-assign,assignment]  # what Python itself does
    made.__fields__ = fields  # type: ignore[attr-defined]  # where the shared methods look
    for name in ("__dataclass_fields__", "__dataclass_params__"):
        setattr(made, name, _LateStandard(made, name, fields, options))
    return made


def _fields_of(cls: type) -> dict[str, _Field]:
    """By name, those of its bases first. Defaults stay class attributes, as in `dataclasses`."""
    fields: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        fields |= vars(base).get("__fields__", {})
    for name, annotation in cls.__annotations__.items():
        default = vars(cls).get(name, _MISSING)
        found = default if isinstance(default, _Field) else _Field(default=default)
        found.annotation = annotation
        fields[name] = found
        if found is default:
            if found.default is _MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, found.default)
    return fields


def _with_slots(cls: type, fields: dict[str, _Field]) -> type:
    """The class again, with a slot for each field: they cannot be added to a class that is there."""
    body = {name: value for name, value in vars(cls).items() if name not in fields}
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    body["__slots__"] = tuple(fields)
    made: type = type(cls)(cls.__name__, cls.__bases__, body)
    made.__qualname__ = cls.__qualname__
    return made


class _LateInit:
    """Stands for the `__init__` of a class until it is first asked for; then it is compiled, and takes this place."""

    __slots__ = ("_fields", "_frozen", "_owner")

    def __init__(self, owner: type, fields: dict[str, _Field], frozen: bool) -> None:
        self._owner = owner
        self._fields = fields
        self._frozen = frozen

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        function = _compiled_init(self._owner, self._fields, self._frozen)
        self._owner.__init__ = function  # type: ignore[misc]  # a class that is being finished
        return function if instance is None else function.__get__(instance)


def _compiled_init(owner: type, fields: dict[str, _Field], frozen: bool) -> Any:
    scope: dict[str, Any] = {"_missing": _MISSING, "_set": object.__setattr__}
    parameters, lines = ["self"], []
    for name, each in fields.items():
        value = name
        if each.default_factory is not _MISSING:
            scope[f"_make_{name}"] = each.default_factory
            parameters.append(f"{name}=_missing")
            value = f"_make_{name}() if {name} is _missing else {name}"
        elif each.default is not _MISSING:
            scope[f"_default_{name}"] = each.default
            parameters.append(f"{name}=_default_{name}")
        else:
            parameters.append(name)
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(owner, "__post_init__"):
        lines.append("self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n  " + "\n  ".join(lines or ["pass"]), scope)
    function = scope["__init__"]
    function.__module__, function.__qualname__ = owner.__module__, f"{owner.__qualname__}.__init__"
    function.__annotations__ = {name: each.annotation for name, each in fields.items()} | {"return": None}
    return function


class _LateStandard:
    """Stands for what `dataclasses` keeps on its classes; it makes that for a class of its own with the same fields."""

    __slots__ = ("_fields", "_name", "_options", "_owner")

    def __init__(self, owner: type, name: str, fields: dict[str, _Field], options: dict[str, Any]) -> None:
        self._owner = owner
        self._name = name
        self._fields = fields
        self._options = options

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        import dataclasses

        rows = [(name, each.annotation, dataclasses.field(**each.options)) for name, each in self._fields.items()]
        standard = dataclasses.make_dataclass(self._owner.__name__, rows, **self._options)
        value = getattr(standard, self._name)
        setattr(self._owner, self._name, value)
        return value


def replace(instance: T, /, **changes: Any) -> T:
    """A copy with some fields changed."""
    fields: dict[str, _Field] = type(instance).__fields__  # type: ignore[attr-defined]  # of one of our classes
    return type(instance)(**{name: getattr(instance, name) for name in fields} | changes)


# what all classes share


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = (name for name, each in self.__fields__.items() if each.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name, each in self.__fields__.items() if each.compare)


def _eq(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _lt(self: Any, other: object) -> Any:
    return _compared(self) < _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _le(self: Any, other: object) -> Any:
    return _compared(self) <= _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _gt(self: Any, other: object) -> Any:
    return _compared(self) > _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _ge(self: Any, other: object) -> Any:
    return _compared(self) >= _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _refuse_set(self: Any, name: str, value: Any) -> None:
    if name in self.__fields__ or "__fields__" in vars(type(self)):
        _refuse(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)  # of a class derived from ours


def _refuse_delete(self: Any, name: str) -> None:
    if name in self.__fields__ or "__fields__" in vars(type(self)):
        _refuse(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _refuse(what: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(what)


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__fields__]


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__fields__, state, strict=True):
        object.__setattr__(self, name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass, field
else:
    dataclass, field = _dataclass, _Field
