"""Parses JSON into frozen values according to type hints. Unknown fields are ignored; a missing field is an error.

If a field is elsewhere in the JSON, its metadata declares the place (`json_at`). A type with a different shape in JSON
has a class method ``from_json``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, Generic, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from portico.errors import NotPortico
from portico.wire import ErrorBody, Usage

T = TypeVar("T")

_FieldReader: TypeAlias = tuple[
    str, tuple[tuple[str, ...], ...], Callable[[Any], Any], Callable[[], Any] | None
]
"""The name of a field, where to find it in JSON (several paths are possible), the function that parses it, and a
factory of its empty value.
"""

_ADVICE = "Is a Portico daemon running at this URL?"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. If ``has_more`` is true, pass ``last_id`` as ``after`` to request the next page."""

    data: tuple[T, ...]
    has_more: bool = False
    last_id: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def read(kind: type[T], value: Any, key: str = "") -> T:
    """Parse ``value``, or its member ``key``, as a ``kind``: a dataclass, plain JSON, or a ``list[…]`` or `Page` of
    rows. Rows are read from ``data`` if ``key`` is empty. Raises `NotPortico`.
    """
    origin = get_origin(kind)
    if origin is not list and origin is not Page:
        result: T = _reader(cast("Any", kind))(_member(value, key) if key else value)
        return result
    rows = value.get(key or "data") if isinstance(value, Mapping) else None
    if not isinstance(rows, list):
        problem = f"lacks '{key}'" if key else "has no list 'data'"
        raise NotPortico(f"The answer {problem}. {_ADVICE}")
    items = [_reader(get_args(kind)[0])(row) for row in rows]
    if origin is Page:
        return Page(
            tuple(items),
            bool(value.get("has_more")),
            rows[-1].get("id") if rows else None,
        )  # type: ignore[return-value]
    return items  # type: ignore[return-value]  # T is a list here


def read_object(cls: type[T], value: Any, /, **known_fields: Any) -> T:
    """Parse a JSON object as a dataclass. Fields in ``known_fields`` are already parsed. A null counts as missing.

    A missing field gets its default, the value for older daemons (`added_later`), or the empty value of its type. A
    text field with none of them is required.
    """
    if not isinstance(value, Mapping):
        raise NotPortico(f"The daemon returned {type(value).__name__} where a {cls.__name__} was expected.")
    for name, places, reader, empty in _fields(cast("Any", cls)):
        if name in known_fields:
            continue
        if (member := _first(value, places)) is not None:
            known_fields[name] = reader(member)
        elif empty is not None:
            known_fields[name] = empty()
    try:
        return cls(**known_fields)
    except TypeError as error:
        raise NotPortico(
            f"The daemon's {cls.__name__} lacks a field ({error}). Do client and daemon have the same "
            "version?"
        ) from error


def error_body(value: Any) -> ErrorBody:
    """Parse an error object, with or without its envelope ``{"error": …}``."""
    inner = value.get("error", value) if isinstance(value, Mapping) else value
    if not isinstance(inner, Mapping):
        return ErrorBody(str(inner), "server_error")
    code = inner.get("code")
    return ErrorBody(
        str(inner.get("message") or "The daemon gave no reason."),
        str(inner.get("type") or "server_error"),
        None if code is None else str(code),
        inner.get("param"),
    )


def usage(value: Any) -> Usage:
    """Parse token usage with Portico's or OpenAI's field names."""
    if not isinstance(value, Mapping):
        return Usage()
    details = value.get("prompt_tokens_details") or {}
    return Usage(
        int(value.get("prompt_tokens") or 0),
        int(value.get("completion_tokens") or 0),
        int(value.get("cached_tokens") or details.get("cached_tokens") or 0),
        value.get("cost"),
    )


_WIRE: Mapping[Any, Callable[[Any], Any]] = {ErrorBody: error_body, Usage: usage}


@cache
def _reader(kind: Hashable) -> Callable[[Any], Any]:
    """Return the function that parses JSON as a ``kind``."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _WIRE:
        return _WIRE[kind]
    if is_dataclass(kind):
        from_json: Callable[[Any], Any] = getattr(kind, "from_json", partial(read_object, kind))
        return from_json
    if origin is dict:
        return _object
    if origin is tuple and inner[-1] is ...:
        read_item = _reader(inner[0])
        return lambda value: tuple(read_item(item) for item in value)
    if origin is tuple:
        readers = [_reader(member_type) for member_type in inner]
        return lambda value: tuple(read(item) for read, item in zip(readers, value, strict=False))
    if origin in (Union, UnionType):
        return partial(_one_of, inner)
    return lambda value: value


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    """Parse a value of a union type: a list as the tuple type, an object as the dataclass type. Return other values
    unchanged.
    """
    for kind in kinds:
        if (
            isinstance(value, Mapping)
            if is_dataclass(kind)
            else get_origin(kind) is tuple and isinstance(value, list)
        ):
            return _reader(kind)(value)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotPortico(f"The response is not a JSON object. {_ADVICE}")
    return value


def _member(value: Any, key: str) -> Any:
    member = value.get(key) if isinstance(value, Mapping) else None
    if member is None:
        raise NotPortico(f"The response lacks '{key}'. {_ADVICE}")
    return member


@cache
def _fields(cls: type[Any]) -> list[_FieldReader]:
    hints = get_type_hints(cls)
    return [
        (
            item.name,
            item.metadata.get("json_at", ((item.name,),)),
            _reader(hints[item.name]),
            _substitute(item, hints[item.name]),
        )
        for item in fields(cls)
    ]


def _substitute(item: Field[Any], kind: Any) -> Callable[[], Any] | None:
    """Return a factory of the value of a missing field. Return ``None`` if the class has a default, or if a missing
    field is an error.
    """
    if item.default is not MISSING or item.default_factory is not MISSING:
        return None
    if "missing" in item.metadata:
        return partial(item.metadata.get, "missing")
    return _empty(kind)


def _empty(kind: Any) -> Callable[[], Any] | None:
    """Return a factory of the empty value of a type: ``None``, ``()``, ``{}``, 0 or false. Return ``None`` if the type
    has no empty value.
    """
    origin = get_origin(kind) or kind
    if origin in (Union, UnionType):
        return (lambda: None) if NoneType in get_args(kind) else None
    if origin is Any:
        return lambda: None
    if origin is Mapping:
        return dict
    if is_dataclass(kind):
        return partial(read_object, cast("Any", kind), {})
    return origin if origin in (bool, int, float, tuple, dict) else None


def _first(value: Any, places: tuple[tuple[str, ...], ...]) -> Any:
    for place in places:
        member = value
        for name in place:
            member = member.get(name) if isinstance(member, Mapping) else None
        if member is not None:
            return member
    return None
