"""Filters of keys on the command line: STORE:ATTRIBUTE=VALUE, or STORE:JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from portico.errors import InvalidRequest

_KINDS: Final = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_SIGNS: Final = {
    **{kind: sign for sign, kind in _KINDS.items()},
    "in": " in ",
    "nin": " not in ",
}
_COMPARISON: Final = re.compile(r"([^=!<>]+)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)


def filters_of(given: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Filters by store; several for one store hold together. `InvalidRequest` for one that is not written so.

    A value that is a JSON number, ``true``, ``false`` or a quoted text is that; anything else is a text as it stands.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for text in given:
        store, colon, rest = text.partition(":")
        if not store or not colon:
            raise _refused(text)
        found.setdefault(store, []).append(_filter(rest, text))
    return {
        store: parts[0] if len(parts) == 1 else {"type": "and", "filters": parts}
        for store, parts in found.items()
    }


def _filter(written: str, text: str) -> dict[str, Any]:
    if written.lstrip().startswith("{"):
        try:
            value: dict[str, Any] = json.loads(written)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"The filter '{text}' is not JSON: {error}.") from error
        return value
    match = _COMPARISON.fullmatch(written)
    if match is None:
        raise _refused(text)
    key, sign, said = match.groups()
    return {"type": _KINDS[sign], "key": key.strip(), "value": _value(said.strip())}


def _value(said: str) -> str | float | bool:
    try:
        value = json.loads(said)
    except json.JSONDecodeError:
        return said
    return value if isinstance(value, str | int | float) else said


def shown(filters: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Filters as a person reads them: ``handbook: team=sales``."""
    return tuple(f"{store}: {_shown(item)}" for store, item in (filters or {}).items())


def _shown(item: Mapping[str, Any]) -> str:
    if "filters" in item:
        parts = [f"({_shown(part)})" if "filters" in part else _shown(part) for part in item["filters"]]
        return f" {item['type']} ".join(parts)
    value = item["value"]
    written = (
        value if isinstance(value, str) and _value(value) == value else json.dumps(value, ensure_ascii=False)
    )
    return f"{item['key']}{_SIGNS.get(item['type'], item['type'])}{written}"


def _refused(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{text}' is not a filter: expected STORE:ATTRIBUTE=VALUE, such as handbook:team=sales, with one of "
        f"{', '.join(_KINDS)}, or STORE:JSON in the form of the filters of a search."
    )
