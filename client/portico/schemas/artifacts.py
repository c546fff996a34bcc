"""Artifacts: files that runs have created."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Resource, Verb


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run has created. Its content can be downloaded from ``link``."""

    id: str
    name: str
    media_type: str
    bytes: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord(Artifact):
    """An artifact together with the run that created it, and the time of creation in seconds since 1970."""

    run: str
    created_at: float


ARTIFACTS = Resource(
    "Artifacts",
    "/api/artifacts",
    "Files created by runs: figures, tables, results too large for an answer.",
    {"artifact_id": "an artifact"},
    (
        Verb("list", "GET", list[ArtifactRecord]),
        Verb("get", "GET {artifact_id}", ArtifactRecord),
        Verb("content", "GET {artifact_id}/content", bytes, slow=True),
        Verb("remove", "DELETE {artifact_id}"),
    ),
)
