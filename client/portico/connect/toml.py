"""Edits TOML: tables are added at the end, and top-level keys at the beginning. All other lines stay as they are."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, Final

from portico.connect.setting import InvalidFile, Place, Unchangeable, value_at

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEADER: Final = re.compile(r"\s*\[")


def parse(text: str) -> Any:
    """Return the value of a document. Raises `InvalidFile`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(str(error)) from error
    except RecursionError as error:
        raise InvalidFile("it is nested too deeply") from error


def put(text: str, place: Place, value: Any) -> str:
    """Return the document with a value at ``place``: a table, or a text at the top level."""
    names = _names(place)
    if value_at(parse(text), place) is not None:
        if len(names) == 1:
            return _replace_line(text, names[0], value)
        text = drop(text, place)
    if len(names) == 1:
        gap = "\n" if _HEADER.match(text) else ""
        return f"{_key(names[0])} = {_inline(value)}\n{gap}{text}"
    header = ".".join(map(_key, names))
    lines = [f"[{header}]", *(f"{_key(key)} = {_inline(item)}" for key, item in value.items())]
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}" + "\n".join(lines) + "\n"


def drop(text: str, place: Place) -> str:
    """Return the document without the value at ``place``."""
    names, lines = _names(place), text.splitlines(keepends=True)
    if len(names) == 1:
        at = _line_of(lines, names[0])
        return text if at is None else "".join(lines[:at] + lines[at + 1 :])
    result: list[str] = []
    section: list[str] = []
    is_ours = False
    for line in [*lines, None]:
        if line is None or _HEADER.match(line):
            result += _after_values(section) if is_ours else section
            if line is not None and _table(line)[: len(names)] == names:
                if result and not result[-1].strip():
                    result.pop()
                is_ours = True
            else:
                is_ours = False
            section = []
        if line is not None:
            section.append(line)
    return "".join(result)


def _after_values(section: list[str]) -> list[str]:
    """Return the comments and empty lines at the end of a table, which belong to the next one."""
    at = max(n for n, line in enumerate(section) if line.strip() and not line.lstrip().startswith("#"))
    return section[at + 1 :]


def _names(place: Place) -> list[str]:
    names = [step for step in place if isinstance(step, str)]
    if len(names) != len(place):
        raise Unchangeable("lists cannot be edited")
    return names


def _table(line: str) -> list[str]:
    """Return the names in the header of a table."""
    try:
        document: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return []
    names: list[str] = []
    while document:
        document = document[0] if isinstance(document, list) else document
        if document:
            name, document = next(iter(document.items()))
            names.append(name)
    return names


def _line_of(lines: list[str], name: str) -> int | None:
    """Return the number of the line with a key of the top level."""
    for at, line in enumerate(lines):
        if _HEADER.match(line):
            return None
        if re.match(rf"\s*{re.escape(_key(name))}\s*=", line):
            return at
    return None


def _replace_line(text: str, name: str, value: Any) -> str:
    lines = text.splitlines(keepends=True)
    at = _line_of(lines, name)
    if at is None:
        raise Unchangeable(f"'{name}' was not found on a line by itself")
    end = lines[at][len(lines[at].rstrip("\r\n")) :]
    lines[at] = f"{_key(name)} = {_inline(value)}{end}"
    return "".join(lines)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _inline(value: Any) -> str:
    """Return a value on one line. Texts, numbers and booleans are written as in JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
