"""``/api/search``: one question to several stores; and what every search of this protocol adapter takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Presence
from portico_server.core.request import Refine, Search, SearchResult, Steps
from portico_server.knowledge import many_stores
from portico_server.knowledge.filter import parse as parse_filter

router = new_router(prefix="/api/search", tags=["Stores"])


_REFINING: Final = set(Refine.__dataclass_fields__)


class SearchRequest(BaseModel, extra="forbid"):
    """A search. ``score_threshold`` is on the final score; ``docs/retrieval.md`` lists the stages in order."""

    query: str
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    score_threshold: float = Field(default=0.0, ge=0, le=1)
    ranker: Literal["auto", "lexical", "vector", "hybrid", "rrf"] = "auto"
    trace: bool = False
    vector_weight: float | None = Field(default=None, ge=0, le=1)
    """What the vectors count beside the words; left out, what their model's profile says."""
    infer_filters: bool = False
    """Search only files that meet what the question says of their attributes, such as "since 2024"."""
    links: bool | None = None
    """Follow links between passages, or do not; left out, as the store does."""
    steps: Literal["off", "auto"] | Annotated[int, Field(ge=2, le=4)] = "off"
    """Search up to so many times, for what the passages before lack; ``auto``: only where they lack much."""
    steps_model: str = ""
    """A chat model that says what to search for next; without one, rules do."""
    groups: list[str] = Field(default=[], max_length=16)
    """Chunk groups to search in; the store's own if there are none."""
    rewrite: Literal["rewrite", "decompose", "hyde", "replace"] | None = None
    """Search for what a chat model makes of the question, too; with ``replace`` in its place."""
    writer: str = "default"
    """That model."""
    half_life_days: float = Field(default=0.0, ge=0, le=1e6)
    """Days in which a score halves; 0: never."""
    decay_by: str = ""
    """The attribute with the time from which on it does; when the file came into the store, if empty."""
    reranker: str = ""
    """A model that judges the best candidates: a reranker or a chat model."""
    near_duplicates: float = Field(default=0.0, ge=0, le=1)
    """The share of common words from which two passages are one; 0: only the same text is."""
    diversity: float = Field(default=0.0, ge=0, le=1)
    """How much likeness to better passages costs."""
    parents: str = ""
    """The group whose chunks are given in place of those found; ``*``: the parent of each."""
    neighbours: int = Field(default=0, ge=0, le=10)
    """Chunks that are added before and behind each."""

    def search(self) -> Search:
        """The same as the core knows it. Raises `InvalidRequest` for a filter that is none."""
        return Search(
            self.query,
            self.max_num_results,
            None if self.filters is None else parse_filter(self.filters),
            self.score_threshold,
            self.ranker,
            self.trace,
            tuple(self.groups),
            Refine(**{**self.model_dump(include=_REFINING), "rewrite": self.rewrite or ""}),
            self.vector_weight,
            self.infer_filters,
            self.links,
            None
            if self.steps == "off"
            else Steps(0 if self.steps == "auto" else self.steps, self.steps_model),
        )


class MultiSearchRequest(SearchRequest):
    """A search of several stores, by name or id."""

    stores: list[str] = Field(min_length=1, max_length=many_stores.MAX_STORES)
    route: bool = False
    """Let the model ``writer`` choose those that the question is for."""


class SearchAnswer(BaseModel):
    """Passages in rank order, and the stages that led to them if asked for."""

    data: list[dict[str, Any]]
    trace: list[dict[str, Any]]


@router.post("")
async def search_stores(
    question: MultiSearchRequest, request: Request, services: TheServices, caller: Caller
) -> SearchAnswer:
    """Passages of several stores that answer a question, ranked together."""
    rows = [await services.stores.get(store, caller) for store in dict.fromkeys(question.stores)]
    with Presence(request.scope["portico.exchange"]):
        search_result = await many_stores.search_stores(
            rows, question.search(), services.runner, caller, is_routed=question.route
        )
    return answer(search_result)


def answer(search_result: SearchResult) -> SearchAnswer:
    """What was found as this protocol adapter shows it."""
    return SearchAnswer(
        data=[asdict(passage) for passage in search_result.passages],
        trace=[
            {**asdict(stage), "candidates": [list(candidate) for candidate in stage.candidates]}
            for stage in search_result.trace
        ],
    )
