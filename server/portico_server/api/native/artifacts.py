"""``/api/artifacts``: files that runs made."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import FileResponse
from pydantic import BaseModel

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.made import content
from portico_server.core.request import Artifact as Kept
from portico_server.db.artifacts import ArtifactRow
from portico_server.runs.artifacts import shown

router = new_router(prefix="/api/artifacts", tags=["Artifacts"])


class Artifact(BaseModel):
    """A file that a run made; its bytes are at ``link``."""

    id: str
    name: str
    media_type: str
    bytes: int
    link: str

    @classmethod
    def of(cls, kept: Kept) -> Artifact:
        return cls(id=kept.id, name=kept.name, media_type=kept.media_type, bytes=kept.bytes, link=kept.link)


class ArtifactRecord(Artifact):
    """An artifact with the run that made it, and when, in seconds since 1970."""

    run: str
    created_at: float


class ArtifactList(BaseModel):
    """Artifacts, newest first."""

    data: list[ArtifactRecord]


class ArtifactDeleted(BaseModel):
    """It is gone."""

    id: str
    deleted: bool = True


@router.get("")
async def list_artifacts(
    parts: TheParts,
    caller: Caller,
    run: Annotated[str | None, Query(description="Only what this run made.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ArtifactList:
    """The caller's artifacts, newest first."""
    rows = await parts.artifacts.list(caller, run_id=run, limit=limit)
    return ArtifactList(data=[_record(row) for row in rows])


@router.get("/{artifact_id}")
async def retrieve_artifact(artifact_id: str, parts: TheParts, caller: Caller) -> ArtifactRecord:
    """One of them."""
    return _record(await parts.artifacts.get(artifact_id, caller))


@router.get("/{artifact_id}/content", response_class=FileResponse)
async def read_artifact(artifact_id: str, parts: TheParts, caller: Caller) -> FileResponse:
    """Its bytes. Never shown as a page of ours: code that a model wrote made them."""
    return content(parts.artifacts, await parts.artifacts.get(artifact_id, caller))


@router.delete("/{artifact_id}")
async def delete_artifact(artifact_id: str, parts: TheParts, caller: Caller) -> ArtifactDeleted:
    """Remove it."""
    return ArtifactDeleted(id=(await parts.artifacts.delete(artifact_id, caller)).id)


def _record(row: ArtifactRow) -> ArtifactRecord:
    return ArtifactRecord(**Artifact.of(shown(row)).model_dump(), run=row.run_id, created_at=row.created_at)
