"""The citations of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico.wire import Passage
from portico_server.core.citation_marks import marks


def file_citations(
    text: str, passages: Sequence[Passage], *, all_of_them: bool = False
) -> list[dict[str, Any]]:
    """Return citations of the passages that a text refers to by numbers in brackets. ``index`` is the position of the
    bracket.

    With ``all_of_them``, the passages that the text does not cite follow, with the end of the text as their position.
    """
    by_rank = {passage.rank: passage for passage in passages}
    citations = [(at, number) for at, numbers in marks(text) for number in numbers if number in by_rank]
    if all_of_them:
        cited_numbers = {number for _at, number in citations}
        citations += [(len(text), number) for number in by_rank if number not in cited_numbers]
    return [
        {
            "type": "file_citation",
            "index": at,
            "file_id": by_rank[number].file_id,
            "filename": by_rank[number].filename,
        }
        for at, number in citations
    ]
