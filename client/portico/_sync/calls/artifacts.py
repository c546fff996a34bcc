# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.artifacts`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.artifacts import ArtifactRecord


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    def list(self, *, run: str | None = None, limit: int | None = None) -> Sequence[ArtifactRecord]:
        """The caller's artifacts, newest first.

        ``run``: Only what this run made.

        ``limit``: (default: ``100``).
        """
        return self._transport.request(
            "GET", "/api/artifacts", list[ArtifactRecord], query=given(run=run, limit=limit)
        )

    def get(self, artifact_id: str) -> ArtifactRecord:
        """One of them."""
        return self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact")), ArtifactRecord
        )

    def content(self, artifact_id: str) -> bytes:
        """Its bytes. Never shown as a page of ours: code that a model wrote made them."""
        return self._transport.request(
            "GET", at("api", "artifacts", by_id(artifact_id, "an artifact"), "content"), bytes, slow=True
        )

    def remove(self, artifact_id: str) -> None:
        """Remove it."""
        return self._transport.request(
            "DELETE", at("api", "artifacts", by_id(artifact_id, "an artifact")), None
        )
