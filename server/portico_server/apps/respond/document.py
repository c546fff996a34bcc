"""A response as OpenAI describes it, before anything was answered; and what a text's citations are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from portico.wire import Passage
from portico_server.apps.respond.ask import Ask
from portico_server.core.passage import marks


def skeleton(ask: Ask, response_id: str) -> dict[str, Any]:
    """Every field, with what the request says of it."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": ask.background,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": [],
        "previous_response_id": ask.previous or None,
        "conversation": {"id": ask.conversation} if ask.conversation else None,
        "service_tier": "default",
        "store": ask.store,
        "usage": None,
        **ask.echo,
    }


def file_citations(
    text: str, passages: Sequence[Passage], *, all_of_them: bool = False
) -> list[dict[str, Any]]:
    """The passages that a text points at by numbers in brackets; ``index`` is where the bracket stands.

    ``all_of_them``: those that it does not point at too, behind its last character, as an app answers with them.
    """
    by_rank = {passage.rank: passage for passage in passages}
    found = [(at, number) for at, numbers in marks(text) for number in numbers if number in by_rank]
    if all_of_them:
        pointed = {number for _at, number in found}
        found += [(len(text), number) for number in by_rank if number not in pointed]
    return [
        {
            "type": "file_citation",
            "index": at,
            "file_id": by_rank[number].file_id,
            "filename": by_rank[number].filename,
        }
        for at, number in found
    ]
