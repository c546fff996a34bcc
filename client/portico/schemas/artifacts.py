"""Artifacts: files that a run made."""

from __future__ import annotations

from dataclasses import dataclass


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
