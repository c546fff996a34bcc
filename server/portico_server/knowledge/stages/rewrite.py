"""Other questions to search for beside the one that was asked, written by a chat model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.request import Chat, Refine, Reply
from portico_server.knowledge.chunk.prompts import answer_lines, answer_text

MOST = 4
"""Further questions, at most."""

LONGEST = 2_000
"""Characters of one."""

PATIENCE = 30.0
"""Seconds after which a question is searched for as it stands, where the model is not needed."""

_QUERY = (
    "Rewrite the user's question as a short search query with the words that a document which answers it would use. "
    "Keep its language. Answer with the query alone."
)

_ASK: dict[Literal["rewrite", "decompose", "hyde", "replace"], str] = {
    "rewrite": _QUERY,
    "replace": _QUERY,
    "decompose": f"Take the user's question apart into at most {MOST} simpler questions that can be looked up one by "
    "one. Keep its language. Answer with one question per line and nothing else.",
    "hyde": "Write a short passage, three sentences at most, that could stand in a document and answers the user's "
    "question. Keep its language. Answer with the passage alone.",
}


@dataclass(frozen=True, slots=True)
class Questions:
    """What is searched for, and what is to be said about it in the trace."""

    queries: tuple[str, ...]
    note: str = ""


async def questions(query: str, refine: Refine, context: Context) -> Questions:
    """What to search for: ``query`` first, then what the model makes of it, each once.

    Raises what the model raises, save for ``replace``: there the query stands where the model fails.
    """
    if refine.rewrite == "":
        return Questions((query,))
    if refine.rewrite != "replace":
        found = await _further(query, refine, context)
        queries = tuple(dict.fromkeys([query, *found]))[: MOST + 1]
        return Questions(queries, " | ".join(queries[1:]))
    try:
        async with asyncio.timeout(PATIENCE) as limit:
            found = await _further(query, refine, context)
    except PorticoError as error:
        return Questions((query,), f"the question itself: {error.message}")
    except TimeoutError:
        if not limit.expired():
            raise
        return Questions((query,), f"the question itself: '{refine.writer}' took longer than {PATIENCE:g} s")
    return Questions((found[0],), found[0]) if found else Questions((query,), "the question itself")


async def _further(query: str, refine: Refine, context: Context) -> list[str]:
    """What the model makes of a question."""
    assert refine.rewrite
    messages = (
        {"role": "system", "content": _ASK[refine.rewrite]},
        {"role": "user", "content": query},
    )
    reply = await context.call(refine.writer, Chat(messages, {"temperature": 0, "max_tokens": 256}))
    if not isinstance(reply, Reply):
        raise EngineFailed(f"'{refine.writer}' did not answer as a chat model does.")
    text = answer_text(reply.content, cut=False)
    further = [" ".join(text.split())]
    if refine.rewrite == "decompose":
        further = answer_lines(text)
    further = [line.strip(' \t"“”')[:LONGEST] for line in further]
    return [line for line in further if line]
