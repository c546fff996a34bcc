"""What an MCP server has beside tools: resources that are read, and prompts that are filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from portico_server.core.dataclass import dataclass

MAX_OFFERED: Final = 1_000
"""Tools, resources, or prompts, of a server that are listed."""

MAX_CONTENT_CHARS: Final = 8_000_000
"""Characters of a resource or of a filled-in prompt, those of base64 among them."""


@dataclass(frozen=True, slots=True)
class OfferedArgument:
    """What a prompt takes. All values are text."""

    name: str
    title: str
    description: str
    required: bool


@dataclass(frozen=True, slots=True)
class OfferedPrompt:
    """A text with places, written by the server."""

    name: str
    title: str
    description: str
    arguments: Sequence[OfferedArgument]
