"""Edits JSON with comments and trailing commas. Everything outside the changed value stays as it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from portico.connect.setting import Entry, InvalidFile, Place, Step, Unchangeable, nested

_STRING: Final = r'"(?:\\.|[^"\\\n])*"'
_COMMENT: Final = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA: Final = re.compile(rf"{_STRING}|,(?=\s*[}}\]])")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Member:
    """A value of an object or a list, with its offsets. ``begin`` is where its key begins, if it has one."""

    key: str | None
    begin: int
    value_begin: int
    end: int
    value: Any


def parse(text: str) -> Any:
    """Return the value of a document, or ``None`` if it is empty. Raises `InvalidFile`."""
    strict = _strict(text)
    try:
        return json.loads(strict) if strict.strip() else None
    except json.JSONDecodeError as error:
        raise InvalidFile(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise InvalidFile("it is nested too deeply") from error


def put(text: str, place: Place, value: Any) -> str:
    """Return the document with a value at ``place``."""
    strict = _strict(text)
    if not strict.strip():
        return f"{text}{json.dumps(nested(place, value), indent=2, ensure_ascii=False)}\n"
    start = _skip(strict, 0)
    for depth, step in enumerate(place):
        member = _find(strict, start, step)
        if member is None:
            return _insert(text, start, step, nested(place[depth + 1 :], value))
        if depth == len(place) - 1:
            rendered_value = _render(value, _indent(text, member.begin), _unit(text))
            return text[: member.value_begin] + rendered_value + text[member.end :]
        start = member.value_begin
    raise Unchangeable("the root cannot be replaced")


def drop(text: str, place: Place) -> str:
    """Return the document without the value at ``place``."""
    strict = _strict(text)
    start = _skip(strict, 0)
    for step in place[:-1]:
        member = _find(strict, start, step)
        if member is None:
            return text
        start = member.value_begin
    member = _find(strict, start, place[-1])
    if member is None:
        return text
    members = _members(strict, start)
    close = _DECODER.raw_decode(strict, start)[1] - 1
    if len(members) == 1 and not (text[start + 1 : member.begin] + text[member.end : close]).strip():
        return text[: start + 1] + text[close:]
    at = members.index(member)
    begin = len(text[: member.begin].rstrip())
    plain = _without_comments(text)
    comma = _skip(plain, member.end)
    if plain[comma] == ",":
        return text[:begin] + text[comma + 1 :]
    if at > 0:
        comma = plain.index(",", members[at - 1].end)
        return text[:comma] + text[comma + 1 : begin] + text[member.end :]
    return text[:begin] + text[member.end :]


def _insert(text: str, start: int, step: Step, value: Any) -> str:
    """Return the document with a further member in the object or list at ``start``."""
    strict = _strict(text)
    key = "" if isinstance(step, Entry) else f"{json.dumps(step, ensure_ascii=False)}: "
    members, unit = _members(strict, start), _unit(text)
    close = _DECODER.raw_decode(strict, start)[1] - 1
    outer = _indent(text, start)
    on_one_line = bool(members) and "\n" not in text[start:close]
    if on_one_line:
        end = members[-1].end
        return f"{text[:end]}, {key}{json.dumps(value, ensure_ascii=False)}{text[end:]}"
    is_spread = bool(members) and "\n" in text[start : members[0].begin]
    inner = _indent(text, members[0].begin) if is_spread else outer + unit
    line = f"\n{inner}{key}{_render(value, inner, unit)}"
    end = members[-1].end if members else start + 1
    body_end = end + len(text[end:close].rstrip())
    has_comma = "," in _without_comments(text)[end:close]
    comma = "," if members and not has_comma else ""
    ending = text[body_end:]
    closing = "," if has_comma else ""
    if not members and "\n" not in text[body_end:close]:
        ending = f"\n{outer}{ending.lstrip()}"
    return text[:end] + comma + text[end:body_end] + line + closing + ending


def _render(value: Any, indent: str, unit: str) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", f"\n{indent}")


def _unit(text: str) -> str:
    """Return the indentation of one level, as in the first indented line."""
    match = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return match[1] if match else "  "


def _indent(text: str, offset: int) -> str:
    """Return the indentation of the line that contains ``offset``."""
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return line[: len(line) - len(line.lstrip())]


def _find(strict: str, start: int, step: Step) -> _Member | None:
    if strict[start] != ("[" if isinstance(step, Entry) else "{"):
        container = "a list" if isinstance(step, Entry) else "an object"
        raise Unchangeable(f"{container} was expected in line {strict.count(chr(10), 0, start) + 1}")
    for member in _members(strict, start):
        if isinstance(step, Entry):
            if isinstance(member.value, dict) and member.value.get("name") == step.name:
                return member
        elif member.key == step:
            return member
    return None


def _members(strict: str, start: int) -> list[_Member]:
    """Return the members of the object or list at ``start`` of a valid document."""
    members: list[_Member] = []
    at = _skip(strict, start + 1)
    while strict[at] not in "}]":
        begin, key = at, None
        if strict[start] == "{":
            key, at = _DECODER.raw_decode(strict, at)
            at = _skip(strict, _skip(strict, at) + 1)
        value, end = _DECODER.raw_decode(strict, at)
        members.append(_Member(key, begin, at, end, value))
        at = _skip(strict, end)
        if strict[at] == ",":
            at = _skip(strict, at + 1)
    return members


def _skip(text: str, at: int) -> int:
    """Return the offset of the next character that is not white space."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _without_comments(text: str) -> str:
    """Return the text with comments as spaces, so that all offsets stay the same."""
    return _COMMENT.sub(_blank_comment, text)


def _blank_comment(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else re.sub(r"[^\n]", " ", match[0])


def _strict(text: str) -> str:
    """Return the text as strict JSON, with comments and trailing commas as spaces."""
    return _TRAILING_COMMA.sub(lambda match: " " if match[0] == "," else match[0], _without_comments(text))
