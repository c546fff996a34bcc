"""``/api/artifacts``: files made by runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Query
from fastapi.responses import FileResponse

from portico.schemas.artifacts import ArtifactRecord
from portico_server.api.declarations import FILE_BYTES
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.kept_response import artifact_response
from portico_server.api.shapes import Listed, RemovedId
from portico_server.db.artifacts import ArtifactRow
from portico_server.runs.artifacts import to_artifact

router = new_router(prefix="/api/artifacts", tags=["Artifacts"])


@router.get("")
async def list_artifacts(
    services: TheServices,
    caller: Caller,
    run: Annotated[str | None, Query(description="Only artifacts of this run.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Listed[ArtifactRecord]:
    """List the caller's artifacts, newest first."""
    rows = await services.artifacts.list(caller, run_id=run, limit=limit)
    return Listed(data=[_record(row) for row in rows])


@router.get("/{artifact_id}")
async def retrieve_artifact(artifact_id: str, services: TheServices, caller: Caller) -> ArtifactRecord:
    """Return an artifact."""
    return _record(await services.artifacts.get(artifact_id, caller))


@router.get("/{artifact_id}/content", response_class=FileResponse, responses=FILE_BYTES)
async def read_artifact(artifact_id: str, services: TheServices, caller: Caller) -> FileResponse:
    """Return the bytes of an artifact. Code written by a model may have made the artifact, so browsers never show it
    as a page of the daemon.
    """
    return artifact_response(services.artifacts, await services.artifacts.get(artifact_id, caller))


@router.delete("/{artifact_id}")
async def delete_artifact(artifact_id: str, services: TheServices, caller: Caller) -> RemovedId:
    """Delete an artifact."""
    return RemovedId(id=(await services.artifacts.delete(artifact_id, caller)).id)


def _record(row: ArtifactRow) -> ArtifactRecord:
    return ArtifactRecord(**asdict(to_artifact(row)), run=row.run_id, created_at=row.created_at)
