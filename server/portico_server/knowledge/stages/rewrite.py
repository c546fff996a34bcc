"""Other questions to search for beside the one that was asked, written by a chat model."""

from __future__ import annotations

import re
from typing import Literal

from portico_server.core.context import Context
from portico_server.core.request import Chat, Refine, Reply

MOST = 4
"""Further questions, at most."""

LONGEST = 2_000
"""Characters of one."""

_NUMBERED = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)、])\s*")
"""What models put before the lines of a list."""

_ASK: dict[Literal["rewrite", "decompose", "hyde"], str] = {
    "rewrite": "Rewrite the user's question as a short search query with the words that a document which answers it "
    "would use. Keep its language. Answer with the query alone.",
    "decompose": f"Take the user's question apart into at most {MOST} simpler questions that can be looked up one by "
    "one. Keep its language. Answer with one question per line and nothing else.",
    "hyde": "Write a short passage, three sentences at most, that could stand in a document and answers the user's "
    "question. Keep its language. Answer with the passage alone.",
}


async def questions(query: str, refine: Refine, context: Context) -> list[str]:
    """What to search for: ``query`` first, then what the model makes of it, each once. Raises what the model raises."""
    if refine.rewrite == "":
        return [query]
    messages = (
        {"role": "system", "content": _ASK[refine.rewrite]},
        {"role": "user", "content": query},
    )
    reply = await context.call(refine.writer, Chat(messages, {"temperature": 0, "max_tokens": 256}))
    assert isinstance(reply, Reply)
    text = reply.content.strip()
    further = [" ".join(text.split())]
    if refine.rewrite == "decompose":
        further = [_NUMBERED.sub("", line) for line in text.splitlines()]
    further = [line.strip(' \t"“”')[:LONGEST] for line in further]
    return list(dict.fromkeys([query, *(line for line in further if line)]))[: MOST + 1]
