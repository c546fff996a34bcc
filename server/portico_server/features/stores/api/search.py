"""``/api/search``: search several stores with one question. The module also defines the parameters that all searches
of the native API share.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Presence
from portico_server.core.filter import parse as parse_filter
from portico_server.core.request import Refine, Search, SearchResult, Steps
from portico_server.features.stores import many_stores

router = new_router(prefix="/api/search", tags=["Stores"])


_REFINING: Final = set(Refine.__dataclass_fields__)


class SearchRequest(BaseModel, extra="forbid"):
    """A search. ``score_threshold`` applies to the final score; ``docs/retrieval.md`` lists the stages of a search in
    order.
    """

    query: str
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    score_threshold: float = Field(default=0.0, ge=0, le=1)
    ranker: Literal["auto", "lexical", "vector", "hybrid", "rrf"] = "auto"
    trace: bool = False
    vector_weight: float | None = Field(default=None, ge=0, le=1)
    """Weight of the vector score relative to the word score; by default from the profile of the embedding model."""
    infer_filters: bool = False
    """Search only files whose attributes match conditions in the question, such as "since 2024"."""
    links: bool | None = None
    """Whether to follow links between passages; by default, the store decides."""
    steps: Literal["off", "auto"] | Annotated[int, Field(ge=2, le=4)] = "off"
    """Maximum number of searches. Each further search looks for what the earlier passages lack; ``auto``: only if they
    lack much.
    """
    steps_model: str = ""
    """A chat model that chooses the next search; without a model, rules choose it."""
    groups: list[str] = Field(default=[], max_length=16)
    """Chunk groups to search; if empty, the store's default group."""
    rewrite: Literal["rewrite", "decompose", "hyde", "replace"] | None = None
    """How a chat model rewrites the question. The search looks for both the question and the rewrite; with
    ``replace``, only for the rewrite.
    """
    writer: str = "default"
    """The chat model that rewrites the question."""
    half_life_days: float = Field(default=0.0, ge=0, le=1e6)
    """Days after which a score has halved; 0: scores do not decay."""
    decay_by: str = ""
    """Attribute that contains the time from which a score decays; if empty, the time when the file was added to the
    store.
    """
    reranker: str = ""
    """A model that reranks the best candidates: a reranker or a chat model; ``auto``: a reranker that the daemon
    chooses, if there is one and its time stays within the budget.
    """
    near_duplicates: float = Field(default=0.0, ge=0, le=1)
    """Minimum share of common words at which two passages count as duplicates; 0: only identical texts are
    duplicates.
    """
    diversity: float = Field(default=0.0, ge=0, le=1)
    """Penalty for similarity to higher-ranked passages."""
    parents: str = ""
    """Group whose chunks are returned instead of the matching chunks; ``*``: each matching chunk's parent."""
    neighbours: int = Field(default=0, ge=0, le=10)
    """Number of neighbouring chunks added before and after each chunk."""

    def search(self) -> Search:
        """Return the search as a `Search`. Raise `InvalidRequest` for an invalid filter."""
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
    """A search of several stores, which are given by name or id."""

    stores: list[str] = Field(min_length=1, max_length=many_stores.MAX_STORES)
    route: bool = False
    """Let the model ``writer`` choose the relevant stores."""


class SearchAnswer(BaseModel):
    """Passages in rank order, and the stages that led to them if a trace was requested."""

    data: list[dict[str, Any]]
    trace: list[dict[str, Any]]


@router.post("")
async def search_stores(
    question: MultiSearchRequest, request: Request, services: TheServices, caller: Caller
) -> SearchAnswer:
    """Search several stores and rank their passages together."""
    rows = [await services.stores.get(store, caller) for store in dict.fromkeys(question.stores)]
    with Presence(request.scope["portico.exchange"]):
        search_result = await many_stores.search_stores(
            rows, question.search(), services.runner, caller, is_routed=question.route
        )
    return answer(search_result)


def answer(search_result: SearchResult) -> SearchAnswer:
    """Return a search result in the native API's format."""
    return SearchAnswer(
        data=[asdict(passage) for passage in search_result.passages],
        trace=[
            {**asdict(stage), "candidates": [list(candidate) for candidate in stage.candidates]}
            for stage in search_result.trace
        ],
    )
