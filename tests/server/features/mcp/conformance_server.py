"""A third-party server with the tools of the conformance suite that answer with pictures and sounds."""

from __future__ import annotations

import base64

import mcp_types as types
from mcp.server.mcpserver import MCPServer

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0"
).decode()

server = MCPServer("conformance")


@server.tool()
def test_image_content() -> types.ImageContent:
    """A red dot."""
    return types.ImageContent(type="image", data=PIXEL, mime_type="image/png")


@server.tool()
def test_audio_content() -> types.AudioContent:
    """Nothing to be heard."""
    return types.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")


if __name__ == "__main__":
    server.run()
