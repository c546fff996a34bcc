"""Artifacts: files that a run made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run made: a figure, a table. ``run`` and ``created_at`` are told by `Artifacts` alone."""

    id: str
    name: str
    media_type: str = "application/octet-stream"
    bytes: int = 0
    link: str = ""
    run: str = ""
    created_at: float = 0
