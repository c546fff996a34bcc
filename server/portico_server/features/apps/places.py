"""Changes to values in a specification by path: ``outline.system``, ``chapters.step.options.temperature``."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.words import whole_number

_PART: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def change_places(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the specification with changed values. ``changes`` maps places to new values; ``None`` removes a field.
    ``spec`` itself stays unchanged.

    A place consists of the names that lead to a field, separated by dots: the names of steps or other named objects,
    fields, and numbers in brackets for items of lists. A step with a unique name may be named directly, wherever it is
    in the specification. Raise `NotFound` if a place does not exist.
    """
    changed_spec: dict[str, Any] = copy.deepcopy(dict(spec))
    for place, value in changes.items():
        _put(changed_spec, place, value)
    return changed_spec


def named_nodes(spec: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return all steps and agents of a specification, with their names."""
    return list(_walk(dict(spec)))


def _put(spec: dict[str, Any], place: str, value: Any) -> None:
    parts = _parts(place)
    node: Any = spec
    for number, part in enumerate(parts[:-1]):
        child = _below(node, part)
        if child is None and number == 0:
            child = _anywhere(spec, part, place)
        if child is None and number == len(parts) - 2 and isinstance(node, dict) and _is_whole(node):
            # Create an object that was omitted so far, such as the options of a model. The check of the
            # specification validates its fields.
            child = node[part] = {}
        if child is None:
            raise _nowhere(place, part, node, [name for name, _step in _walk(spec)] if not number else [])
        node = child
    last = parts[-1]
    at = whole_number(last)
    if isinstance(node, list) and at is not None and at < len(node):
        node[at] = value
    elif not isinstance(node, dict):
        raise _nowhere(place, last, node)
    elif value is None:
        node.pop(last, None)
    else:
        node[last] = value


def _is_whole(node: Mapping[str, Any]) -> bool:
    """Return whether the object is a whole step or agent."""
    return "op" in node or "portico_agent" in node


def _parts(place: str) -> list[str]:
    parts = [name or number for name, number in _PART.findall(place)]
    if not parts or "".join(match[0] for match in _PART.finditer(place)) != place:
        raise InvalidRequest(
            f"'{place[:200]}' is not a valid place in a specification. Use the names that lead to a field, "
            "such as 'outline.system' or 'chapters.step.options.temperature'.",
            param="set",
        )
    return parts


def _below(node: Any, part: str) -> Any:
    """Return the value to which ``part`` refers directly below a node: a field, an item, or a named object. Return
    ``None`` if it does not exist.
    """
    if isinstance(node, list):
        number = whole_number(part)
        if number is not None:
            return node[number] if number < len(node) else None
        return next((child for name, child in _children({"steps": node}) if name == part), None)
    if not isinstance(node, dict):
        return None
    # Steps of a combinator take precedence over its fields, because a step may have the same name as a field.
    for name, child in _children(node):
        if name == part:
            return child
    found_child = node.get(part)
    return found_child if isinstance(found_child, dict | list) else None


def _name_of(item: Any) -> dict[str, Any] | None:
    """Return the named object in an item of a list: the item itself, the step in a case of a switch, or the agent in
    an entry. Return ``None`` if there is none.
    """
    if not isinstance(item, dict) or "name" in item or "op" in item:
        return item if isinstance(item, dict) else None
    inner = item.get("step") or item.get("agent")
    return inner if isinstance(inner, dict) else item


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names of the steps and agents directly below an object, with their objects. An unnamed step has the
    name that the daemon gives it.
    """
    ranked_children: list[tuple[int, Any]] = [
        (1, node.get(key)) for key in ("step", "then", "else", "default")
    ]
    for key in ("steps", "cases", "agents"):
        items = node.get(key)
        numbered_enumerate = enumerate(items if isinstance(items, list) else (), 1)
        ranked_children += [
            (number if key == "steps" else 1, _name_of(item)) for number, item in numbered_enumerate
        ]
    for number, child in ranked_children:
        if isinstance(child, dict) and ("name" in child or "op" in child):
            yield str(child.get("name") or f"{child.get('op')}{number}"), child


def _anywhere(spec: dict[str, Any], name: str, place: str) -> dict[str, Any] | None:
    """Return the only object with this name in the whole specification, or ``None``. If several objects have the name,
    raise `InvalidRequest`.
    """
    named_nodes = [node for node_name, node in _walk(spec) if node_name == name]
    if len(named_nodes) > 1:
        raise InvalidRequest(
            f"'{place}': {len(named_nodes)} steps are named '{name}'. Add the names of the enclosing steps, "
            "outermost first.",
            code="ambiguous_place",
            param=f"set.{place}",
        )
    return named_nodes[0] if named_nodes else None


def _walk(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    stack = [spec]
    while stack:
        for name, child in _children(stack.pop()):
            yield name, child
            stack.append(child)


def _nowhere(place: str, part: str, node: Any, further: Sequence[str] = ()) -> NotFound:
    known_names = list(further)
    if isinstance(node, dict):
        known_names += [*(str(key) for key in node), *(name for name, _child in _children(node))]
    hint = nearest(part, known_names) or (f" There are {', '.join(known_names[:20])}." if known_names else "")
    return NotFound(
        f"'{place}' does not exist: '{part}' was not found.{hint}", code="place_not_found", param="set"
    )
