"""Files that a tool made, as MCP carries them: pictures in the result itself, everything else as a link."""

from __future__ import annotations

import base64
from typing import Final

import mcp_types as types

from portico_server.core.principal import Principal
from portico_server.core.request import Artifact, Result, ToolResult
from portico_server.runs.artifacts import Artifacts

PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What assistants show."""

LARGEST: Final = 4 * 2**20
"""Bytes of a picture that travels in a result; a larger one is a link."""


class Attachments:
    """Reads artifacts for their caller. ``url`` is the daemon's address, for links."""

    def __init__(self, artifacts: Artifacts, url: str) -> None:
        self._artifacts = artifacts
        self._url = url

    async def blocks(self, result: Result, caller: Principal) -> list[types.ContentBlock]:
        """The content that a tool's files add to its text."""
        if not isinstance(result, ToolResult):
            return []
        return [await self._block(artifact, caller) for artifact in result.artifacts]

    async def _block(self, artifact: Artifact, caller: Principal) -> types.ContentBlock:
        if artifact.media_type in PICTURES and artifact.bytes <= LARGEST:
            data = base64.b64encode(await self._artifacts.read(artifact.id, caller)).decode()
            return types.ImageContent(type="image", data=data, mime_type=artifact.media_type)
        return types.ResourceLink(
            type="resource_link",
            uri=f"{self._url}{artifact.link}",
            name=artifact.name,
            mime_type=artifact.media_type,
            size=artifact.bytes,
        )
