"""Responses with the bytes of files: client uploads and files written by runs. Every protocol adapter that serves
files uses this module.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Literal

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from portico_server.core.errors import NotFound
from portico_server.db.artifacts import ArtifactRow
from portico_server.runs.artifacts import ArtifactStore

_PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Image types that a browser may show inline: formats that cannot contain a script."""


class KeptFileResponse(FileResponse):
    """A response with the bytes of a file. ``context_manager`` keeps the file available while the bytes are sent.

    A browser never shows the file as a page of the daemon, because it may contain foreign scripts. Raises ``missing``
    if the file does not exist.
    """

    def __init__(
        self,
        context_manager: AbstractAsyncContextManager[Path],
        name: str,
        media_type: str,
        missing: NotFound,
        *,
        disposition: Literal["attachment", "inline"] = "attachment",
    ) -> None:
        super().__init__(
            "",
            media_type=media_type,
            filename=name,
            content_disposition_type=disposition,
            headers={"Content-Security-Policy": "sandbox"},
        )
        self._context_manager = context_manager
        self._missing = missing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._context_manager as path:
            if not path.is_file():
                raise self._missing
            self.path = path
            await super().__call__(scope, receive, send)


def artifact_response(artifacts: ArtifactStore, row: ArtifactRow) -> KeptFileResponse:
    """Return a response with the bytes of an artifact. A browser may show an image inline."""
    return KeptFileResponse(
        artifacts.open(row.sha256),
        row.name.rpartition("/")[2],
        row.media_type,
        artifacts.missing(row),
        disposition="inline" if row.media_type in _PICTURES else "attachment",
    )
