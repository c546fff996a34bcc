"""Filters on the attributes of files, as OpenAI writes them: read at the door, applied to attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.request import Attributes, Filter

COMPARISONS: Final = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
JOINS: Final = ("and", "or")
DEPTH: Final = 16
CONDITIONS: Final = 256
VALUES: Final = 1_000


def parse(value: Any, param: str = "filters") -> Filter:
    """Read a filter from JSON. Raises `InvalidRequest` whose ``param`` is the path to what is wrong."""
    result = _parse(value, param, DEPTH)
    if sum(1 for _ in comparisons(result)) > CONDITIONS:
        raise InvalidRequest(
            f"The filter has more than {CONDITIONS} comparisons; use 'in' with a list instead.", param=param
        )
    return result


def _parse(value: Any, param: str, depth: int) -> Filter:
    if not isinstance(value, Mapping):
        raise InvalidRequest(
            f"{param} must be an object such as {{'type': 'eq', 'key': 'lang', 'value': 'en'}}.", param=param
        )
    if depth == 0:
        raise InvalidRequest(f"The filter is nested more than {DEPTH} levels deep.", param=param)
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
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > VALUES:
            raise InvalidRequest(
                f"'{kind}' on '{key}' needs a list of at most {VALUES:,} strings or numbers.", param=param
            )
        return tuple(_scalar(item, key, f"{param}[{i}]") for i, item in enumerate(value))
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
    return [file_id for file_id, attributes in rows if matches(condition, attributes)]


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
            return any(_same(found, item) for item in value)
        case "nin":
            return not any(_same(found, item) for item in value)
        case _:
            return _kind(found) == _kind(value) and _compare(condition.type, found, value)


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
    for _, attributes in rows:
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
