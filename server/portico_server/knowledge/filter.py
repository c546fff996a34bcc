"""Filters on the attributes of files, as OpenAI writes them: parsed on entry, applied to attributes.

`matches` is for a filter that a caller chooses, `permits` for one that is bound to its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.names import is_plain
from portico_server.core.request import Attributes, Filter

COMPARISONS: Final = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
JOINS: Final = ("and", "or")
MAX_DEPTH: Final = 16
MAX_CONDITIONS: Final = 256
MAX_VALUES: Final = 1_000
MAX_ALL_VALUES: Final = 10_000
"""Values of all ``in`` and ``nin`` of one filter together."""

MAX_FILTERED_STORES: Final = 64
"""Stores to which the filters of one key are bound, at most."""

MAX_STORE_NAME_CHARS: Final = 128
"""Characters of the name or id of a store."""

_SIGNS: Final = {
    "eq": "=",
    "ne": "≠",
    "gt": ">",
    "gte": "≥",
    "lt": "<",
    "lte": "≤",
    "in": "in",
    "nin": "not in",
}


class Choices(tuple[Any, ...]):
    """The values of an ``in`` or ``nin``, among which one is found without a look at each."""

    @cached_property
    def known(self) -> frozenset[tuple[str, Any]]:
        """The values, each with its kind."""
        return frozenset((_kind(value), value) for value in self)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of values that there are."""
        return frozenset(map(_kind, self))


def parse(value: Any, param: str = "filters") -> Filter:
    """Read a filter from JSON. Raises `InvalidRequest` whose ``param`` is the path to what is wrong."""
    result = _parse(value, param, MAX_DEPTH)
    if sum(1 for _ in comparisons(result)) > MAX_CONDITIONS:
        raise InvalidRequest(
            f"The filter has more than {MAX_CONDITIONS} comparisons; use 'in' with a list instead.",
            param=param,
        )
    if sum(len(part.value) for part in comparisons(result) if isinstance(part.value, tuple)) > MAX_ALL_VALUES:
        raise InvalidRequest(
            f"The filter has more than {MAX_ALL_VALUES:,} values in all its lists; send several searches.",
            param=param,
        )
    return result


def _parse(value: Any, param: str, depth: int) -> Filter:
    if not isinstance(value, Mapping):
        raise InvalidRequest(
            f"{param} must be an object such as {{'type': 'eq', 'key': 'lang', 'value': 'en'}}.", param=param
        )
    if depth == 0:
        raise InvalidRequest(f"The filter is nested more than {MAX_DEPTH} levels deep.", param=param)
    kind = value.get("type")
    if kind in JOINS:
        parts = value.get("filters")
        if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
            raise InvalidRequest(
                f"A filter of type '{kind}' needs 'filters', a list with at least one filter.",
                param=f"{param}.filters",
            )
        return Filter(
            type=kind,
            filters=tuple(_parse(part, f"{param}.filters[{i}]", depth - 1) for i, part in enumerate(parts)),
        )
    if kind not in COMPARISONS:
        raise InvalidRequest(
            f"'{kind}' is not a type of filter. There are: {', '.join((*COMPARISONS, *JOINS))}.",
            param=f"{param}.type",
        )
    key = value.get("key")
    if not isinstance(key, str) or not key:
        raise InvalidRequest(
            f"A filter of type '{kind}' needs 'key', the name of an attribute.", param=f"{param}.key"
        )
    if "value" not in value:
        raise InvalidRequest(
            f"The filter on '{key}' needs a 'value' to compare with.", param=f"{param}.value"
        )
    return Filter(type=kind, key=key, value=_operand(kind, key, value["value"], f"{param}.value"))


def _operand(kind: str, key: str, value: Any, param: str) -> Any:
    if kind in ("in", "nin"):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_VALUES:
            raise InvalidRequest(
                f"'{kind}' on '{key}' needs a list of at most {MAX_VALUES:,} strings or numbers.", param=param
            )
        return Choices(_scalar(item, key, f"{param}[{i}]") for i, item in enumerate(value))
    operand = _scalar(value, key, param)
    if kind in ("gt", "gte", "lt", "lte") and isinstance(operand, bool):
        raise InvalidRequest(f"'{kind}' on '{key}' needs a number or a string, not {value!r}.", param=param)
    return operand


def _scalar(value: Any, key: str, param: str) -> str | float | bool:
    if not isinstance(value, str | int | float) or value != value:
        raise InvalidRequest(
            f"The value for '{key}' must be a string, a number or a boolean, not {type(value).__name__}.",
            param=param,
        )
    return value


def parse_bound(value: Any, param: str = "filters") -> tuple[tuple[str, Filter], ...]:
    """The filters of a key: for each store, by its name or id or ``*`` for any, one as `parse` reads it."""
    if value is None:
        return ()
    if not isinstance(value, Mapping) or len(value) > MAX_FILTERED_STORES:
        raise InvalidRequest(
            f"'{param}' must be an object with a filter for each of at most {MAX_FILTERED_STORES} stores, such as "
            "{'handbook': {'type': 'eq', 'key': 'team', 'value': 'sales'}}.",
            param=param,
        )
    for store in value:
        if not isinstance(store, str) or not 1 <= len(store) <= MAX_STORE_NAME_CHARS or not is_plain(store):
            raise InvalidRequest(
                f"'{param}' names a store by its name, its id or '*': 1 to {MAX_STORE_NAME_CHARS} characters without "
                f"control "
                "characters.",
                param=param,
            )
    return tuple((store, parse(item, f"{param}.{store}")) for store, item in value.items())


def to_json(condition: Filter) -> dict[str, Any]:
    """The filter as `parse` reads it."""
    if condition.key is None:
        return {"type": condition.type, "filters": [to_json(part) for part in condition.filters]}
    value = list(condition.value) if isinstance(condition.value, tuple) else condition.value
    return {"type": condition.type, "key": condition.key, "value": value}


def in_words(condition: Filter) -> str:
    """The filter for a person to read: ``team = 'sales' and level ≤ 2``."""
    if condition.key is None:
        parts = [f"({in_words(part)})" if part.key is None else in_words(part) for part in condition.filters]
        return f" {condition.type} ".join(parts)
    value = list(condition.value) if isinstance(condition.value, tuple) else condition.value
    return f"{condition.key} {_SIGNS[condition.type]} {value!r}"


def implied(condition: Filter) -> Attributes:
    """The attributes that whatever meets the filter has: those of its ``eq`` that are not behind an ``or``."""
    if condition.type == "eq":
        return {condition.key or "": condition.value}
    parts = condition.filters if condition.type == "and" else ()
    return {key: value for part in parts for key, value in implied(part).items()}


def comparisons(condition: Filter) -> Iterator[Filter]:
    """The comparisons in a filter, from left to right."""
    if condition.key is not None:
        yield condition
    for part in condition.filters:
        yield from comparisons(part)


def select(condition: Filter, files: Iterable[tuple[str, Attributes]]) -> list[str]:
    """The ids of the files whose attributes meet ``condition``.

    A file without the attribute meets ``ne`` and ``nin`` and no other comparison. Raises `InvalidRequest` for
    an attribute that no file has, and for a value whose kind is not that of the attribute in any file.
    """
    rows = list(files)
    _check(condition, rows)
    return [file_id for file_id, _ in _those(matches, condition, rows)]


def permitted(condition: Filter, files: Iterable[tuple[str, Attributes]]) -> list[tuple[str, Attributes]]:
    """Those of the files that `permits` lets through."""
    return _those(permits, condition, files)


def _those(
    test: Callable[[Filter, Attributes], bool], condition: Filter, files: Iterable[tuple[str, Attributes]]
) -> list[tuple[str, Attributes]]:
    """The files that pass a test. What several have as one object is tested once."""
    known: dict[int, tuple[bool, Attributes]] = {}  # with the object, so that no other one gets its number
    found = []
    for file_id, attributes in files:
        tested = known.get(id(attributes))
        if tested is None:
            tested = known[id(attributes)] = (test(condition, attributes), attributes)
        if tested[0]:
            found.append((file_id, attributes))
    return found


def matches(condition: Filter, attributes: Attributes) -> bool:
    """Whether ``attributes`` meet ``condition``. Kinds are never converted: 1 is not '1', nor is it true."""
    if condition.type == "and":
        return all(matches(part, attributes) for part in condition.filters)
    if condition.type == "or":
        return any(matches(part, attributes) for part in condition.filters)
    assert condition.key is not None
    found = attributes.get(condition.key)
    value = condition.value
    match condition.type:
        case "eq":
            return _same(found, value)
        case "ne":
            return not _same(found, value)
        case "in":
            return (_kind(found), found) in _choices(value).known
        case "nin":
            return (_kind(found), found) not in _choices(value).known
        case _:
            return _kind(found) == _kind(value) and _compare(condition.type, found, value)


def permits(condition: Filter, attributes: Attributes) -> bool:
    """Whether a filter that is bound to a key lets a file through.

    As `matches`, but an attribute that is missing, or of another kind than the value, meets no comparison at all,
    ``ne`` and ``nin`` included: what nobody has labelled is withheld.
    """
    if condition.type == "and":
        return all(permits(part, attributes) for part in condition.filters)
    if condition.type == "or":
        return any(permits(part, attributes) for part in condition.filters)
    if condition.type == "eq":
        return _same(attributes.get(condition.key or ""), condition.value)
    value = condition.value
    kinds = _choices(value).kinds if isinstance(value, tuple) else (_kind(value),)
    return _kind(attributes.get(condition.key or "")) in kinds and matches(condition, attributes)


def _choices(values: tuple[Any, ...]) -> Choices:
    return values if isinstance(values, Choices) else Choices(values)


def _compare(kind: str, found: Any, value: Any) -> bool:
    match kind:
        case "gt":
            return bool(found > value)
        case "gte":
            return bool(found >= value)
        case "lt":
            return bool(found < value)
        case _:
            return bool(found <= value)


def _same(found: Any, value: Any) -> bool:
    return _kind(found) == _kind(value) and found == value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "nothing"


def _check(condition: Filter, rows: Sequence[tuple[str, Attributes]]) -> None:
    if not rows:
        return
    kinds: dict[str, set[str]] = {}
    for attributes in {id(attributes): attributes for _, attributes in rows}.values():
        for key, value in attributes.items():
            kinds.setdefault(key, set()).add(_kind(value))
    for part in comparisons(condition):
        key = part.key or ""
        if key not in kinds:
            raise InvalidRequest(
                f"No file of this store has the attribute '{key}'.{nearest(key, kinds)}",
                code="unknown_attribute",
                param="filters",
            )
        values = part.value if isinstance(part.value, tuple) else (part.value,)
        wrong = next((value for value in values if _kind(value) not in kinds[key]), None)
        if wrong is not None:
            raise InvalidRequest(
                f"The attribute '{key}' is a {' or a '.join(sorted(kinds[key]))}, but the filter compares it "
                f"with {wrong!r}, a {_kind(wrong)}.",
                code="wrong_type",
                param="filters",
            )
