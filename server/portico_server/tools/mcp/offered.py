"""What an MCP server has beside tools: resources that are read, and prompts that are filled in."""

from __future__ import annotations

from typing import Final

MAX_OFFERED: Final = 1_000
"""Tools, resources, or prompts, of a server that are listed."""

MAX_CONTENT_CHARS: Final = 8_000_000
"""Characters of a resource or of a filled-in prompt, those of base64 among them."""
