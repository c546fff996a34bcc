"""``/api/stores/{store}/export`` and ``/api/stores/import``: a store as one portable file, streamed in both
directions.
"""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from portico.schemas.stores import Store
from portico_server.api.declarations import ARCHIVE
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.openai import upload
from portico_server.features.stores.api.description import to_store

router = new_router(prefix="/api/stores", tags=["Stores"])


class Imported(BaseModel):
    """The imported store. ``run``, if set, is the run that creates the vectors missing from the archive."""

    store: Store
    run: str | None


@router.get("/{store}/export", response_class=StreamingResponse, responses=ARCHIVE)
async def export_store(
    store: str, services: TheServices, caller: Caller, vectors: bool = True
) -> StreamingResponse:
    """Return a zip archive of a store's files and chunks, and of its vectors unless ``vectors`` is false."""
    row = await services.stores.get(store, caller, is_whole=True)
    await services.stores.portable.require_portable(row)
    name = quote(f"{row.name or row.id}.zip")
    return StreamingResponse(
        services.stores.portable.export(row, vectors=vectors),
        media_type="application/zip",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


_ARCHIVE = upload.declare_form(
    ["file"],
    {
        "file": upload.FILE,
        "name": {"type": "string", "description": "Defaults to the name in the archive"},
    },
)


@router.post("/import", openapi_extra=_ARCHIVE)
async def import_store(request: Request, services: TheServices, caller: Caller) -> Imported:
    """Import a store from an archive. The form contains the archive as ``file``, and optionally a new ``name`` for the
    store.
    """
    form = await upload.read(request, services.files)
    try:
        row, run = await services.stores.portable.restore(
            form.received.path, form.fields.get("name", ""), caller
        )
    finally:
        await services.files.drop(form.received)
    [info] = await services.stores.describe([row], caller)
    return Imported(store=to_store(info, services, caller), run=run)
