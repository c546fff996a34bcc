# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.artifacts`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico._request import at, by_id, without_none
from portico.schemas.artifacts import ArtifactRecord


class Artifacts(Group):
    """Files created by runs: figures, tables, results too large for an answer."""

    async def list(self, *, run: str | None = None, limit: int | None = None) -> Sequence[ArtifactRecord]:
        """List the caller's artifacts, newest first.

        ``run``: Only artifacts of this run.

        ``limit``: (default: ``100``).
        """
        return await self._transport.request(
            "GET", "/api/artifacts", list[ArtifactRecord], query=without_none(run=run, limit=limit)
        )

    async def get(self, artifact_id: str) -> ArtifactRecord:
        """Return an artifact."""
        return await self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact")), ArtifactRecord
        )

    async def content(self, artifact_id: str) -> bytes:
        """Return the bytes of an artifact. Code written by a model may have made the artifact, so browsers never
        show it as a page of the daemon.
        """
        return await self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact"), "content"), bytes, slow=True
        )

    async def remove(self, artifact_id: str) -> None:
        """Delete an artifact."""
        return await self._transport.request(
            "DELETE", at("api", "artifacts", by_id(artifact_id, "an artifact")), None
        )
