"""Shortening of a conversation that exceeds a model's context. Pure: messages in, messages out."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from portico_server.core.request import Message

MIN_RESULT_CHARS: Final = 200
"""Length of a tool result, in characters, below which it is not shortened."""

CUT_MARK: Final = "\n[cut off here]"


def drop_older_half(messages: Sequence[Message]) -> list[Message] | None:
    """Return the conversation without its older half, or ``None`` if nothing can be left out.

    Whole turns go first, then the older tool calls after the user's last message, each with its results. System
    messages, the user's last message and the last call always stay.
    """
    head = 0
    while head < len(messages) and messages[head]["role"] in ("system", "developer"):
        head += 1
    turns = [n for n in range(head, len(messages)) if messages[n]["role"] == "user"]
    if turns and turns[-1] > head:
        return _without(messages, head, [n for n in turns if n > head])
    first_answer = head + len(turns)
    answers = [n for n in range(first_answer + 1, len(messages)) if messages[n]["role"] == "assistant"]
    return _without(messages, first_answer, answers) if answers else None


def _without(messages: Sequence[Message], start: int, cuts: Sequence[int]) -> list[Message]:
    """Leave out the messages from ``start`` to the first cut in the newer half, or to the last cut."""
    middle = start + (len(messages) - start) // 2
    end = next((n for n in cuts if n >= middle), cuts[-1])
    return [*messages[:start], *messages[end:]]


def halve_longest_result(messages: Sequence[Message], calls: Container[str]) -> list[Message] | None:
    """Return the conversation with half of the longest tool result, or ``None`` if all are short. ``calls`` are the
    ids of the calls whose results may be shortened.
    """
    lengths = {
        number: len(message["content"])
        for number, message in enumerate(messages)
        if message["role"] == "tool"
        and message["tool_call_id"] in calls
        and isinstance(message["content"], str)
    }
    longest = max(lengths, key=lambda number: lengths[number], default=-1)
    if lengths.get(longest, 0) < MIN_RESULT_CHARS:
        return None
    text = messages[longest]["content"].removesuffix(CUT_MARK)
    shorter = {**messages[longest], "content": text[: len(text) // 2] + CUT_MARK}
    return [*messages[:longest], shorter, *messages[longest + 1 :]]
