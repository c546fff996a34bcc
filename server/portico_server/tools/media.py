"""The tools that work with models for pictures and sounds."""

from __future__ import annotations

from portico_server.core.interfaces import Fetcher
from portico_server.core.registry import Registry
from portico_server.runs.artifacts import ArtifactStore
from portico_server.tools.builtin import draw, speak, transcribe
from portico_server.tools.builtin.draw import PictureFiles
from portico_server.tools.tool import Tool


def media_tools(
    registry: Registry, artifacts: ArtifactStore, files: PictureFiles, fetcher: Fetcher
) -> tuple[Tool, ...]:
    """What they make is kept in ``artifacts``; ``files`` are what clients uploaded and runs made."""
    return (
        draw.tool(registry, artifacts, files, fetcher),
        speak.tool(registry, artifacts),
        transcribe.tool(registry, files),
    )
