# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.artifacts`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico._request import at, by_id, given
from portico.schemas.artifacts import ArtifactRecord


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    async def list(self, *, run: str | None = None, limit: int | None = None) -> Sequence[ArtifactRecord]:
        """The caller's artifacts, newest first.

        ``run``: Only what this run made.

        ``limit``: (default: ``100``).
        """
        return await self._transport.request(
            "GET", "/api/artifacts", list[ArtifactRecord], query=given(run=run, limit=limit)
        )

    async def get(self, artifact_id: str) -> ArtifactRecord:
        """One of them."""
        return await self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact")), ArtifactRecord
        )

    async def content(self, artifact_id: str) -> bytes:
        """Its bytes. Never shown as a page of ours: code that a model wrote made them."""
        return await self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact"), "content"), bytes, slow=True
        )

    async def remove(self, artifact_id: str) -> None:
        """Remove it."""
        return await self._transport.request(
            "DELETE", at("api", "artifacts", by_id(artifact_id, "an artifact")), None
        )
