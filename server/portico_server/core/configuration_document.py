"""A parsed configuration: its top-level keys, and what is the same for the entries of each key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from portico.schemas.configuration import Problem
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.names import check_plain

T = TypeVar("T")


class ConfigurationDocument:
    """The top-level keys of a configuration. ``examples`` has an example of an entry for each key."""

    def __init__(self, top: Mapping[str, Any], folder: Path, examples: Mapping[str, str]) -> None:
        self.top = top
        self.folder = folder
        self._examples = examples

    def path(self, text: str) -> Path:
        """Return an absolute path. A relative path is relative to the folder of the configuration file."""
        return (self.folder / Path(text).expanduser()).resolve()

    def read_each(
        self,
        key: str,
        build: Callable[[Mapping[str, Any], str], T],
        problems: list[Problem] | None = None,
    ) -> tuple[T, ...]:
        """Build each entry under a key from the entry and its place, such as ``models[0]``.

        Raise `InvalidRequest` for an invalid entry. If ``problems`` is given, record the entry there and leave it out.
        """
        return build_each(self.top.get(key), key, build, self._examples[key], problems)


def build_each(
    items: Any,
    place: str,
    build: Callable[[Mapping[str, Any], str], T],
    example: str,
    problems: list[Problem] | None = None,
) -> tuple[T, ...]:
    """Build each entry of a list. If ``problems`` is given, record each invalid entry in it and leave the entry out.

    ``place`` is the list's place in the configuration, and ``example`` an entry for error messages.
    """
    key = place.rpartition(".")[2]
    advice = advice_for(key, example)
    items = items or []
    if not isinstance(items, list):
        raise InvalidRequest(
            f"'{place}' must be a list of objects, not {words_of_value(items)}. {advice}", param=place
        )
    names: set[str] = set()
    ts = []
    for number, item in enumerate(items):
        at = f"{place}[{number}]"
        try:
            name = _name(item, at, key, advice)
            if name in names:
                raise InvalidRequest(f"{at}: the name '{name}' is used twice.", param=f"{at}.name")
            names.add(name)
            ts.append(build(item, at))
        except InvalidRequest as error:
            if problems is None:
                raise
            item_name = item.get("name") if isinstance(item, dict) else None
            wrong_place = error.param or at
            reason = error.message.removeprefix(f"{wrong_place}: ")
            problems.append(Problem(str(item_name or ""), wrong_place, reason))
    return tuple(ts)


def _name(item: Any, at: str, key: str, advice: str) -> str:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{at} must be an object, not {words_of_value(item)}. {advice}", param=at)
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"{at} needs a 'name'. {advice}", param=f"{at}.name")
    check_plain(name, f"an entry of '{key}'", f"{at}.name")
    return name


_TYPE_WORDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _words_of(types: type | tuple[type, ...]) -> str:
    """Return types in words, such as ``a text or a list``."""
    return " or ".join(_TYPE_WORDS[kind] for kind in (types if isinstance(types, tuple) else (types,)))


def words_of_value(value: Any) -> str:
    """Return the YAML type of a value in words, without the value itself, which may be a secret."""
    return "empty" if value is None else _TYPE_WORDS.get(type(value), type(value).__name__)


def read_mapping(value: Any, at: str) -> Mapping[str, Any]:
    """Return a mapping. Raise `InvalidRequest` with its place if it is anything else."""
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"{at} must be a mapping of keys to values, not {words_of_value(value)}.", param=at
        )
    return value


def read_fields(
    item: Mapping[str, Any],
    at: str,
    types: Mapping[str, type | tuple[type, ...]],
    examples: Mapping[str, str] = {},  # never changed
) -> dict[str, Any]:
    """Return the fields of an entry. Raise `InvalidRequest` for an unknown field, and for a value of another type.

    ``examples`` has an example of an entry for fields that are lists of objects.
    """
    for key, value in item.items():
        if key not in types:
            raise InvalidRequest(f"{at} has no field '{key}'.{nearest(str(key), types)}", param=f"{at}.{key}")
        if not isinstance(value, types[key]):
            advice = f" {advice_for(key, examples[key])}" if key in examples else ""
            raise InvalidRequest(
                f"{at}.{key} must be {_words_of(types[key])}, not {words_of_value(value)}.{advice}",
                param=f"{at}.{key}",
            )
    return dict(item)


def advice_for(key: str, example: str) -> str:
    """Return a sentence that shows how a list of objects is written."""
    return f"Write: {key}: [{example}]"
