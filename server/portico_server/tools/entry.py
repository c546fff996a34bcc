"""What an operator says of a tool and of an MCP server alike, how its fields are read, and whether somebody must agree
before a tool runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, get_args

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import DeadlineExceeded, InvalidRequest
from portico_server.core.question import MAX_WAIT_S, NewQuestion
from portico_server.core.request import ToolCall, ToolResult
from portico_server.tools.tool import Tool

Rule: TypeAlias = Literal["", "always", "destructive", "never"]
"""When to ask; empty: as the setting ``tool_approval`` says."""

RULES: Final = tuple(rule for rule in get_args(Rule) if rule)


@dataclass(frozen=True, slots=True)
class Approval:
    """``default`` holds for tools that were added without a rule of their own; a question waits ``limit`` seconds."""

    default: Rule = "never"
    limit: float = MAX_WAIT_S

    def needed(self, rule: Rule, tool: Tool) -> bool:
        """Whether a tool with this rule asks before it runs."""
        match rule or self.default:
            case "always":
                return True
            case "destructive":
                return tool.destructive
            case _:
                return False


NEVER: Final = Approval()
"""No tool asks, save those that always do."""


def rule_of(value: Any, at: str) -> Rule:
    """The rule that an operator wrote. Raises `InvalidRequest` that names the field under ``at``."""
    for rule in get_args(Rule):
        if value == rule or (value is None and not rule):
            found_rule: Rule = rule
            return found_rule
    raise InvalidRequest(
        f"{at}.approval is {value!r}, but must be one of {', '.join(RULES)}.", param=f"{at}.approval"
    )


async def refusal(tool: Tool, call: ToolCall, context: Context, limit: float) -> ToolResult | None:
    """Ask whether the tool may run: ``None`` if it may, otherwise what its caller is told."""
    change = "what it changes may not be mended" if tool.destructive else "it may change something"
    question = NewQuestion(
        "approval",
        tool.name,
        f"Run the tool '{tool.title or tool.name}'? "
        + ("It changes nothing." if tool.read_only else f"Mind: {change}."),
        arguments=call.arguments,
        key=f"{call.key}/approval" if call.key else "",
        limit=limit,
    )
    try:
        answer = await context.ask(question)
    except DeadlineExceeded as late:
        if late.code != "question_expired":
            raise
        return ToolResult(
            f"Nobody approved '{tool.name}' within {limit:g} s, so it was not run.", is_error=True
        )
    if answer.accepted:
        return None
    note = f": {answer.note}" if answer.note else "."
    return ToolResult(f"'{tool.name}' was refused, so it was not run{note}", is_error=True)


TIMEOUT: Final = 60.0
"""Seconds that a call may take unless the entry says otherwise."""

MAX_TIMEOUT_S: Final = 86_400

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """Where tools come from: a ``command`` to start, a ``url`` to reach, or what a kind of entry adds.

    ``env`` is what a process gets in addition to PATH, HOME and the like; ``headers`` are sent with every request.
    ``allow`` and ``deny`` are patterns of names (``read_*``). ``timeout`` is in seconds a call. ``approval`` says when
    somebody is asked before a call.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    timeout: float = TIMEOUT
    approval: Rule = ""

    def offers(self, tool: str) -> bool:
        """Whether a tool, or an operation of an API, of this name is to be a tool here."""
        is_allowed = not self.allow or any(fnmatchcase(tool, pattern) for pattern in self.allow)
        return is_allowed and not any(fnmatchcase(tool, pattern) for pattern in self.deny)

    def to_json(self) -> dict[str, Any]:
        """What it is parsed from, secrets included."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def text(item: Mapping[str, Any], key: str, at: str) -> str:
    """A field that is a text, empty if it is left out. Raises `InvalidRequest`, as the others here do."""
    value = item.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise wrong(at, key, "text")
    return value


def texts(item: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    """A field that is a list of texts."""
    value = item.get(key) or ()
    if not isinstance(value, list | tuple) or any(
        not isinstance(each, str) or "\0" in each for each in value
    ):
        raise wrong(at, key, "a list of texts")
    return tuple(value)


def pairs(item: Mapping[str, Any], key: str, at: str) -> dict[str, str]:
    """A field that gives texts to names; numbers are taken as texts."""
    value = item.get(key) or {}
    if not isinstance(value, Mapping) or any(isinstance(each, dict | list) for each in value.values()):
        raise wrong(at, key, "a mapping of names to texts")
    return {str(name): str(each) for name, each in value.items()}


def is_timeout(value: Any) -> bool:
    """Whether a value can be the seconds of a call."""
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= MAX_TIMEOUT_S


def wrong(at: str, key: str, expectation: str) -> InvalidRequest:
    """The error for a field ``at.key`` that is not what is ``expectation``."""
    return InvalidRequest(f"{at}.{key} must be {expectation}.", param=f"{at}.{key}")
