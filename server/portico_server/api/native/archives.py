"""``/api/stores/{store}/export`` and ``/api/stores/import``: a store as one portable file, streamed both ways."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from portico_server.api.depends import Caller, TheParts
from portico_server.api.native.stores import Store, shown
from portico_server.api.openai import upload
from portico_server.api.router import router as new_router

router = new_router(prefix="/api/stores", tags=["Stores"])


class Imported(BaseModel):
    """The store that was made. ``run``, if any, makes vectors that the archive did not bring."""

    store: Store
    run: str | None


@router.get("/{store}/export", response_class=StreamingResponse)
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


@router.post("/import")
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
