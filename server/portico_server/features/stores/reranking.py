"""Reranks the best candidates with a model that reads the question and the passage together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound
from portico_server.core.prompts import builtin
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply, Ranked, Rerank
from portico_server.features.stores.search_candidate import SearchCandidate, order_candidates

MAX_RERANKED = 50
"""Maximum number of candidates that a reranking model reads, unless its card has the label ``candidates``."""

MAX_LABELLED_RERANKED = 100
"""Maximum value of the label ``candidates``."""

MAX_JUDGED = 20
"""Maximum number of candidates that a chat model judges, one call each."""

MAX_CONCURRENT_JUDGEMENTS = 4

MAX_PASSAGE_CHARS = 4_000
"""Maximum number of characters of a passage that a chat model sees when it judges the passage."""

MAX_GRADE = 10

_GRADE_SCHEMA = {
    "type": "object",
    "properties": {"grade": {"type": "integer", "minimum": 0, "maximum": MAX_GRADE}},
    "required": ["grade"],
    "additionalProperties": False,
}


async def rerank(
    query: str, candidates: Sequence[SearchCandidate], model: str, registry: Registry, context: Context
) -> list[SearchCandidate]:
    """Return the best candidates with scores from ``model``, in [0, 1]. Candidates beyond the model's maximum are left
    out.

    A model with the capability ``rerank`` is called once; a chat model grades each passage in a separate call. Raises
    `InvalidRequest` for any other model.
    """
    servable = registry.get(model, context.caller)
    if servable is None:
        raise NotFound(f"Model '{model}' not found.", code="model_not_found", param="reranker")
    if "rerank" in servable.card.capabilities:
        candidate_count = servable.card.labels.get("candidates")
        limit = (
            min(candidate_count, MAX_LABELLED_RERANKED)
            if type(candidate_count) is int and candidate_count > 0
            else MAX_RERANKED
        )
        return await _by_reranker(query, candidates[:limit], model, context)
    if "chat" in servable.card.capabilities:
        return await _by_judge(query, candidates[:MAX_JUDGED], model, context)
    raise InvalidRequest(
        f"'{model}' supports neither reranking nor chat, so it cannot judge passages.", param="reranker"
    )


async def _by_reranker(
    query: str, candidates: Sequence[SearchCandidate], model: str, context: Context
) -> list[SearchCandidate]:
    if not candidates:
        return []
    result = await context.call(model, Rerank(query, tuple(item.row.text for item in candidates)))
    if not isinstance(result, Ranked) or any(not 0 <= i < len(candidates) for i, _ in result.results):
        raise EngineFailed(f"'{model}' did not return a reranking result.")
    return order_candidates(
        replace(candidates[i], score=min(1.0, max(0.0, score))) for i, score in dict(result.results).items()
    )


async def _by_judge(
    query: str, candidates: Sequence[SearchCandidate], model: str, context: Context
) -> list[SearchCandidate]:
    slots = asyncio.Semaphore(MAX_CONCURRENT_JUDGEMENTS)

    async def judge(item: SearchCandidate) -> SearchCandidate:
        async with slots:
            return replace(item, score=await _grade(query, item.row.text, model, context))

    async with asyncio.TaskGroup() as tasks:
        judging = [tasks.create_task(judge(item)) for item in candidates]
    # Grades are coarse. The sort is stable, so candidates with equal grades keep their order.
    return sorted((task.result() for task in judging), key=lambda item: -item.score)


async def _grade(query: str, text: str, model: str, context: Context) -> float:
    messages = builtin.messages(
        "judge-passage", question=query, passage=text[:MAX_PASSAGE_CHARS], most=MAX_GRADE
    )
    options = {
        "temperature": 0,
        "max_tokens": 16,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "grade", "strict": True, "schema": _GRADE_SCHEMA},
        },
    }
    reply = await context.call(model, Chat(messages, options))
    assert isinstance(reply, ChatReply)
    try:
        grade = float(json.loads(reply.content)["grade"])
    except (ValueError, KeyError, TypeError):
        return 0.0  # without a valid grade, the passage does not count as an answer
    return min(1.0, max(0.0, grade / MAX_GRADE))
