"""Data classes that are cheap to define.

The standard library writes and compiles the text of six functions for each frozen class. For the daemon's hundreds of
classes, this took a third of the start-up time, although most of them have no instance before the first request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen=False, slots=False, eq=True, kw_only=False):
        """Return a decorator that does what `dataclasses.dataclass` does with the same arguments.

        ``__init__`` is compiled for the first instance. The other methods are closures, which need no compilation.
        """

        def define(cls):
            if frozen and any(_is_frozen_by_standard(base) for base in cls.__mro__[1:]):
                # For classes of the SDK: the standard library allows only its own frozen classes to extend
                # them.
                return dataclasses.dataclass(frozen=True, slots=slots, eq=eq, kw_only=kw_only)(cls)
            # Without these methods, the standard library only collects the fields and adds the slots, and
            # compiles nothing.
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            for name, method in _methods(cls, frozen=frozen, slots=slots, eq=eq).items():
                if cls.__dict__.get(name) is None:  # a class that defines __eq__ has None as its __hash__
                    setattr(cls, name, method)
            return cls

        return define


Methods = dict[str, Callable[..., Any] | None]


def _is_frozen_by_standard(cls: type[Any]) -> bool:
    params = cls.__dict__.get("__dataclass_params__")
    return params is not None and params.frozen


def _methods(cls: type[Any], *, frozen: bool, slots: bool, eq: bool) -> Methods:
    """Return the methods of a data class, keyed by name."""
    fields = dataclasses.fields(cls)
    methods: Methods = {
        "__init__": _first_init(cls, frozen=frozen, slots=slots),
        "__repr__": _representation([field.name for field in fields if field.repr]),
    }
    if eq:
        methods["__eq__"] = _equality(_values(field.name for field in fields if field.compare))
        methods["__hash__"] = None
    if eq and frozen:
        compared_fields = (field for field in fields if (field.compare if field.hash is None else field.hash))
        methods["__hash__"] = _hash(_values(field.name for field in compared_fields))
    if frozen:
        methods |= _refusals(cls, frozenset(field.name for field in fields))
    if frozen and slots:
        methods |= _state(tuple(field.name for field in fields))
    return methods


def _first_init(cls: type[Any], *, frozen: bool, slots: bool) -> Callable[..., None]:
    """Return an initial ``__init__``: when called, it has the standard library compile the real ``__init__``, replaces
    itself with it, and calls it.
    """

    def __init__(self: Any, /, *values: Any, **keyword_values: Any) -> None:
        fields = [(field.name, field.type, field) for field in dataclasses.fields(cls)]
        namespace = {"__post_init__": cls.__post_init__} if hasattr(cls, "__post_init__") else {}
        twin: Any = dataclasses.make_dataclass(
            cls.__name__, fields, namespace=namespace, repr=False, eq=False, frozen=frozen, slots=slots
        )
        twin.__init__.__qualname__ = f"{cls.__qualname__}.__init__"
        setattr(cls, "__init__", twin.__init__)  # noqa: B010  # mypy allows no other assignment to it
        twin.__init__(self, *values, **keyword_values)

    return __init__


def _values(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that returns the values of fields as a tuple."""
    match tuple(names):
        case ():
            return lambda _instance: ()
        case (name,):
            return lambda instance: (getattr(instance, name),)
        case several:
            return attrgetter(*several)


def _representation(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        field_text = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({field_text})"

    return recursive_repr()(__repr__)


def _equality(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return __eq__


def _hash(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    return lambda instance: hash(values(instance))


def _refusals(cls: type[Any], names: frozenset[str]) -> Methods:
    def __setattr__(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


def _state(names: tuple[str, ...]) -> Methods:
    """Return the methods by which copying and pickling read and restore a frozen instance with slots."""

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def __setstate__(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return {"__getstate__": __getstate__, "__setstate__": __setstate__}
