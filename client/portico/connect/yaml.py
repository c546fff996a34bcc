"""Edits YAML: values are added at the end of their mapping or list. All other lines stay as they are."""

from __future__ import annotations

import json
from typing import Any

import yaml

from portico._document import load
from portico.connect.setting import Entry, InvalidFile, Place, Step, Unchangeable, nested


def parse(text: str) -> Any:
    """Return the value of a document, or ``None`` if it is empty. Raises `InvalidFile`."""
    try:
        return load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise InvalidFile(f"{position}{error.problem}") from error
    except yaml.YAMLError as error:
        raise InvalidFile(str(error)) from error


def put(text: str, place: Place, value: Any) -> str:
    """Return the document with a value at ``place``."""
    node = _root(text)
    if _is_empty(node):
        gap = "" if not text or text.endswith("\n") else "\n"
        return text + gap + _dump(nested(place, value))
    for depth, step in enumerate(place):
        child = _find(node, step)
        inner = nested(place[depth + 1 :], value)
        if child is None:
            return _insert(text, node, step, inner)
        key, child_value = child
        if depth == len(place) - 1 or _is_empty(child_value):
            if node.flow_style:
                begin, end = key.start_mark.index, child_value.end_mark.index
                return text[:begin] + _in_flow(nested((step,), inner)) + text[end:]
            return _replace(text, key, child_value, step, inner)
        node = child_value
    raise Unchangeable("the root cannot be replaced")


def drop(text: str, place: Place) -> str:
    """Return the document without the value at ``place``. Raises `Unchangeable` for a value inside a line."""
    node = _root(text)
    for depth, step in enumerate(place):
        child = None if _is_empty(node) else _find(node, step)
        if child is None:
            return text
        key, value = child
        if depth == len(place) - 1:
            if node.flow_style:
                raise Unchangeable(f"line {key.start_mark.line + 1} has several values")
            begin = text.rfind("\n", 0, key.start_mark.index) + 1
            return text[:begin] + text[_line_end(text, _end(value)) :].removeprefix("\n")
        node = value
    return text


def _insert(text: str, node: Any, step: Step, value: Any) -> str:
    """Return the document with a further member in a mapping or a list that is not empty."""
    member = nested((step,), value)
    if node.flow_style:
        end = node.end_mark.index - 1
        return f"{text[:end].rstrip()}, {_in_flow(member)}{text[end:]}"
    first = node.value[0]
    column = node.start_mark.column if isinstance(step, Entry) else first[0].start_mark.column
    end = _line_end(text, _end(node))
    return f"{text[:end]}\n{_indented(member, column)}" + text[end:].removeprefix("\n")


def _replace(text: str, key: Any, node: Any, step: Step, value: Any) -> str:
    """Return the document with another value for a key, or for an item of a list."""
    column = key.start_mark.column
    begin = key.start_mark.index
    end = _line_end(text, _end(node))
    member = nested((step,), value) if isinstance(step, str) else value
    return text[:begin] + _indented(member, column).lstrip() + text[end:].removeprefix("\n")


def _find(node: Any, step: Step) -> tuple[Any, Any] | None:
    """Return the node of a key, or of an item's begin, and the node of its value."""
    if isinstance(step, Entry):
        if not isinstance(node, yaml.SequenceNode):
            raise Unchangeable(f"a list was expected in line {node.start_mark.line + 1}")
        for item in node.value:
            members = item.value if isinstance(item, yaml.MappingNode) else []
            if any(key.value == "name" and value.value == step.name for key, value in members):
                return item, item
        return None
    if not isinstance(node, yaml.MappingNode):
        raise Unchangeable(f"a mapping was expected in line {node.start_mark.line + 1}")
    return next(((key, value) for key, value in node.value if key.value == step), None)


def _root(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _is_empty(node: Any) -> bool:
    return (
        node is None or not node.value or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"))
    )


def _end(node: Any) -> int:
    """Return the offset at which the last value of a node ends, without the comments that follow."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line_end(text: str, offset: int) -> int:
    """Return the end of the line of ``offset``. A block of text ends with the line break before ``offset``."""
    if offset and text[offset - 1] == "\n":
        return offset - 1
    end = text.find("\n", offset)
    return len(text) if end < 0 else end


def _in_flow(member: Any) -> str:
    """Return a mapping with one key, or a list with one item, as a member of a mapping or list on one line."""
    return json.dumps(member, ensure_ascii=False)[1:-1]


def _indented(value: Any, column: int) -> str:
    return "".join(f"{' ' * column}{line}" for line in _dump(value).splitlines(keepends=True))


def _dump(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000))
