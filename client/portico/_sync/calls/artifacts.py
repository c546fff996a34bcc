# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.artifacts`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.artifacts import ArtifactRecord


class Artifacts(Group):
    """Files created by runs: figures, tables, results too large for an answer."""

    def list(self, *, run: str | None = None, limit: int | None = None) -> Sequence[ArtifactRecord]:
        """List the caller's artifacts, newest first.

        ``run``: Only artifacts of this run.

        ``limit``: (default: ``100``).
        """
        return self._transport.request(
            "GET", "/api/artifacts", list[ArtifactRecord], query=without_none(run=run, limit=limit)
        )

    def get(self, artifact_id: str) -> ArtifactRecord:
        """Return an artifact."""
        return self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact")), ArtifactRecord
        )

    def content(self, artifact_id: str) -> bytes:
        """Return the bytes of an artifact. Code written by a model may have made the artifact, so browsers never
        show it as a page of the daemon.
        """
        return self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact"), "content"), bytes, slow=True
        )

    def remove(self, artifact_id: str) -> None:
        """Delete an artifact."""
        return self._transport.request(
            "DELETE", at("api", "artifacts", by_id(artifact_id, "an artifact")), None
        )
