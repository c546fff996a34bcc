"""Memory policies: what of a session the model is shown."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from portico_server.apps.agent.message import TOOL_RESULT, AgentMessage
from portico_server.apps.agent.spec import MemoryPolicy
from portico_server.core.dataclass import dataclass

Summarise = Callable[[str, Sequence[AgentMessage]], Awaitable[str]]
"""(the summary so far, messages that are put into it) → the new summary."""

VERBATIM_SHARE: Final = 0.5
"""The share of the budget that is kept word for word when the rest is summed up, so that it is not done every turn."""


@dataclass(frozen=True, slots=True)
class RecalledMemory:
    """Messages that are shown word for word, and the summary of those before; ``covered``: how many it stands for."""

    messages: tuple[AgentMessage, ...]
    summary: str = ""
    covered: int = 0


_WIDE: Final = re.compile("[\u2e80-\U0010ffff]+")


def estimate(message: AgentMessage) -> int:
    """Tokens of a message, roughly: four letters of a European language, one of Chinese."""
    text = message.text
    wide = 0 if text.isascii() else sum(map(len, _WIDE.findall(text)))
    return wide + (len(text) - wide) // 4 + 4


async def recalled(
    policy: MemoryPolicy,
    memory: Sequence[AgentMessage],
    begin: int,
    summary: str,
    covered_count: int,
    summarise: Summarise,
) -> RecalledMemory:
    """What a policy shows of a memory; what belongs to this turn, from ``begin`` on, is always shown.

    A tool's result never stands without the call that it answers.
    """
    before, now = memory[:begin], tuple(memory[begin:])
    match policy.policy:
        case "none":
            return RecalledMemory(now)
        case "window":
            return RecalledMemory(_whole(before, len(before) - policy.messages) + now)
        case "budget":
            remaining_tokens = policy.tokens - sum(map(estimate, now))
            return RecalledMemory(_whole(before, _fitting(before, remaining_tokens)) + now)
        case "summary":
            return await _summed(policy, before, now, summary, min(covered_count, begin), summarise)
    return RecalledMemory(tuple(memory))


async def _summed(
    policy: MemoryPolicy,
    before: Sequence[AgentMessage],
    now: tuple[AgentMessage, ...],
    summary: str,
    covered_count: int,
    summarise: Summarise,
) -> RecalledMemory:
    agent_messages = before[covered_count:]
    used_tokens = sum(map(estimate, now))
    if used_tokens + sum(map(estimate, agent_messages)) <= policy.tokens:
        return RecalledMemory((*agent_messages, *now), summary, covered_count)
    kept_agent_messages = _whole(
        agent_messages, _fitting(agent_messages, int(policy.tokens * VERBATIM_SHARE) - used_tokens)
    )
    if len(kept_agent_messages) == len(agent_messages):
        return RecalledMemory((*kept_agent_messages, *now), summary, covered_count)
    start = len(before) - len(kept_agent_messages)
    new_summary = await summarise(summary, before[covered_count:start])
    return RecalledMemory((*kept_agent_messages, *now), new_summary, start)


def _fitting(memory: Sequence[AgentMessage], tokens: int) -> int:
    """The index from which on the messages fit into so many tokens."""
    for index in range(len(memory) - 1, -1, -1):
        tokens -= estimate(memory[index])
        if tokens < 0:
            return index + 1
    return 0


def _whole(memory: Sequence[AgentMessage], start: int) -> tuple[AgentMessage, ...]:
    """The messages from ``start`` on, and those before it that a tool's results at the front belong to."""
    start = max(0, start)
    while 0 < start < len(memory) and memory[start].type == TOOL_RESULT:
        start -= 1
    return tuple(memory[start:])
