"""Artifacts: files that a run made."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Resource, Verb


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run made; its bytes are at ``link``."""

    id: str
    name: str
    media_type: str
    bytes: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord(Artifact):
    """An artifact with the run that made it, and when, in seconds since 1970."""

    run: str
    created_at: float


ARTIFACTS = Resource(
    "Artifacts",
    "/api/artifacts",
    "Files that runs made: figures, tables, results too large for an answer.",
    {"artifact_id": "an artifact"},
    (
        Verb("list", "GET", list[ArtifactRecord]),
        Verb("get", "GET {artifact_id}", ArtifactRecord),
        Verb("content", "GET {artifact_id}/content", bytes, slow=True),
        Verb("remove", "DELETE {artifact_id}"),
    ),
)
