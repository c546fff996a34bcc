"""Results of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from portico.schemas import json_at
from portico.wire import Passage


@dataclass(frozen=True, slots=True)
class TraceStage:
    """A stage of a search: its name, its duration in milliseconds, and its candidates in order as (chunk, score)."""

    name: str
    milliseconds: float
    candidates: tuple[tuple[int, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search: passages in rank order. ``trace`` is included on request.

    Example::

        from portico import Client

        with Client() as client:
            result = client.search("docs", "Who can reach the daemon?")
            print([(passage.rank, passage.filename) for passage in result.passages])
    """

    passages: tuple[Passage, ...] = field(metadata=json_at("data"))
    trace: tuple[TraceStage, ...] = ()


Ranker = Literal["auto", "lexical", "vector", "hybrid", "rrf"]
