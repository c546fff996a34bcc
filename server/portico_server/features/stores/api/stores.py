"""``/api/stores``: named stores, their sources and files, and searches with a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from portico.schemas.chunks import FileChunk
from portico.schemas.stores import (
    FileAccess,
    SkippedFile,
    Store,
    StoreChanged,
    StoreFile,
    StoreThemes,
    SyncPlan,
)
from portico_server.api.declarations import binary
from portico_server.api.endpoint import Caller, TheAuth, TheServices, new_router
from portico_server.api.exchange import Exchange, Presence
from portico_server.api.services import ApiServices
from portico_server.api.shapes import (
    Listed,
    ListedPage,
    ListedPart,
    RemovedId,
    StartedRun,
    ThePaging,
    shaped,
)
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.core.request import SearchResult
from portico_server.core.training_passages import StorePassage
from portico_server.features.stores.access import explain
from portico_server.features.stores.api.description import to_store
from portico_server.features.stores.api.search import SearchAnswer, SearchRequest, answer
from portico_server.features.stores.contents import MAX_MARKED_CHARS, MAX_PAGE
from portico_server.features.stores.neighbours import MAX_NEIGHBOURS_ROWS, NeighbourPage, require_links
from portico_server.features.stores.store import (
    EMBEDDED,
    FileStatus,
    IndexName,
    StoreFileRow,
    StoreRow,
)

router = new_router(tagged=True, prefix="/api/stores", tags=["Stores"])

MAX_NUMBER: Final = 2**53
"""Largest chunk number or character position: the largest integer that JSON numbers represent exactly."""

MAX_LISTED: Final = 100_000
"""Maximum number of stores in a list without a limit."""

MAX_CHUNKS: Final = 1_000
"""Maximum number of chunks on one page of a file's chunks."""


MAX_READ_PASSAGES: Final = 500
"""Maximum number of a store's passages from which questions are generated."""


class StoreRequest(BaseModel, extra="forbid"):
    """A store to create. With ``app``, the store also becomes a chat app, whose ``answers`` are ``auto``, ``write`` or
    ``quote``.

    With ``folder`` (on the daemon's machine) or ``source``, the store mirrors that location. A source is
    ``s3://BUCKET/PREFIX``, ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``, ``webdav+https://HOST/PATH``,
    ``imaps://HOST/FOLDER``, the address of a sitemap, a feed, a list, a directory index or a document, or a list of
    document addresses.
    """

    name: str
    folder: str | None = None
    source: str | list[str] | None = None
    embedding_model: str | None = None
    description: str = Field(default="", max_length=2_000)
    app: bool | None = None
    answers: str = "auto"
    keep_removed: bool = False
    """Whether to keep files that were removed from the source."""
    search: dict[str, Any] | None = None
    """How the store's app searches: ``steps`` is ``off``, ``auto`` or a number from 2 to 4, see ``SearchRequest``;
    ``max_tokens``, ``max_seconds``, ``max_calls`` limit how much these steps use models. ``reranker`` is ``auto``
    (the default), ``off`` or the name of a model.
    """
    links: bool = False
    """Link passages by the terms they share, for questions whose answers span several passages."""
    index: IndexName = EMBEDDED
    """Where the store's vectors are searched: ``embedded`` in the daemon's memory, ``qdrant`` in its files, or
    ``pgvector`` in its PostgreSQL.
    """
    rights: str | dict[str, list[str] | dict[str, list[str]]] = "off"
    """Who may read the mirrored files: ``off`` (all readers of the store), ``source`` (the groups that may read them at
    the source), or groups by the beginnings of file names; the longest decides, and ``*`` is the group of all readers.
    ``{"source": {NAME: [GROUP]}}`` maps the users and groups of the source to groups; other names grant nothing.
    """


class StoreFileList(BaseModel):
    """One page of files; pass the last id as ``after`` to get the next page."""

    data: list[StoreFile]
    has_more: bool


class SkippedFiles(BaseModel):
    """Files that the last scan skipped: ``reasons`` counts all of them, ``data`` names the first thousand.

    ``looked_at`` is the time of the scan, in seconds since 1970, null before the first scan. Hidden files and package
    folders (``node_modules``, ``venv`` …) are never scanned or counted.
    """

    data: list[SkippedFile]
    reasons: dict[str, int]
    total: int
    looked_at: float | None


class StoreChange(BaseModel, extra="forbid"):
    """Changes to a store; omitted fields stay unchanged.

    ``source`` replaces the previous source. ``embedding_model`` changes in the background; ``""`` means none.
    ``vector_weight`` is the weight of the vector score relative to the word score, as `calibrate` measures it.
    ``links`` are created or removed in the background. The vectors move to another ``index`` in the background.
    """

    description: str | None = Field(default=None, max_length=2_000)
    source: str | list[str] | None = None
    keep_removed: bool | None = None
    search: dict[str, Any] | None = None
    paused: bool | None = None
    answers: str | None = None
    embedding_model: str | None = None
    vector_weight: float | None = Field(default=None, ge=0, le=1)
    guard: str | None = None
    """What happens to changes that turn answers of guard questions wrong: ``hold``, ``warn`` or ``off``."""
    links: bool | None = None
    index: IndexName | None = None
    rights: str | dict[str, list[str] | dict[str, list[str]]] | None = None
    """Who may read the mirrored files, see ``StoreRequest``. Only an admin can change this. Until the sync that follows
    has ended, nobody else may read them.
    """


@router.get("")
async def list_stores(
    services: TheServices,
    caller: Caller,
    paging: ThePaging,
) -> ListedPage[Store]:
    """List the stores that the caller may read, oldest first; without ``limit`` all of them.

    If ``has_more`` is true, pass ``last_id`` as ``after`` to get the next page. ``query``: only stores whose names
    contain this text.
    """
    if paging.after_id is not None and not paging.after_id.startswith("vs_"):
        raise InvalidRequest(f"'{paging.after_id[:80]}' is not the id of a store.", param="after")
    page = await services.stores.page(
        caller, paging.limit or MAX_LISTED, "asc", after_id=paging.after_id, query=paging.query
    )
    infos = await services.stores.describe(page.data, caller)
    return ListedPage.of([to_store(info, services, caller) for info in infos], page.has_more)


@router.post("")
async def create_store(body: StoreRequest, services: TheServices, caller: Caller) -> Store:
    """Create a store. A store with a folder or a source also becomes an app, unless ``app`` is false."""
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
        index=body.index,
        rights=body.rights,
    )
    return await _to_store(services, row, caller)


@router.get("/{store}")
async def retrieve_store(store: str, services: TheServices, caller: Caller) -> Store:
    """Return a store by name or id."""
    return await _to_store(services, await services.stores.get(store, caller), caller)


@router.patch("/{store}")
async def change_store(
    store: str, change: StoreChange, services: TheServices, caller: Caller
) -> StoreChanged:
    """Change a store: its description, embedding model, vector weight, index, answer mode, or links between its
    passages. Or pause or resume following its source.
    """
    row = await services.stores.get(store, caller, "manage")
    await services.stores.jobs.check_change(row, model_name=change.embedding_model, index=change.index)
    values = change.model_dump(
        include={
            "description",
            "paused",
            "source",
            "keep_removed",
            "search",
            "answers",
            "vector_weight",
            "guard",
            "rights",
        },
        exclude_none=True,
    )
    if values:
        row = await services.stores.update(row.id, caller, values)
    run = None
    if change.links is not None:
        run = await services.stores.jobs.link(row, change.links)
        row = await services.stores.get(row.id, caller)
    if change.index is not None:
        run = await services.stores.jobs.move(row, change.index)
        row = await services.stores.get(row.id, caller)
    if change.embedding_model is not None:
        run = await services.stores.jobs.change_model(row, change.embedding_model)
        row = await services.stores.get(row.id, caller)
    return shaped(StoreChanged, await _to_store(services, row, caller), run=run)


@router.delete("/{store}")
async def delete_store(store: str, services: TheServices, caller: Caller) -> RemovedId:
    """Delete a store. Its folder and the uploaded files are kept."""
    return RemovedId(id=(await services.stores.delete(store, caller)).id)


@router.post("/{store}/sync")
async def sync_store(store: str, services: TheServices, caller: Caller) -> StartedRun:
    """Sync a store with its folder or source: add new files, update changed files and remove deleted files."""
    return StartedRun(
        run=await services.stores.sync(await services.stores.get(store, caller, "write", is_whole=True))
    )


class Reindexing(BaseModel, extra="forbid"):
    """``files``: before rebuilding the indexes, read all files again."""

    files: bool = False


@router.post("/{store}/reindex")
async def reindex_store(
    store: str, services: TheServices, caller: Caller, body: Reindexing | None = None
) -> StartedRun:
    """Rebuild the indexes of a store from scratch."""
    row = await services.stores.get(store, caller, "manage")
    return StartedRun(run=await services.stores.jobs.reindex(row, files=body is not None and body.files))


@router.get("/{store}/sync/plan")
async def plan_sync(store: str, services: TheServices, caller: Caller) -> SyncPlan:
    """Return the changes that a sync would make now, without making them."""
    return await services.stores.plan(await services.stores.get(store, caller, "write", is_whole=True))


@router.post("/{store}/search")
async def search_store(
    store: str, question: SearchRequest, request: Request, services: TheServices, caller: Caller
) -> SearchAnswer:
    """Return the passages that answer a question, best first."""
    return answer(await _find(store, question, request.scope["portico.exchange"], services, caller))


async def _find(
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
    """Handle `search_store` without FastAPI, whose overhead exceeds the time of the search. If the request is not a
    search or its body is invalid, do nothing and return ``False``.
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
    search_result = await _find(store, question, exchange, services, exchange.caller)
    await exchange.answer(200, orjson.dumps({"data": search_result.passages, "trace": search_result.trace}))
    return True


@router.get("/{store}/questions")
async def propose_questions(store: str, services: TheServices, caller: Caller) -> Listed[str]:
    """Return up to three questions that a store's documents can answer. Each question was tested with a search whose
    result was judged.

    A key that can read only a part of the store gets no questions, because all documents were used to judge them.
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
        data=await services.runner.wait(await services.runner.begin("questions", card.name, caller, work))
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
    """List the files of a store in the order in which they were added."""
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
    """List the chunks of a file in order, starting after number ``after``, with their positions in the file.

    ``group``: a chunk group of the store; by default the default group.
    """
    row = await services.stores.get(store, caller)
    chunk_rows, has_more = await services.stores.contents.chunks(row, file_id, group, after, limit)
    data = [
        FileChunk(chunk=chunk_row.id, number=chunk_row.ordinal, text=chunk_row.text, place=chunk_row.place)
        for chunk_row in chunk_rows
    ]
    return ListedPart(data=data, has_more=has_more)


class PageRequest(BaseModel, extra="forbid"):
    """A page of a file, counted from 1, and the passage to mark on it."""

    page: int = Field(ge=1, le=MAX_PAGE)
    passage: str = Field("", max_length=MAX_MARKED_CHARS)


@router.get("/{store}/files/{file_id}/access")
async def explain_access(
    store: str, file_id: str, services: TheServices, auth: TheAuth, caller: Caller, key: str | None = None
) -> FileAccess:
    """Return whether a key may read a file of a store, and which rule decides. ``key``: the id or name of a key or of a
    person who signs in; by default the caller's own. Only for admins.
    """
    row = await services.stores.get(store, caller)
    caller.require("admin")
    file = await services.stores.contents.get(row, file_id)
    if key is None:
        return await explain(row, file, caller)
    for item in auth.keys.list():
        if key in (item.id, item.name):
            return await explain(row, file, auth.keys.principal(item.id))
    raise NotFound(f"The key '{key[:80]}' does not exist. List the keys: portico keys list.", param="key")


@router.post(
    "/{store}/files/{file_id}/page",
    response_class=Response,
    responses=binary("The image", "image/png"),
)
async def draw_page(
    store: str, file_id: str, body: PageRequest, services: TheServices, caller: Caller
) -> Response:
    """Draw a page of a PDF as a PNG image of at most 1,600 pixels on its longer side, with a passage marked at its
    position.
    """
    row = await services.stores.get(store, caller)
    picture = await services.stores.contents.page(row, file_id, caller, body.page, body.passage)
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
    """List the passages linked to a passage by shared terms.

    Specify the passage by ``chunk``, its number in the trace of a search, or by ``file`` and ``start``: the file's id
    and the position of a character in the passage. ``after`` skips that many passages.
    """
    row = await services.stores.get(store, caller)
    if (chunk is None) == (file is None):
        raise InvalidRequest("Specify the passage by either 'chunk' or 'file'.", param="chunk")
    if chunk is None:
        chunk = await services.stores.links.chunk_at(row, file or "", start)
    return await services.stores.links.neighbours(row, chunk, after=after, limit=limit)


@router.get("/{store}/themes")
async def read_themes(store: str, services: TheServices, caller: Caller) -> StoreThemes:
    """Return what a store is about: its themes, and the names that its passages mention most often.

    They are computed from the words of at most 600 passages, without a language model.
    """
    row = await services.stores.get(store, caller)
    return await services.stores.read_themes(row)


@router.get(
    "/{store}/graph",
    response_class=StreamingResponse,
    responses=binary("The graph", "application/graphml+xml"),
)
async def export_graph(store: str, services: TheServices, caller: Caller) -> StreamingResponse:
    """Export the passages of a store and the terms that link them, as GraphML."""
    row = await services.stores.get(store, caller)
    require_links(row)
    return StreamingResponse(services.stores.links.graph(row), media_type="application/graphml+xml")


@router.get("/{store}/skipped")
async def list_skipped_files(store: str, services: TheServices, caller: Caller) -> SkippedFiles:
    """List the files in a store's folder or source that are not read, with the reasons."""
    skipped_rows = await services.stores.list_skipped(await services.stores.get(store, caller, is_whole=True))
    return SkippedFiles(
        data=[SkippedFile(name=name, reason=reason) for name, reason in skipped_rows.names.items()],
        reasons=dict(skipped_rows.reasons),
        total=sum(skipped_rows.reasons.values()),
        looked_at=skipped_rows.looked_at or None,
    )


def _file(row: StoreFileRow) -> StoreFile:
    error = row.error_message if row.status == "failed" else None
    return shaped(StoreFile, row, id=row.file_id, error=error)


async def _to_store(services: ApiServices, row: StoreRow, caller: Principal) -> Store:
    [info] = await services.stores.describe([row], caller)
    return to_store(info, services, caller)
