"""Files that runs made, as responses. Used by the protocol adapters that hand them out."""

from __future__ import annotations

from typing import Final

from fastapi.responses import FileResponse

from portico_server.db.artifacts import ArtifactRow
from portico_server.runs.artifacts import ArtifactStore, missing

_PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What a browser may show in place: formats that cannot hold a script."""


def artifact_response(artifacts: ArtifactStore, row: ArtifactRow) -> FileResponse:
    """A response with the bytes of an artifact. Never shown as a page of ours: code that a model wrote made them."""
    path = artifacts.path(row)
    if not path.is_file():
        raise missing(row)
    return FileResponse(
        path,
        media_type=row.media_type,
        filename=row.name.rpartition("/")[2],
        content_disposition_type="inline" if row.media_type in _PICTURES else "attachment",
        headers={"Content-Security-Policy": "sandbox"},
    )
