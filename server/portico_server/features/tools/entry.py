"""The operator's settings of tools and MCP servers, the parsing of their fields, and approvals before a tool runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, get_args

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import DeadlineExceeded, InvalidRequest
from portico_server.core.origins import ORIGINS
from portico_server.core.question import MAX_WAIT_S, NewQuestion
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.secret_values import SecretValues, in_address, in_headers, in_variables
from portico_server.features.tools.tool import DataRule, Repeat, Tool

Rule: TypeAlias = Literal["", "always", "destructive", "data", "refuse", "never"]
"""When to ask for approval; empty means as the setting ``tool_approval`` says. ``data``: if the call may depend on
data from outside the conversation. ``refuse``: refuse such calls without asking.
"""

RULES: Final = tuple(rule for rule in get_args(Rule) if rule)


@dataclass(frozen=True, slots=True)
class Approval:
    """The approval settings. ``default`` applies to added tools without their own rule. A question expires after
    ``limit`` seconds.
    """

    default: Rule = "never"
    limit: float = MAX_WAIT_S

    def is_needed(self, rule: Rule, tool: Tool) -> bool:
        """Return whether a tool with this rule needs approval before it runs."""
        match rule or self.default:
            case "always":
                return True
            case "destructive":
                return tool.destructive
            case _:
                return False

    def on_data(self, rule: Rule, tool: Tool) -> DataRule:
        """Return what happens to a call that may depend on data from outside the conversation."""
        rule = rule or self.default
        if rule == "never" or not (tool.acts or tool.reaches_out):
            return "allow"
        return "refuse" if rule == "refuse" else "ask"


NEVER: Final = Approval()
"""Settings with which no tool needs approval, except for tools that always need it."""


def rule_of(value: Any, at: str) -> Rule:
    """Parse the operator's rule. Raise `InvalidRequest` that names the field under ``at``."""
    for rule in get_args(Rule):
        if value == rule or (value is None and not rule):
            found_rule: Rule = rule
            return found_rule
    raise InvalidRequest(
        f"{at}.approval is {value!r}, but must be one of {', '.join(RULES)}.", param=f"{at}.approval"
    )


def repeat_of(value: Any, at: str) -> Repeat:
    """Parse the operator's rule for repeated calls. Raise `InvalidRequest` that names the field under ``at``."""
    for repeat in get_args(Repeat):
        if value == repeat or (value is None and not repeat):
            found_repeat: Repeat = repeat
            return found_repeat
    raise wrong(at, "repeat", "ask or same_key")


async def refusal(tool: Tool, call: ToolCall, context: Context, limit: float) -> ToolResult | None:
    """Ask whether a tool can run. Return ``None`` if it can, otherwise the tool result for the caller."""
    origins = ORIGINS.get()
    if tool.on_data == "refuse" and origins:
        return ToolResult(
            f"'{tool.name}' was not run because of {'; '.join(origins)}. The call may follow instructions in this "
            "data, and the operator refuses such calls.",
            is_error=True,
        )
    is_on_data = bool(origins) and tool.on_data == "ask"
    change = "its changes may be irreversible" if tool.destructive else "it may change something"
    question = NewQuestion(
        "approval",
        tool.name,
        f"Run the tool '{tool.title or tool.name}'? "
        + ("It changes nothing." if tool.read_only else f"Mind: {change}.")
        + (" Its address can carry data to another host." if tool.read_only and is_on_data else "")
        + (f" Portico asks because of {'; '.join(origins)}." if is_on_data else ""),
        arguments=call.arguments,
        key=f"{call.key}/approval" if call.key else "",
        limit=limit,
    )
    return await decline(question, context, "was not run")


async def decline(question: NewQuestion, context: Context, outcome: str) -> ToolResult | None:
    """Ask a question about a tool. Return ``None`` if a person approves, otherwise a tool result that states the
    ``outcome``, such as "was not run".
    """
    try:
        answer = await context.ask(question)
    except DeadlineExceeded as late:
        if late.code != "question_expired":
            raise
        return ToolResult(
            f"'{question.name}' was not approved within {question.limit:g} s, so it {outcome}.", is_error=True
        )
    if answer.accepted:
        return None
    note = f": {answer.note}" if answer.note else "."
    return ToolResult(f"'{question.name}' was refused, so it {outcome}{note}", is_error=True)


TIMEOUT: Final = 60.0
"""Default timeout of a call, in seconds."""

MAX_TIMEOUT_S: Final = 86_400

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A source of tools: a ``command`` to start, a ``url`` to reach, or what a subclass adds.

    ``env`` are environment variables of the process, in addition to PATH, HOME and similar variables; ``headers`` are
    sent with every request. ``allow`` and ``deny`` are patterns of tool names (``read_*``). ``timeout`` is in seconds
    per call. ``approval`` is when to ask for approval before a call. ``repeat`` is the `Repeat` of its tools.
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
    repeat: Repeat = ""

    def offers(self, tool: str) -> bool:
        """Return whether the entry offers the tool, or the operation of an API, named ``tool``."""
        is_allowed = not self.allow or any(fnmatchcase(tool, pattern) for pattern in self.allow)
        return is_allowed and not any(fnmatchcase(tool, pattern) for pattern in self.deny)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that the entry reaches, which can contain passwords and keys."""
        return (self.url,)

    def secrets(self) -> SecretValues:
        """Return the entry's secrets, which must reach neither a model nor a list."""
        return SecretValues(
            (
                *in_variables(self.env),
                *in_headers(self.headers),
                *(secret for address in self.addresses for secret in in_address(address)),
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return the data from which the entry can be parsed again, including secrets."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def text(item: Mapping[str, Any], key: str, at: str) -> str:
    """Return a text field, or an empty string if it is missing.

    Raise `InvalidRequest` for an invalid field, like all functions of this module that read one.
    """
    value = item.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise wrong(at, key, "text")
    return value


def texts(item: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    """Return a field that is a list of texts."""
    value = item.get(key) or ()
    if not isinstance(value, list | tuple) or any(
        not isinstance(member, str) or "\0" in member for member in value
    ):
        raise wrong(at, key, "a list of texts")
    return tuple(value)


def pairs(item: Mapping[str, Any], key: str, at: str) -> dict[str, str]:
    """Return a field that maps names to texts; numbers are converted to texts."""
    value = item.get(key) or {}
    if not isinstance(value, Mapping) or any(isinstance(member, dict | list) for member in value.values()):
        raise wrong(at, key, "a mapping of names to texts")
    return {str(name): str(member) for name, member in value.items()}


def is_timeout(value: Any) -> bool:
    """Return whether a value is a valid timeout in seconds."""
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= MAX_TIMEOUT_S


def wrong(at: str, key: str, expectation: str) -> InvalidRequest:
    """Return the error for a field ``at.key`` that is not ``expectation``."""
    return InvalidRequest(f"{at}.{key} must be {expectation}.", param=f"{at}.{key}")
