"""The script of a fake model: what it answers to what. Its format is described in `docs/fake-engine.md`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from portico_server.core.errors import InvalidRequest, nearest

LONGEST_START = 3_600
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error to answer with instead of a reply."""

    status: int = 500
    message: str = "The script says so."
    type: str = "server_error"
    code: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Scripted:
    """One rule: the first whose ``match`` is found in the last user message, and that is not used up,
    answers.

    ``delay`` is seconds before the first word, ``interval`` seconds between two. ``crash`` and ``hang`` are
    numbers of words after which the process dies or falls silent. ``times`` is how often the rule may be
    used.
    """

    match: str = ""
    content: tuple[str, ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str = ""
    delay: float = 0.0
    interval: float = 0.0
    error: Failure | None = None
    crash: int | None = None
    hang: int | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """Rules in order. What no rule takes is echoed. ``start`` is seconds that the model takes to load."""

    replies: tuple[Scripted, ...] = ()
    context_length: int | None = None
    dimensions: int = 64
    start: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def with_limits(self, context_length: Any, dimensions: Any) -> Script:
        """With these instead of its own, where they are given."""
        given = {"context_length": context_length, "dimensions": dimensions}
        return read({**self.to_json(), **{name: value for name, value in given.items() if value is not None}})


def load(given: Any) -> Script:
    """A script from a path, from YAML's own objects, or (empty) none.

    Raises `InvalidRequest` that names the place.
    """
    if isinstance(given, str) and given:
        import yaml  # only a script in a file needs it

        path = Path(given).expanduser()
        try:
            given = yaml.safe_load(path.read_text("utf-8"))
        except OSError as error:
            raise InvalidRequest(
                f"The script {path} of a fake model cannot be read: {error.strerror}.", param="script"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The script {path} is not YAML: {error}", param="script") from error
    if isinstance(given, list):
        given = {"replies": given}
    return read(given or {})


def read(value: Any) -> Script:
    """A script from plain objects. Raises `InvalidRequest` that names the place."""
    known = _fields(value, Script, "script")
    replies = known.pop("replies", None) or []
    if not isinstance(replies, list | tuple):
        raise InvalidRequest("'replies' in a fake model's script must be a list.", param="script")
    for name in ("context_length", "dimensions"):
        number = known.get(name)
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidRequest(
                f"'{name}' in a fake model's script must be a whole number ≥ 1.", param="script"
            )
    start = known.get("start")
    if start is not None and (not isinstance(start, int | float) or not 0 <= start <= LONGEST_START):
        raise InvalidRequest(
            f"'start' in a fake model's script must be a number from 0 to {LONGEST_START}.", param="script"
        )
    rules = tuple(_reply(reply, f"replies[{index}]") for index, reply in enumerate(replies))
    return replace(Script(rules), **{name: item for name, item in known.items() if item is not None})


def _reply(value: Any, where: str) -> Scripted:
    if isinstance(value, str):
        return Scripted(content=(value,))
    known = _fields(value, Scripted, where)
    content = known.get("content") or ()
    known["content"] = (content,) if isinstance(content, str) else tuple(str(item) for item in content)
    known["tool_calls"] = tuple(known.get("tool_calls") or ())
    if known.get("error") is not None:
        known["error"] = Failure(**_fields(known["error"], Failure, f"{where}.error"))
    for call in known["tool_calls"]:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise InvalidRequest(
                f"'{where}.tool_calls' must be objects with 'name' and 'arguments'.", param="script"
            )
    try:
        re.compile(str(known.get("match") or ""))
    except re.error as error:
        raise InvalidRequest(
            f"'{where}.match' is not a regular expression: {error}.", param="script"
        ) from error
    return Scripted(**{name: item for name, item in known.items() if item is not None})


def _fields(value: Any, cls: type[Any], where: str) -> dict[str, Any]:
    names = [item.name for item in fields(cls)]
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"'{where}' must be an object with some of: {', '.join(names)}.", param="script")
    for name in value:
        if name not in names:
            raise InvalidRequest(
                f"'{where}' has an unknown field '{name}'.{nearest(str(name), names)}", param="script"
            )
    return dict(value)


@dataclass(slots=True)
class Player:
    """Walks through a script: which rule answers now."""

    script: Script
    _used: dict[int, int] = field(default_factory=dict)

    def next(self, said: str) -> Scripted:
        """The rule for what the user said last, with one text as its content."""
        for index, rule in enumerate(self.script.replies):
            used = self._used.get(index, 0)
            found = re.search(rule.match, said, re.IGNORECASE | re.DOTALL)
            if found is None or (rule.times is not None and used >= rule.times):
                continue
            self._used[index] = used + 1
            text = rule.content[min(used, len(rule.content) - 1)] if rule.content else ""
            return replace(
                rule,
                content=(_expand(found, text),),
                tool_calls=tuple(
                    {"name": call["name"], "arguments": _deep(found, call.get("arguments", {}))}
                    for call in rule.tool_calls
                ),
            )
        return Scripted(content=(said,))


def _expand(found: re.Match[str], text: str) -> str:
    """``\\1`` and ``\\g<name>`` in the text stand for what the rule's groups matched."""
    try:
        return found.expand(text) if "\\" in text else text
    except (re.error, IndexError):
        return text


def _deep(found: re.Match[str], value: Any) -> Any:
    if isinstance(value, str):
        return _expand(found, value)
    if isinstance(value, Mapping):
        return {name: _deep(found, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(found, item) for item in value]
    return value
