"""Edits TOML: adds tables at the end, top-level keys at the beginning, and items at the end of an inline table.

All other lines stay as they are.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from portico.connect.setting import InvalidFile, Place, Unchangeable, nested, value_at

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_TEXT: Final = r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'"
_KEY: Final = re.compile(rf"(?:{_TEXT}|[^='\"])*", re.DOTALL)
_SCALAR: Final = re.compile(rf"{_TEXT}|[^,\]}}\#\n]*[^,\]}}\#\s]", re.DOTALL)
_ARRAY_TOKEN: Final = re.compile(rf"{_TEXT}|\#[^\n]*|.", re.DOTALL)
_GAP: Final = re.compile(r"(?:[\s,]|\#[^\n]*)*")


@dataclass(frozen=True, slots=True)
class _TomlItem:
    """The header of a table, or a key with its value: the names that lead to it from the top level, and its positions
    in the text. A header has no ``value``. ``is_inner``: the item is in an inline table.
    """

    names: list[str]
    start: int
    value: int | None
    end: int
    is_inner: bool = False


def parse(text: str) -> Any:
    """Return the value of a document. Raises `InvalidFile`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(str(error)) from error
    except RecursionError as error:
        raise InvalidFile("it is nested too deeply") from error


def put(text: str, place: Place, value: Any) -> str:
    """Return the document with a value at ``place``: a table, or any value at the top level or in an inline table."""
    names, parts = _names(place), list(_parts(text))
    part = next((part for part in parts if part.names == names and part.value is not None), None)
    if part is not None:
        return f"{text[: part.value]}{_inline(value)}{text[part.end :]}"
    if value_at(parse(text), place) is not None:
        text = drop(text, place)
        parts = list(_parts(text))
    inline_tables = [
        part
        for part in parts
        if part.value is not None
        and text.startswith("{", part.value)
        and part.names == names[: len(part.names)]
    ]
    if inline_tables:
        table = max(inline_tables, key=lambda part: len(part.names))
        return _with_item(text, table, names[len(table.names) :], value)
    if len(names) == 1:
        gap = "\n" if parts and parts[0].value is None and not text[: parts[0].start].strip() else ""
        return f"{_key(names[0])} = {_inline(value)}\n{gap}{text}"
    if not isinstance(value, dict):
        raise Unchangeable("only tables can be added to a table")
    header = ".".join(map(_key, names))
    lines = [f"[{header}]", *(f"{_key(key)} = {_inline(item)}" for key, item in value.items())]
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}" + "\n".join(lines) + "\n"


def drop(text: str, place: Place) -> str:
    """Return the document without the value at ``place``."""
    names = _names(place)
    while True:
        parts = list(_parts(text))
        at = next((n for n, part in enumerate(parts) if part.names[: len(names)] == names), None)
        if at is None:
            return text
        part = parts[at]
        text = _without_entry(text, part) if part.value is not None else _without_table(text, parts[at:])


def _parts(text: str) -> Iterator[_TomlItem]:
    """Yield the headers and the keys of a valid document in their order. Tables in arrays are left out."""
    at, table = 0, list[str]()
    while (at := _after_gap(text, at)) < len(text):
        if text[at] == "[":
            end = text.find("\n", at)
            part = _TomlItem(
                _key_names(text[at : end if end >= 0 else None]), at, None, end if end >= 0 else len(text)
            )
            table = part.names
            yield part
        else:
            part, *inner_parts = _entry(text, at, table, is_inner=False)
            yield part
            yield from inner_parts
        at = part.end


def _entry(text: str, start: int, table: list[str], *, is_inner: bool) -> list[_TomlItem]:
    """Return the entry that begins at ``start``, then the entries of the inline tables in its value."""
    equals = _match_end(_KEY, text, start)
    names = [*table, *_key_names(f"{text[start:equals]}= 0")]
    value = end = _after_gap(text, equals + 1)
    inner_parts: list[_TomlItem] = []
    if text[value] == "{":
        end = _after_gap(text, value + 1)
        while text[end] != "}":
            item = _entry(text, end, names, is_inner=True)
            inner_parts += item
            end = _after_gap(text, item[0].end)
        end += 1
    elif text[value] == "[":
        depth = 0
        while depth or end == value:
            token = text[end]
            depth += {"[": 1, "]": -1}.get(token, 0)
            end = _match_end(_ARRAY_TOKEN, text, end)
    else:
        end = _match_end(_SCALAR, text, value)
    return [_TomlItem(names, start, value, end, is_inner), *inner_parts]


def _without_table(text: str, parts: list[_TomlItem]) -> str:
    """Return the document without the table that begins with the first part. The comments after its last key
    belong to the next table, and stay.
    """
    start = text.rfind("\n", 0, parts[0].start) + 1
    next_header = next((n for n, part in enumerate(parts) if n and part.value is None), len(parts))
    head = text[:start]
    if head == "\n" or head.endswith("\n\n"):
        head = head[:-1]
    return head + _after_line(text, max(part.end for part in parts[:next_header]))


def _without_entry(text: str, part: _TomlItem) -> str:
    """Return the document without a key and its value: a whole line, or an item of an inline table with its comma."""
    head, tail = text[: part.start], text[part.end :]
    if not part.is_inner:
        return text[: text.rfind("\n", 0, part.start) + 1] + _after_line(text, part.end)
    if tail.lstrip().startswith(","):
        return head + tail.lstrip()[1:].lstrip()
    head = head.rstrip().removesuffix(",").rstrip()
    return head + (tail.lstrip() if head.endswith("{") else tail)


def _with_item(text: str, table: _TomlItem, names: list[str], value: Any) -> str:
    """Return the document with another item at the end of an inline table."""
    head, tail = text[: table.end - 1].rstrip(), text[table.end :]
    comma = "" if head.endswith(("{", ",")) else ","
    item = nested(tuple(names[1:]), value)
    return f"{head}{comma} {_key(names[0])} = {_inline(item)} }}{tail}"


def _after_gap(text: str, at: int) -> int:
    """Return the position after the whitespace, the commas and the comments at ``at``."""
    return _match_end(_GAP, text, at)


def _after_line(text: str, at: int) -> str:
    """Return the text after the line that contains the position ``at``."""
    return text[at:].partition("\n")[2]


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None, "the text has been parsed before"
    return match.end()


def _names(place: Place) -> list[str]:
    names = [step for step in place if isinstance(step, str)]
    if len(names) != len(place):
        raise Unchangeable("lists cannot be edited")
    return names


def _key_names(line: str) -> list[str]:
    """Return the names in a header or before an equals sign."""
    document: Any = tomllib.loads(line)
    names: list[str] = []
    while document:
        document = document[0] if isinstance(document, list) else document
        if document:
            name, document = next(iter(document.items()))
            names.append(name)
    return names


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _inline(value: Any) -> str:
    """Return a value on one line. Texts, numbers and booleans are written as in JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
