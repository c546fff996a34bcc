"""Whether somebody must agree before a tool runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded, InvalidRequest
from portico_server.core.question import MAX_WAIT_S, Question
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
            found: Rule = rule
            return found
    raise InvalidRequest(
        f"{at}.approval is {value!r}, but must be one of {', '.join(RULES)}.", param=f"{at}.approval"
    )


async def refusal(tool: Tool, call: ToolCall, context: Context, limit: float) -> ToolResult | None:
    """Ask whether the tool may run: ``None`` if it may, otherwise what its caller is told."""
    change = "what it changes may not be mended" if tool.destructive else "it may change something"
    question = Question(
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
