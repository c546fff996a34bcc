"""``/v1/vector_stores``: vector stores, and searching them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field

from portico.wire import Passage
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Presence
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Page
from portico_server.core.attributes import check_metadata
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound
from portico_server.core.filter import parse as parse_filter
from portico_server.core.principal import Principal
from portico_server.core.request import Refine, Search, SearchResult
from portico_server.features.chunkers.chunkers import check_chunking
from portico_server.features.stores.api import vector_store_shapes as shapes
from portico_server.features.stores.api.vector_store_shapes import StoreExpiry
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.store import StoreRow

router = new_router(prefix="/v1/vector_stores", tags=["OpenAI: vector stores"])

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]

MAX_QUERIES = 16
"""Maximum number of queries in one search."""

RANKERS = {"none": "auto", "auto": "auto", "default-2024-11-15": "auto", "default_2024_08_21": "auto"}
"""Maps the names of OpenAI's rankers to Portico's. The names of Portico's own rankers are used unchanged."""


class VectorStoreRequest(BaseModel):
    """A vector store to create. ``embedding_model`` is Portico's addition; without it, the default embedding model is
    used.
    """

    name: str = Field(default="", max_length=256)
    description: str = Field(default="", max_length=2_000)
    file_ids: list[str] = Field(default=[], max_length=500)
    chunking_strategy: dict[str, Any] | None = None
    expires_after: StoreExpiry | None = None
    metadata: dict[str, Any] | None = None
    embedding_model: str | None = None


class VectorStoreChange(BaseModel):
    """Changes to a vector store. Omitted fields stay unchanged."""

    name: str | None = Field(default=None, max_length=256)
    expires_after: StoreExpiry | None = None
    metadata: dict[str, Any] | None = None


class HybridSearch(BaseModel):
    """Weights of the vector score and the word score; only their ratio matters."""

    embedding_weight: float = Field(ge=0, allow_inf_nan=False)
    text_weight: float = Field(ge=0, allow_inf_nan=False)


class RankingOptions(BaseModel):
    """Options for ranking. ``ranker`` may also be one of Portico's rankers: lexical, vector, hybrid, rrf."""

    ranker: str = "auto"
    score_threshold: float = Field(default=0.0, ge=0, le=1)
    hybrid_search: HybridSearch | None = None

    def vector_weight(self) -> float | None:
        """Return the weight of the vector score relative to the word score, from 0 to 1."""
        if self.hybrid_search is None:
            return None
        total = self.hybrid_search.embedding_weight + self.hybrid_search.text_weight
        if total == 0:
            raise InvalidRequest(
                "At least one of 'embedding_weight' and 'text_weight' must be more than 0.",
                param="ranking_options.hybrid_search",
            )
        return self.hybrid_search.embedding_weight / total


class VectorSearchRequest(BaseModel):
    """A search. The results of several queries are merged.

    With ``rewrite_query``, the default model rewrites each query for the search. ``search_query`` in the response is
    the text that was searched for; if the model fails, it is the original query.
    """

    query: str | list[str]
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False


@router.post("")
async def create_vector_store(
    body: VectorStoreRequest, services: TheServices, caller: Caller
) -> shapes.VectorStore:
    """Create a vector store, and add the given files to it."""
    metadata = check_metadata(body.metadata)
    check_chunking(body.chunking_strategy)
    attachments = [FileToAttach(file_id, None, body.chunking_strategy) for file_id in body.file_ids]
    await services.stores.contents.check(attachments, caller)
    row = await services.stores.create(
        body.name,
        caller,
        unique=False,
        description=body.description,
        metadata=metadata,
        expires_after_days=body.expires_after.days if body.expires_after else None,
        embedding_model=body.embedding_model,
    )
    await services.stores.contents.attach(row, attachments, caller)
    return await _to_vector_store(services, row, caller)


@router.get("")
async def list_vector_stores(
    services: TheServices,
    caller: Caller,
    limit: Limit = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
) -> Page[shapes.VectorStore]:
    """Return the vector stores that the caller may read, newest first."""
    for name, cursor in (("after", after), ("before", before)):
        if cursor is not None:
            await _require_cursor(services, cursor, caller, name)
    page = await services.stores.page(caller, limit, order, after_id=after, before_id=before)
    infos = await services.stores.describe(page.data, caller)
    return Page.of([shapes.vector_store(info) for info in infos], page.has_more)


async def _require_cursor(services: ApiServices, cursor: str, caller: Principal, param: str) -> None:
    """Raise `InvalidRequest` unless ``cursor`` is the id of a vector store that the caller may read."""
    try:
        is_id = (await services.stores.get(cursor, caller)).id == cursor
    except (NotFound, Forbidden):
        is_id = False
    if not is_id:
        raise InvalidRequest(f"'{param}' is not the id of a vector store.", param=param)


@router.get("/{store}")
async def retrieve_vector_store(store: str, services: TheServices, caller: Caller) -> shapes.VectorStore:
    """Return one vector store."""
    return await _to_vector_store(services, await services.stores.get(store, caller), caller)


@router.post("/{store}")
async def modify_vector_store(
    store: str, change: VectorStoreChange, services: TheServices, caller: Caller
) -> shapes.VectorStore:
    """Change the name, the expiry or the metadata of a vector store."""
    values: dict[str, Any] = {}
    if change.name is not None:
        values["name"] = change.name
    if "expires_after" in change.model_fields_set:
        values["expires_after_days"] = change.expires_after.days if change.expires_after else None
    if "metadata" in change.model_fields_set:
        values["metadata"] = check_metadata(change.metadata)
    return await _to_vector_store(services, await services.stores.update(store, caller, values), caller)


@router.delete("/{store}")
async def delete_vector_store(store: str, services: TheServices, caller: Caller) -> shapes.Deleted:
    """Delete a vector store. Uploaded files are kept."""
    row = await services.stores.delete(store, caller)
    return shapes.Deleted(id=row.id, object="vector_store.deleted")


@router.post("/{store}/search")
async def search_vector_store(
    store: str, question: VectorSearchRequest, request: Request, services: TheServices, caller: Caller
) -> shapes.HitPage:
    """Return the passages that answer a question, best first."""
    options = question.ranking_options
    queries = [question.query] if isinstance(question.query, str) else question.query
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise InvalidRequest(
            f"'query' takes 1 to {MAX_QUERIES} questions, not {len(queries)}.", param="query"
        )
    row = await services.stores.get(store, caller)
    passages: list[Passage] = []
    searched_queries: list[str] = []
    with Presence(request.scope["portico.exchange"]):
        for query in queries:
            search = Search(
                query,
                question.max_num_results,
                None if question.filters is None else parse_filter(question.filters),
                options.score_threshold,
                ranker(RANKERS.get(options.ranker, options.ranker), "ranking_options.ranker"),
                refine=Refine(rewrite="replace" if question.rewrite_query else ""),
                vector_weight=options.vector_weight(),
            )
            servable = services.stores.served.servable(row)
            result = await services.runner.call("search", f"store/{row.id}", search, caller, servable)
            assert isinstance(result, SearchResult)
            passages.extend(result.passages)
            searched_queries.extend(result.queries or (query,))
    return shapes.hits(searched_queries, merge_passages(passages, question.max_num_results))


def ranker(name: str, param: str) -> Literal["auto", "lexical", "vector", "hybrid", "rrf"]:
    """Return the name if it is one of Portico's rankers. Raise `InvalidRequest` for any other name."""
    match name:
        case "auto" | "lexical" | "vector" | "hybrid" | "rrf":
            return name
    ranker_names = "auto, none, lexical, vector, hybrid, rrf"
    raise InvalidRequest(f"Unknown ranker '{name[:40]}'. Rankers: {ranker_names}.", param=param)


def merge_passages(passages: Sequence[Passage], limit: int) -> list[Passage]:
    """Merge the results of several searches: return each passage once, with its best score, best first."""
    best: dict[tuple[str, int, str], Passage] = {}
    for passage in passages:
        key = (passage.file_id, passage.place.start, passage.text)
        if key not in best or best[key].score < passage.score:
            best[key] = passage
    return sorted(best.values(), key=lambda passage: -passage.score)[:limit]


async def _to_vector_store(services: ApiServices, row: StoreRow, caller: Principal) -> shapes.VectorStore:
    [info] = await services.stores.describe([row], caller)
    return shapes.vector_store(info)
