"""Lets a chat model rewrite a question before the search, write further questions, or choose the stores to search."""

from __future__ import annotations

import asyncio
from typing import Literal

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply, Refine
from portico_server.features.chunkers.prompts import answer_lines, answer_text

MAX_FURTHER_QUESTIONS = 4
"""Maximum number of further questions that a model writes for a question."""

MAX_FURTHER_QUESTION_CHARS = 2_000
"""Maximum length of a further question in characters."""

REWRITE_TIMEOUT_S = 30.0
"""Seconds after which a question is searched unchanged if the model has not answered. Applies only to ``replace``."""

_REWRITE_PROMPTS: dict[Literal["rewrite", "decompose", "hyde", "replace"], str] = {
    "rewrite": "rewrite-query",
    "replace": "rewrite-query",
    "decompose": "decompose-question",
    "hyde": "hypothetical-passage",
}
"""The name of the prompt for each method of rewriting a question."""


@dataclass(frozen=True, slots=True)
class SearchQueries:
    """The queries to search for, and a note for the trace."""

    queries: tuple[str, ...]
    note: str = ""


async def rewrite_question(query: str, refine: Refine, context: Context) -> SearchQueries:
    """Return the queries to search for: ``query`` first, then the distinct queries that the model writes.

    For ``replace``, the model's query replaces ``query``; if the model fails, ``query`` stays unchanged. For other
    methods, raises the errors of the model.
    """
    if refine.rewrite == "":
        return SearchQueries((query,))
    if refine.rewrite != "replace":
        rewritten_questions = await _write_further(query, refine, context)
        queries = tuple(dict.fromkeys([query, *rewritten_questions]))[: MAX_FURTHER_QUESTIONS + 1]
        return SearchQueries(queries, " | ".join(queries[1:]))
    try:
        async with asyncio.timeout(REWRITE_TIMEOUT_S) as limit:
            rewritten_questions = await _write_further(query, refine, context)
    except PorticoError as error:
        return SearchQueries((query,), f"the original question: {error.message}")
    except TimeoutError:
        if not limit.expired():
            raise
        return SearchQueries(
            (query,), f"the original question: '{refine.writer}' took longer than {REWRITE_TIMEOUT_S:g} s"
        )
    return (
        SearchQueries((rewritten_questions[0],), rewritten_questions[0])
        if rewritten_questions
        else SearchQueries((query,), "the original question")
    )


async def _write_further(query: str, refine: Refine, context: Context) -> list[str]:
    """Return the queries that the model writes for a question."""
    assert refine.rewrite
    arguments = {"count": MAX_FURTHER_QUESTIONS} if refine.rewrite == "decompose" else {}
    messages = builtin.messages(_REWRITE_PROMPTS[refine.rewrite], question=query, **arguments)
    reply = await context.call(refine.writer, Chat(messages, {"temperature": 0, "max_tokens": 256}))
    if not isinstance(reply, ChatReply):
        raise EngineFailed(f"'{refine.writer}' did not return a chat completion.")
    text = answer_text(reply.content, cut=False)
    further = [" ".join(text.split())]
    if refine.rewrite == "decompose":
        further = answer_lines(text)
    further = [line.strip(' \t"“”')[:MAX_FURTHER_QUESTION_CHARS] for line in further]
    return [line for line in further if line]
