"""``/api/stores``: named stores, the folders they follow, their files, and search with a trace."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.exchange import Presence
from portico_server.api.native.search import SearchAnswer, SearchQuestion, answer
from portico_server.api.openai import upload
from portico_server.api.parts import ApiServices
from portico_server.core.principal import Principal
from portico_server.core.request import Found
from portico_server.knowledge.sources import spec
from portico_server.knowledge.store import FileStatus, StoreFileRow, StoreInfo, StoreRow

router = new_router(prefix="/api/stores", tags=["Stores"])


class Counts(BaseModel):
    """How many files are in which state."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class Store(BaseModel):
    """A store. ``name`` is what it is called by: its own name, or its id where that is taken. Times since 1970."""

    id: str
    name: str
    description: str
    folder: str | None
    source: str | list[str] | None
    """What it follows besides a folder: an address, several, or a bucket."""
    paused: bool
    """Whether what changes in what it follows is left alone until it is resumed."""
    app: bool
    answers: str
    """How its app answers: ``write``, ``quote``, or ``auto`` for what its model is trusted with."""
    embedding_model: str
    next_embedding_model: str | None
    """The model whose vectors are being made."""
    vector_weight: float | None
    """What the vectors were measured to be worth beside the words; null: what their model's profile says."""
    file_counts: Counts
    problem: str | None
    """Why files could not be indexed, in the words of one of them, or what is wrong with its embedding model."""
    skipped: dict[str, int]
    """How many files and folders the last look at what it follows left out, by reason. Hidden ones are not counted."""
    usage_bytes: int
    created_at: float


class StoreList(BaseModel):
    """All stores that the caller may read, oldest first."""

    data: list[Store]


class StoreWish(BaseModel):
    """A store to be made. With ``app`` it is a chat app, whose ``answers`` are ``auto``, ``write`` or ``quote``.

    With ``folder`` (of the daemon's machine) or ``source`` it mirrors that: ``s3://BUCKET/PREFIX``, an address that
    is a sitemap, a list, a directory index or a document, or a list of documents by their addresses.
    """

    name: str
    folder: str | None = None
    source: str | list[str] | None = None
    embedding_model: str | None = None
    description: str = Field(default="", max_length=2_000)
    app: bool | None = None
    answers: str = "auto"


class RemovedStore(BaseModel):
    """What was removed."""

    id: str
    deleted: bool = True


class StartedSync(BaseModel):
    """The id of a run: follow it at ``/api/runs/{id}/events``."""

    run: str


class SyncPlan(BaseModel):
    """What a sync would do, in names of files; ``moved`` as (from, to), ``skipped`` by reason."""

    added: list[str]
    changed: list[str]
    moved: list[tuple[str, str]]
    removed: list[str]
    unchanged: int
    skipped: dict[str, int]


class StoreFile(BaseModel):
    """A file in a store. ``error`` says why it could not be indexed; times in seconds since 1970."""

    id: str
    filename: str
    bytes: int
    status: FileStatus
    error: str | None
    usage_bytes: int
    attributes: dict[str, str | float | bool]
    created_at: float


class StoreFileList(BaseModel):
    """One page of files; ``after=LAST_ID`` gives the next."""

    data: list[StoreFile]
    has_more: bool


class SkippedFile(BaseModel):
    """A file or a folder that is not read, by its name in what the store follows, and why."""

    name: str
    reason: str


class SkippedFiles(BaseModel):
    """What the last look left out: ``reasons`` counts all of it, ``data`` names the first thousand.

    ``looked_at`` in seconds since 1970, null before the first look. Hidden files and folders of packages
    (``node_modules``, ``venv`` …) are never looked into and not counted.
    """

    data: list[SkippedFile]
    reasons: dict[str, int]
    total: int
    looked_at: float | None


class StoreChange(BaseModel):
    """What is to change; what is left out stays. ``source`` takes the place of what was followed;
    ``embedding_model`` is changed in the background, ``""`` is none.
    """

    description: str | None = Field(default=None, max_length=2_000)
    source: str | list[str] | None = None
    paused: bool | None = None
    answers: str | None = None
    embedding_model: str | None = None


class StoreChanged(Store):
    """The store as it is now. ``run`` makes the vectors of another model; until it ends, the old ones answer."""

    run: str | None


@router.get("")
async def list_stores(parts: TheParts, caller: Caller) -> StoreList:
    """All stores that the caller may read."""
    infos = await parts.stores.describe(await parts.stores.list(caller), caller)
    return StoreList(data=[shown(info, parts, caller) for info in infos])


@router.post("")
async def create_store(wish: StoreWish, parts: TheParts, caller: Caller) -> Store:
    """A new store under a name of its own; one with a folder or a source is an app unless that is declined."""
    row = await parts.stores.create(
        wish.name,
        caller,
        folder=None if wish.folder is None else Path(wish.folder),
        source=wish.source,
        embedding_model=wish.embedding_model,
        description=wish.description,
        app=bool(wish.folder or wish.source) if wish.app is None else wish.app,
        answers=wish.answers,
    )
    return await _shown(parts, row, caller)


@router.get("/{store}")
async def retrieve_store(store: str, parts: TheParts, caller: Caller) -> Store:
    """One of them, by name or id."""
    return await _shown(parts, await parts.stores.get(store, caller), caller)


@router.patch("/{store}")
async def change_store(store: str, change: StoreChange, parts: TheParts, caller: Caller) -> StoreChanged:
    """Another description, embedding model or way to answer; pause or resume following."""
    row = await parts.stores.get(store, caller, "manage")
    values = change.model_dump(include={"description", "paused", "source", "answers"}, exclude_none=True)
    if values:
        row = await parts.stores.update(row.id, caller, values)
    run = None
    if change.embedding_model is not None:
        run = await parts.stores.change_model(row, change.embedding_model)
        row = await parts.stores.get(row.id, caller)
    return StoreChanged(**(await _shown(parts, row, caller)).model_dump(), run=run)


@router.delete("/{store}")
async def delete_store(store: str, parts: TheParts, caller: Caller) -> RemovedStore:
    """Remove a store; its folder and uploaded files stay."""
    return RemovedStore(id=(await parts.stores.delete(store, caller)).id)


@router.post("/{store}/sync")
async def sync_store(store: str, parts: TheParts, caller: Caller) -> StartedSync:
    """Look at the folder or source again: add, change and remove what is new, changed and gone."""
    return StartedSync(
        run=await parts.stores.sync(await parts.stores.get(store, caller, "write", whole=True))
    )


class Reindexing(BaseModel):
    """``files``: read all files again before."""

    files: bool = False


@router.post("/{store}/reindex")
async def reindex_store(
    store: str, parts: TheParts, caller: Caller, wish: Reindexing | None = None
) -> StartedSync:
    """Build the indexes of a store from zero."""
    row = await parts.stores.get(store, caller, "manage")
    return StartedSync(run=await parts.stores.reindex(row, files=wish is not None and wish.files))


@router.get("/{store}/sync/plan")
async def plan_sync(store: str, parts: TheParts, caller: Caller) -> SyncPlan:
    """What a sync would do now, without doing it."""
    plan = await parts.stores.plan(await parts.stores.get(store, caller, "write", whole=True))
    return SyncPlan(**asdict(plan))


@router.post("/{store}/search")
async def search_store(
    store: str, question: SearchQuestion, request: Request, parts: TheParts, caller: Caller
) -> SearchAnswer:
    """Passages that answer a question, best first."""
    row = await parts.stores.get(store, caller)
    with Presence(request.scope["portico.exchange"]):
        found = await parts.runner.call("search", f"store/{row.id}", question.search(), caller)
    assert isinstance(found, Found)
    return answer(found)


@router.get("/{store}/files")
async def list_store_files(
    store: str,
    parts: TheParts,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: str | None = None,
    status: FileStatus | None = None,
) -> StoreFileList:
    """The files of a store, in the order in which they came."""
    row = await parts.stores.get(store, caller)
    page = await parts.stores.contents.list(row, after=after, limit=limit, order="asc", status=status)
    return StoreFileList(data=[_file(item) for item in page.data], has_more=page.has_more)


@router.get("/{store}/skipped")
async def list_skipped_files(store: str, parts: TheParts, caller: Caller) -> SkippedFiles:
    """What lies in the folder or source of a store and is not read, and why."""
    found = await parts.stores.skipped(await parts.stores.get(store, caller, whole=True))
    return SkippedFiles(
        data=[SkippedFile(name=name, reason=reason) for name, reason in found.names.items()],
        reasons=dict(found.reasons),
        total=sum(found.reasons.values()),
        looked_at=found.looked_at or None,
    )


def shown(info: StoreInfo, parts: ApiServices, caller: Principal) -> Store:
    """A store as this protocol adapter describes it to a caller; what is wrong with the configuration is told to admins
    alone.
    """
    row = info.row
    wrong = parts.problems.of_store(row.name) if caller.admin and row.owner is None else None
    return Store(
        id=row.id,
        name=info.name,
        description=row.description,
        folder=row.folder,
        source=None if row.source is None else spec.source_of(row.source).written(),
        paused=row.paused,
        app=row.app,
        answers=row.answers,
        embedding_model=row.embedding_model,
        next_embedding_model=row.next_embedding_model,
        vector_weight=row.vector_weight,
        file_counts=Counts(**asdict(info.counts), total=info.counts.total),
        problem=wrong or info.problem,
        skipped=dict(info.skipped),
        usage_bytes=info.usage_bytes,
        created_at=row.created_at,
    )


def _file(row: StoreFileRow) -> StoreFile:
    return StoreFile(
        id=row.file_id,
        filename=row.filename,
        bytes=row.bytes,
        status=row.status,
        error=row.error_message if row.status == "failed" else None,
        usage_bytes=row.usage_bytes,
        attributes=dict(row.attributes),
        created_at=row.created_at,
    )


async def _shown(parts: ApiServices, row: StoreRow, caller: Principal) -> Store:
    [info] = await parts.stores.describe([row], caller)
    return shown(info, parts, caller)


# ``/api/stores/{store}/export`` and ``/api/stores/import``: a store as one portable file, streamed both ways.


archive_router = new_router(prefix="/api/stores", tags=["Stores"])


class Imported(BaseModel):
    """The store that was made. ``run``, if any, makes vectors that the archive did not bring."""

    store: Store
    run: str | None


@archive_router.get("/{store}/export", response_class=StreamingResponse)
async def export_store(
    store: str, parts: TheParts, caller: Caller, vectors: bool = True
) -> StreamingResponse:
    """A zip archive of the files, the chunks and, unless they are declined, the vectors of a store."""
    row = await parts.stores.get(store, caller, whole=True)
    name = quote(f"{row.name or row.id}.zip")
    return StreamingResponse(
        parts.stores.portable.export(row, vectors=vectors),
        media_type="application/zip",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


@archive_router.post("/import")
async def import_store(request: Request, parts: TheParts, caller: Caller) -> Imported:
    """A store out of an archive: a form with the ``file``, and with a ``name`` if it is to have another."""
    form = await upload.read(request, parts.files)
    try:
        row, run = await parts.stores.portable.restore(
            form.received.path, form.fields.get("name", ""), caller
        )
    finally:
        await parts.files.drop(form.received)
    [info] = await parts.stores.describe([row], caller)
    return Imported(store=shown(info, parts, caller), run=run)


# ``/api/stores/{store}/calibrate``: what the vectors of a store are worth, measured on questions.


calibration_router = new_router(prefix="/api/stores/{store}/calibrate", tags=["Stores"])


class CalibrationWish(BaseModel):
    """``questions`` with the ``file`` or the ``passage`` that answers each, or so many as a chat ``model`` asks."""

    questions: list[dict[str, Any]] | None = None
    generate: int | None = Field(default=None, ge=1, le=500)
    model: str = "default"
    apply: bool = False
    """Use the best weight from now on."""


@calibration_router.post("")
async def calibrate_store(store: str, wish: CalibrationWish, parts: TheParts, caller: Caller) -> StartedSync:
    """Measure the ranking with more and less weight for the vectors; the run's result has the scores."""
    row = await parts.stores.get(store, caller, "manage")
    run = await parts.stores.calibrate(row, caller, wish.model_dump())
    return StartedSync(run=run)


# ``/api/stores/{store}/groups``: the same files cut in other ways, in a tree.


group_router = new_router(prefix="/api/stores/{store}/groups", tags=["Stores"])


class GroupWish(BaseModel):
    """A group to be made. ``CoarseChunk``, ``MediumChunk`` and ``FineChunk`` need no more than their name."""

    name: str
    chunking_strategy: dict[str, Any] | None = None
    parent: str | None = None
    """The group in whose chunks these lie."""
    embedding_model: str | None = None
    """Left out, the store's own; empty, none."""


class Group(BaseModel):
    """A group, and how many files are in it, cannot be, and wait."""

    name: str
    parent: str
    chunking: dict[str, Any]
    embedding_model: str
    completed: int
    failed: int
    waiting: int
    chunks: int
    errors: list[tuple[str, str]]
    """Files that cannot be in it, as (name, why); 100 of the store at most."""


class GroupList(BaseModel):
    """The groups of a store, its own first."""

    data: list[Group]


class Retried(BaseModel):
    """The ids of the runs that try again, none if nothing had failed."""

    runs: list[str]


@group_router.get("")
async def list_groups(store: str, parts: TheParts, caller: Caller) -> GroupList:
    """The groups of a store."""
    row = await parts.stores.get(store, caller)
    [info] = await parts.stores.describe([row], caller)
    found = await parts.stores.groups.list(row, info.counts.completed)
    return GroupList(data=[Group(**asdict(group)) for group in found])


@group_router.post("")
async def add_group(store: str, wish: GroupWish, parts: TheParts, caller: Caller) -> StartedSync:
    """Make a group of all files, in the background; the store serves as before meanwhile."""
    row = await parts.stores.get(store, caller, "manage")
    model = wish.embedding_model
    _, run = await parts.stores.groups.add(
        row,
        wish.name,
        chunking=wish.chunking_strategy,
        parent=wish.parent,
        embedding_model=None if model is None else parts.stores.embedding(model),
        caller=caller,
    )
    return StartedSync(run=run)


@group_router.post("/retry")
async def retry_groups(store: str, parts: TheParts, caller: Caller) -> Retried:
    """Try the files again that could not be in a group. What a model has written of them is kept."""
    row = await parts.stores.get(store, caller, "manage")
    return Retried(runs=await parts.stores.groups.retry(row))


@group_router.delete("/{group}")
async def remove_group(store: str, group: str, parts: TheParts, caller: Caller) -> RemovedStore:
    """Remove a group with its chunks."""
    await parts.stores.groups.remove(await parts.stores.get(store, caller, "manage"), group)
    return RemovedStore(id=group)
