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
class ServerCard:
    """What a server says of itself when it is reached: its words, which are text whatever they ask of a reader.

    ``protocol`` is the revision of MCP that both speak; ``capabilities`` such as ``tools`` and ``tools.listChanged``.
    """

    title: str = ""
    version: str = ""
    protocol: str = ""
    instructions: str = ""
    capabilities: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class OfferedResource:
    """Something to read at ``uri``. ``template``: the braces in it stand for what is asked for. ``size`` in bytes."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str
    size: int | None
    template: bool


@dataclass(frozen=True, slots=True)
class ResourceContent:
    """What stands in a resource: a ``text``, or bytes as base64 in ``data``."""

    uri: str
    mime_type: str
    text: str | None
    data: str | None


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


@dataclass(frozen=True, slots=True)
class FilledMessage:
    """A message of a prompt that was filled in. ``data`` is base64 where it is a picture or a sound; ``text`` names
    that with its type and size.
    """

    role: str
    text: str
    mime_type: str
    data: str | None
