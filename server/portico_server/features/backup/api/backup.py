"""``/api/backup`` and ``/api/vacuum``: a daemon's home folder as one archive, and the release of unused disk space."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from portico import _build
from portico.schemas.daemon import Vacuumed
from portico_server.api.declarations import ARCHIVE
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.archives.stream import Blocks
from portico_server.core import pools
from portico_server.features.backup.write import Backup, backup, check_here, noted_settings

router = new_router(prefix="/api", tags=["Daemon"])


class _Held(StreamingResponse):
    """A response that releases its resources when sending ends, even if sending never started."""

    def __init__(self, stack: AsyncExitStack, pieces: Blocks, **options: Any) -> None:
        super().__init__(pieces, **options)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _archive_blocks(new_backup: Backup, stack: AsyncExitStack) -> Blocks:
    """Yield the archive. Its last piece follows after all resources are released, so that the next backup can start."""
    last = b""
    async for piece in new_backup.pieces():
        if last:
            yield last
        last = piece
    await stack.aclose()
    yield last


@router.get("/backup", response_class=StreamingResponse, responses=ARCHIVE)
async def back_up(services: TheServices, _caller: Admin, models: bool = False) -> StreamingResponse:
    """Return a zip archive of all data of the daemon at one moment. ``models`` adds the model files."""
    settings = services.settings
    check_here(settings)
    stack = AsyncExitStack()
    new_backup = await stack.enter_async_context(
        backup(
            settings.home,
            version=await pools.FILES.run(_build.version),
            settings=noted_settings(services.loaded),
            models=settings.models if models else None,
        )
    )
    name = time.strftime("portico-%Y%m%d-%H%M%S.zip")
    return _Held(
        stack,
        _archive_blocks(new_backup, stack),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Portico-Backup-Bytes": str(new_backup.held.bytes),
            "Portico-Backup-Missing": str(new_backup.missing),
        },
    )


@router.post("/vacuum")
async def vacuum(services: TheServices, _caller: Admin) -> Vacuumed:
    """Release unused space in the database file."""
    check_here(services.settings)
    vacuum_result = await services.database.vacuum()
    if vacuum_result is None:
        size = services.settings.database_path.stat().st_size
        return Vacuumed(before=size, after=size, freed=0, converted=False)
    return vacuum_result
