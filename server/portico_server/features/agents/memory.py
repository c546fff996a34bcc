"""Memory policies: which part of a session the model sees."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.features.agents.message import TOOL_RESULT, AgentMessage
from portico_server.features.agents.spec import MemoryPolicy

Summarise = Callable[[str, Sequence[AgentMessage]], Awaitable[str]]
"""Receives the summary so far and the messages to add to it, and returns the new summary."""

VERBATIM_SHARE: Final = 0.5
"""Share of the token budget that is kept verbatim when older messages are summarised, so that not every turn needs a
new summary.
"""


@dataclass(frozen=True, slots=True)
class RecalledMemory:
    """Messages shown verbatim, and a summary of earlier messages; ``covered`` is the number of summarised messages."""

    messages: tuple[AgentMessage, ...]
    summary: str = ""
    covered: int = 0


_WIDE: Final = re.compile("[\u2e80-\U0010ffff]+")


def estimate(message: AgentMessage) -> int:
    """Estimate the number of tokens in a message: one per four characters of European text, or one per Chinese
    character.
    """
    text = message.text
    wide = 0 if text.isascii() else sum(map(len, _WIDE.findall(text)))
    return wide + (len(text) - wide) // 4 + 4


async def recall(
    policy: MemoryPolicy,
    memory: Sequence[AgentMessage],
    begin: int,
    summary: str,
    covered_count: int,
    summarise: Summarise,
) -> RecalledMemory:
    """Return the part of a memory that the model sees under a policy. The messages of this turn, from index ``begin``
    on, are always included.

    A tool result is never included without its call.
    """
    before, now = memory[:begin], tuple(memory[begin:])
    match policy.policy:
        case "none":
            return RecalledMemory(now)
        case "window":
            return RecalledMemory(_with_tool_calls(before, len(before) - policy.messages) + now)
        case "budget":
            remaining_tokens = policy.tokens - sum(map(estimate, now))
            return RecalledMemory(_with_tool_calls(before, _fitting(before, remaining_tokens)) + now)
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
    kept_agent_messages = _with_tool_calls(
        agent_messages, _fitting(agent_messages, int(policy.tokens * VERBATIM_SHARE) - used_tokens)
    )
    if len(kept_agent_messages) == len(agent_messages):
        return RecalledMemory((*kept_agent_messages, *now), summary, covered_count)
    start = len(before) - len(kept_agent_messages)
    new_summary = await summarise(summary, before[covered_count:start])
    return RecalledMemory((*kept_agent_messages, *now), new_summary, start)


def _fitting(memory: Sequence[AgentMessage], tokens: int) -> int:
    """Return the index of the first message from which all messages to the end fit into ``tokens``."""
    for index in range(len(memory) - 1, -1, -1):
        tokens -= estimate(memory[index])
        if tokens < 0:
            return index + 1
    return 0


def _with_tool_calls(memory: Sequence[AgentMessage], start: int) -> tuple[AgentMessage, ...]:
    """Return the messages from ``start`` on. If they begin with tool results, include the message with the calls."""
    start = max(0, start)
    while 0 < start < len(memory) and memory[start].type == TOOL_RESULT:
        start -= 1
    return tuple(memory[start:])
