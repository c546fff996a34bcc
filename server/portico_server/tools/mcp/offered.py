"""What an MCP server has besides tools: resources to read, and prompts to fill in."""

from __future__ import annotations

from typing import Final

MAX_OFFERED: Final = 1_000
"""Maximum number of tools, of resources, and of prompts of a server that are listed."""

MAX_CONTENT_CHARS: Final = 8_000_000
"""Maximum characters of a resource or of a filled-in prompt, including base64."""
