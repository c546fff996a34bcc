"""What a chat model makes of a question before it is searched for: other questions, and which stores it is for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.request import Chat, Refine, Reply
from portico_server.knowledge.chunk.prompts import answer_lines, answer_text

MAX_FURTHER_QUESTIONS = 4
"""Further questions, at most."""

MAX_FURTHER_QUESTION_CHARS = 2_000
"""Characters of one."""

REWRITE_TIMEOUT_S = 30.0
"""Seconds after which a question is searched for as it stands, where the model is not needed."""

_QUERY_PROMPT = (
    "Rewrite the user's question as a short search query with the words that a document which answers it would use. "
    "Keep its language. Answer with the query alone."
)

_REWRITE_PROMPTS: dict[Literal["rewrite", "decompose", "hyde", "replace"], str] = {
    "rewrite": _QUERY_PROMPT,
    "replace": _QUERY_PROMPT,
    "decompose": f"Take the user's question apart into at most {MAX_FURTHER_QUESTIONS} simpler questions that can be "
    "looked up one by "
    "one. Keep its language. Answer with one question per line and nothing else.",
    "hyde": "Write a short passage, three sentences at most, that could stand in a document and answers the user's "
    "question. Keep its language. Answer with the passage alone.",
}


@dataclass(frozen=True, slots=True)
class SearchQueries:
    """What is searched for, and what is to be said about it in the trace."""

    queries: tuple[str, ...]
    note: str = ""


async def rewrite_question(query: str, refine: Refine, context: Context) -> SearchQueries:
    """What to search for: ``query`` first, then what the model makes of it, each once.

    Raises what the model raises, except for ``replace``: there the query stays as it is where the model fails.
    """
    if refine.rewrite == "":
        return SearchQueries((query,))
    if refine.rewrite != "replace":
        found = await _write_further(query, refine, context)
        queries = tuple(dict.fromkeys([query, *found]))[: MAX_FURTHER_QUESTIONS + 1]
        return SearchQueries(queries, " | ".join(queries[1:]))
    try:
        async with asyncio.timeout(REWRITE_TIMEOUT_S) as limit:
            found = await _write_further(query, refine, context)
    except PorticoError as error:
        return SearchQueries((query,), f"the question itself: {error.message}")
    except TimeoutError:
        if not limit.expired():
            raise
        return SearchQueries(
            (query,), f"the question itself: '{refine.writer}' took longer than {REWRITE_TIMEOUT_S:g} s"
        )
    return SearchQueries((found[0],), found[0]) if found else SearchQueries((query,), "the question itself")


async def _write_further(query: str, refine: Refine, context: Context) -> list[str]:
    """What the model makes of a question."""
    assert refine.rewrite
    messages = (
        {"role": "system", "content": _REWRITE_PROMPTS[refine.rewrite]},
        {"role": "user", "content": query},
    )
    reply = await context.call(refine.writer, Chat(messages, {"temperature": 0, "max_tokens": 256}))
    if not isinstance(reply, Reply):
        raise EngineFailed(f"'{refine.writer}' did not answer as a chat model does.")
    text = answer_text(reply.content, cut=False)
    further = [" ".join(text.split())]
    if refine.rewrite == "decompose":
        further = answer_lines(text)
    further = [line.strip(' \t"“”')[:MAX_FURTHER_QUESTION_CHARS] for line in further]
    return [line for line in further if line]


# Which of several stores a question is for, said by a chat model from their names and descriptions.


ROUTE_TIMEOUT_S = 30.0
"""Seconds after which all stores are searched."""

MAX_ROUTED_STORES = 3
"""Stores that a question is sent to, at most."""

MAX_SHOWN_QUESTION_CHARS = 2_000
"""Characters of a question that are shown."""

_NUMBER = re.compile(r"\d+")

_ROUTE_PROMPT = (
    "You are shown a numbered list of collections of documents and a question. Say which of the collections may hold "
    f"the answer, {MAX_ROUTED_STORES} at most, the likeliest first. Answer with their numbers alone, separated by "
    f"commas."
)


async def choose_stores(
    query: str, stores: Sequence[tuple[str, str]], writer: str, context: Context
) -> tuple[list[int], str]:
    """The stores (name, description) to search, counted from 0, and a note for the trace.

    All of them, if the model ``writer`` fails, takes too long or names none: a search must not end for want of advice.
    """
    every = list(range(len(stores)))
    shown = "\n".join(
        f"{number}. {name}{f': {description}' if description else ''}"
        for number, (name, description) in enumerate(stores, start=1)
    )
    messages = (
        {"role": "system", "content": _ROUTE_PROMPT},
        {"role": "user", "content": f"Collections:\n{shown}\n\nQuestion: {query[:MAX_SHOWN_QUESTION_CHARS]}"},
    )
    try:
        async with asyncio.timeout(ROUTE_TIMEOUT_S) as limit:
            reply = await context.call(writer, Chat(messages, {"temperature": 0, "max_tokens": 64}))
        if not isinstance(reply, Reply):
            raise EngineFailed(f"'{writer}' did not answer as a chat model does.")
    except PorticoError as error:
        return every, f"all of them: {error.message}"
    except TimeoutError:
        if not limit.expired():
            raise
        return every, f"all of them: '{writer}' took longer than {ROUTE_TIMEOUT_S:g} s"
    numbers = (
        int(number) - 1
        for number in _NUMBER.findall(answer_text(reply.content, cut=False)[:MAX_SHOWN_QUESTION_CHARS])
    )
    chosen = list(dict.fromkeys(number for number in numbers if 0 <= number < len(stores)))[
        :MAX_ROUTED_STORES
    ]
    if not chosen:
        return every, f"all of them: '{writer}' named none"
    return chosen, ", ".join(stores[number][0] for number in chosen)
