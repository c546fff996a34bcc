"""``/api/stores``: named stores, the folders they follow, their files, and search with a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from portico.schemas.chunks import FileChunk
from portico.schemas.stores import SkippedFile, Store, StoreChanged, StoreFile, SyncPlan
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Exchange, Presence
from portico_server.api.native.search import SearchAnswer, SearchRequest, answer
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed, ListedPart, RemovedId, StartedRun, shaped
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.request import SearchResult
from portico_server.core.training_passages import StorePassage
from portico_server.knowledge.contents import MAX_MARKED_CHARS, MAX_PAGE
from portico_server.knowledge.neighbours import MAX_NEIGHBOURS_ROWS, NeighbourPage, require_links
from portico_server.knowledge.sources import spec
from portico_server.knowledge.store import FileStatus, StoreFileRow, StoreInfo, StoreRow

router = new_router(prefix="/api/stores", tags=["Stores"])

MAX_NUMBER: Final = 2**53
"""The largest number of a chunk or a character: what JSON holds exactly."""

MAX_CHUNKS: Final = 1_000
"""Chunks of a file that are listed at once."""


MAX_READ_PASSAGES: Final = 500
"""Passages of a store of which questions are made."""


class StoreRequest(BaseModel, extra="forbid"):
    """A store to be made. With ``app`` it is a chat app, whose ``answers`` are ``auto``, ``write`` or ``quote``.

    With ``folder`` (of the daemon's machine) or ``source`` it mirrors that: ``s3://BUCKET/PREFIX``,
    ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``, ``webdav+https://HOST/PATH``, ``imaps://HOST/FOLDER``, an
    address that is a sitemap, a feed, a list, a directory index or a document, or a list of documents by their
    addresses.
    """

    name: str
    folder: str | None = None
    source: str | list[str] | None = None
    embedding_model: str | None = None
    description: str = Field(default="", max_length=2_000)
    app: bool | None = None
    answers: str = "auto"
    keep_removed: bool = False
    """Files stay that are gone from what it follows."""
    search: dict[str, Any] | None = None
    """How its app searches: ``steps`` is ``off``, ``auto`` or a number from 2 to 4, see ``SearchRequest``;
    ``max_tokens``, ``max_seconds``, ``max_calls``: what they may take of a model."""
    links: bool = False
    """Link passages by what they name, for questions whose answer lies in several of them."""


class StoreFileList(BaseModel):
    """One page of files; ``after=LAST_ID`` gives the next."""

    data: list[StoreFile]
    has_more: bool


class SkippedFiles(BaseModel):
    """What the last look left out: ``reasons`` counts all of it, ``data`` names the first thousand.

    ``looked_at`` in seconds since 1970, null before the first look. Hidden files and folders of packages
    (``node_modules``, ``venv`` …) are never looked into and not counted.
    """

    data: list[SkippedFile]
    reasons: dict[str, int]
    total: int
    looked_at: float | None


class StoreChange(BaseModel, extra="forbid"):
    """What is to change; what is left out stays. ``source`` takes the place of what was followed;
    ``embedding_model`` is changed in the background, ``""`` is none; ``vector_weight`` is what its vectors are worth
    beside the words, as `calibrate` measures it; ``links`` are made, or removed, in the background.
    """

    description: str | None = Field(default=None, max_length=2_000)
    source: str | list[str] | None = None
    keep_removed: bool | None = None
    search: dict[str, Any] | None = None
    paused: bool | None = None
    answers: str | None = None
    embedding_model: str | None = None
    vector_weight: float | None = Field(default=None, ge=0, le=1)
    links: bool | None = None


@router.get("")
async def list_stores(services: TheServices, caller: Caller) -> Listed[Store]:
    """All stores that the caller may read, oldest first."""
    infos = await services.stores.describe(await services.stores.list(caller), caller)
    return Listed(data=[shown(info, services, caller) for info in infos])


@router.post("")
async def create_store(body: StoreRequest, services: TheServices, caller: Caller) -> Store:
    """A new store under a name of its own; one with a folder or a source is an app unless that is declined."""
    row = await services.stores.create(
        body.name,
        caller,
        folder=None if body.folder is None else Path(body.folder),
        source=body.source,
        embedding_model=body.embedding_model,
        description=body.description,
        app=bool(body.folder or body.source) if body.app is None else body.app,
        answers=body.answers,
        links=body.links,
        keep_removed=body.keep_removed,
        search=body.search,
    )
    return await _shown(services, row, caller)


@router.get("/{store}")
async def retrieve_store(store: str, services: TheServices, caller: Caller) -> Store:
    """One of them, by name or id."""
    return await _shown(services, await services.stores.get(store, caller), caller)


@router.patch("/{store}")
async def change_store(
    store: str, change: StoreChange, services: TheServices, caller: Caller
) -> StoreChanged:
    """Another description, embedding model, weight of its vectors or way to answer; links between its passages or none;
    pause or resume following.
    """
    row = await services.stores.get(store, caller, "manage")
    values = change.model_dump(
        include={"description", "paused", "source", "keep_removed", "search", "answers", "vector_weight"},
        exclude_none=True,
    )
    if values:
        row = await services.stores.update(row.id, caller, values)
    run = None
    if change.links is not None:
        run = await services.stores.jobs.link(row, change.links)
        row = await services.stores.get(row.id, caller)
    if change.embedding_model is not None:
        run = await services.stores.jobs.change_model(row, change.embedding_model)
        row = await services.stores.get(row.id, caller)
    return shaped(StoreChanged, await _shown(services, row, caller), run=run)


@router.delete("/{store}")
async def delete_store(store: str, services: TheServices, caller: Caller) -> RemovedId:
    """Remove a store; its folder and uploaded files stay."""
    return RemovedId(id=(await services.stores.delete(store, caller)).id)


@router.post("/{store}/sync")
async def sync_store(store: str, services: TheServices, caller: Caller) -> StartedRun:
    """Look at the folder or source again: add, change and remove what is new, changed and gone."""
    return StartedRun(
        run=await services.stores.sync(await services.stores.get(store, caller, "write", is_whole=True))
    )


class Reindexing(BaseModel, extra="forbid"):
    """``files``: read all files again before."""

    files: bool = False


@router.post("/{store}/reindex")
async def reindex_store(
    store: str, services: TheServices, caller: Caller, body: Reindexing | None = None
) -> StartedRun:
    """Build the indexes of a store from zero."""
    row = await services.stores.get(store, caller, "manage")
    return StartedRun(run=await services.stores.jobs.reindex(row, files=body is not None and body.files))


@router.get("/{store}/sync/plan")
async def plan_sync(store: str, services: TheServices, caller: Caller) -> SyncPlan:
    """What a sync would do now, without doing it."""
    return await services.stores.plan(await services.stores.get(store, caller, "write", is_whole=True))


@router.post("/{store}/search")
async def search_store(
    store: str, question: SearchRequest, request: Request, services: TheServices, caller: Caller
) -> SearchAnswer:
    """Passages that answer a question, best first."""
    return answer(await _found(store, question, request.scope["portico.exchange"], services, caller))


async def _found(
    store: str, question: SearchRequest, exchange: Exchange, services: ApiServices, caller: Principal
) -> SearchResult:
    row = await services.stores.get(store, caller)
    with Presence(exchange):
        search_result = await services.runner.call(
            "search", f"store/{row.id}", question.search(), caller, services.stores.served.servable(row)
        )
    assert isinstance(search_result, SearchResult)
    return search_result


SEARCH_PATH: Final = f"{router.prefix}/{{store}}/search"


async def search_directly(exchange: Exchange, services: ApiServices) -> bool:
    """`search_store` without a framework around it, which takes longer than the search. ``False``: this is not one, or
    its body is not as it should be; nothing was done.
    """
    path: str = exchange.scope["path"]
    store = path.removeprefix(f"{router.prefix}/").removesuffix("/search")
    if exchange.scope["method"] != "POST" or path != f"{router.prefix}/{store}/search":
        return False
    if not store or "/" in store:
        return False
    try:
        question = SearchRequest.model_validate(exchange.parsed)
    except ValidationError:
        return False
    assert exchange.caller is not None
    exchange.scope["portico.route"] = SEARCH_PATH
    search_result = await _found(store, question, exchange, services, exchange.caller)
    await exchange.answer(200, orjson.dumps({"data": search_result.passages, "trace": search_result.trace}))
    return True


@router.get("/{store}/questions")
async def propose_questions(store: str, services: TheServices, caller: Caller) -> Listed[str]:
    """Return up to three questions that the documents of a store answer; each was searched for and judged.

    A key that reads only a part of the store gets none, because the judgement takes in all documents.
    """
    row = await services.stores.get(store, caller)
    if not row.whole:
        return Listed(data=[])
    card = services.stores.served.servable(row).card
    version = (row.last_change, row.embedding_model)

    async def read() -> Sequence[StorePassage]:
        return await services.stores.passages(row.id, caller, MAX_READ_PASSAGES)

    async def work(context: Context) -> Sequence[str]:
        return await services.store_apps.propose(card, version, read, context)

    return Listed(
        data=await services.runner.wait(services.runner.begin("questions", card.name, caller, work))
    )


@router.get("/{store}/files")
async def list_store_files(
    store: str,
    services: TheServices,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: str | None = None,
    status: FileStatus | None = None,
) -> StoreFileList:
    """The files of a store, in the order in which they came."""
    row = await services.stores.get(store, caller)
    page = await services.stores.contents.list(row, after=after, limit=limit, order="asc", status=status)
    return StoreFileList(data=[_file(item) for item in page.data], has_more=page.has_more)


@router.get("/{store}/files/{file_id}/chunks")
async def list_file_chunks(
    store: str,
    file_id: str,
    services: TheServices,
    caller: Caller,
    group: Annotated[str | None, Query(max_length=64)] = None,
    after: Annotated[int, Query(ge=-1, le=MAX_NUMBER)] = -1,
    limit: Annotated[int, Query(ge=1, le=MAX_CHUNKS)] = 100,
) -> ListedPart[FileChunk]:
    """The pieces into which a file was cut, in their order behind number ``after``, with where they stand in it.

    ``group``: one of the store's groups; left out, its own.
    """
    row = await services.stores.get(store, caller)
    chunk_rows, has_more = await services.stores.contents.chunks(row, file_id, group, after, limit)
    data = [
        FileChunk(chunk=chunk_row.id, number=chunk_row.ordinal, text=chunk_row.text, place=chunk_row.place)
        for chunk_row in chunk_rows
    ]
    return ListedPart(data=data, has_more=has_more)


class PageRequest(BaseModel, extra="forbid"):
    """Which page of a file, counted from 1, and what is to be marked on it."""

    page: int = Field(ge=1, le=MAX_PAGE)
    passage: str = Field("", max_length=MAX_MARKED_CHARS)


@router.post(
    "/{store}/files/{file_id}/page",
    response_class=Response,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def draw_page(
    store: str, file_id: str, given: PageRequest, services: TheServices, caller: Caller
) -> Response:
    """A page of a PDF as a picture (PNG, at most 1,600 dots long) with a passage marked where it stands."""
    row = await services.stores.get(store, caller)
    picture = await services.stores.contents.page(row, file_id, given.page, given.passage)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, no-store"})


@router.get("/{store}/links")
async def list_neighbours(
    store: str,
    services: TheServices,
    caller: Caller,
    chunk: Annotated[int | None, Query(ge=1, le=MAX_NUMBER)] = None,
    file: Annotated[str | None, Query(max_length=200)] = None,
    start: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    after: Annotated[int, Query(ge=0, le=10_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS_ROWS)] = 20,
) -> NeighbourPage:
    """The passages that name what another names: a ``chunk``, as the trace of a search has it, or the one of a ``file``
    (its id) that holds the character ``start``, as a passage's place has it. ``after`` so many.
    """
    row = await services.stores.get(store, caller)
    if (chunk is None) == (file is None):
        raise InvalidRequest("Give either 'chunk' or 'file', to say which passage is meant.", param="chunk")
    if chunk is None:
        chunk = await services.stores.links.chunk_at(row, file or "", start)
    return await services.stores.links.neighbours(row, chunk, after=after, limit=limit)


@router.get("/{store}/graph", response_class=StreamingResponse)
async def export_graph(store: str, services: TheServices, caller: Caller) -> StreamingResponse:
    """The passages of a store and the terms that link them, as GraphML."""
    row = await services.stores.get(store, caller)
    require_links(row)
    return StreamingResponse(services.stores.links.graph(row), media_type="application/graphml+xml")


@router.get("/{store}/skipped")
async def list_skipped_files(store: str, services: TheServices, caller: Caller) -> SkippedFiles:
    """What lies in the folder or source of a store and is not read, and why."""
    skipped_rows = await services.stores.skipped(await services.stores.get(store, caller, is_whole=True))
    return SkippedFiles(
        data=[SkippedFile(name=name, reason=reason) for name, reason in skipped_rows.names.items()],
        reasons=dict(skipped_rows.reasons),
        total=sum(skipped_rows.reasons.values()),
        looked_at=skipped_rows.looked_at or None,
    )


def shown(info: StoreInfo, services: ApiServices, caller: Principal) -> Store:
    """A store as this protocol adapter describes it to a caller; what is wrong with the configuration is told to admins
    alone.
    """
    row = info.row
    wrong = services.problems.of_store(row.name) if caller.admin and row.owner is None else None
    return shaped(
        Store,
        row,
        name=info.name,
        source=None if row.source is None else spec.source_of(row.source).written(),
        file_counts=info.counts,
        problem=wrong or info.problem,
        skipped=dict(info.skipped),
        search=dict(row.search or {}),
        usage_bytes=info.usage_bytes,
    )


def _file(row: StoreFileRow) -> StoreFile:
    error = row.error_message if row.status == "failed" else None
    return shaped(StoreFile, row, id=row.file_id, error=error)


async def _shown(services: ApiServices, row: StoreRow, caller: Principal) -> Store:
    [info] = await services.stores.describe([row], caller)
    return shown(info, services, caller)
