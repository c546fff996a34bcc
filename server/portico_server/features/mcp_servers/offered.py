"""The contents of an MCP server besides tools: resources to read, and prompts to fill in."""

from __future__ import annotations

from typing import Final

MAX_OFFERED: Final = 1_000
"""Maximum number of a server's tools, resources or prompts that are listed."""

MAX_CONTENT_CHARS: Final = 8_000_000
"""Maximum characters of a resource or of a filled-in prompt, including base64."""
