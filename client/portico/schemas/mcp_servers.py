"""MCP servers, and what they offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class McpResource:
    """Something to read at an MCP server. ``template``: the braces in its ``uri`` stand for what is asked for.
    ``size`` in bytes.
    """

    uri: str
    name: str
    title: str = ""
    description: str = ""
    mime_type: str = ""
    size: int | None = None
    template: bool = False


@dataclass(frozen=True, slots=True)
class McpContent:
    """What stands in a resource: a ``text``, or bytes as base64 in ``data``."""

    uri: str
    mime_type: str = ""
    text: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class McpPrompt:
    """A prompt of an MCP server. Each of ``arguments`` has a ``name``, and whether it is ``required``."""

    name: str
    title: str = ""
    description: str = ""
    arguments: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class McpPromptMessage:
    """A message of a prompt that was filled in; ``data`` is base64 where it is a picture or a sound."""

    role: str
    text: str
    mime_type: str = ""
    data: str | None = None


@dataclass(frozen=True, slots=True)
class McpCard:
    """What an MCP server says of itself. ``protocol`` is the revision of MCP; ``capabilities`` such as ``tools`` and
    ``tools.listChanged``.
    """

    title: str = ""
    version: str = ""
    protocol: str = ""
    instructions: str = ""
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server of somebody else. ``state``: starting, ready, waiting (to be tried again) or stopped.

    ``env`` and ``headers`` are names: their values stay with the daemon. ``tools`` are names here. ``card`` is what it
    said when it was reached last, and ``reached_at`` when it last answered.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    state: str = "stopped"
    error: str | None = None
    tools: tuple[str, ...] = ()
    restarts: int = 0
    configured: bool = False
    card: McpCard = McpCard()
    reached_at: float | None = None
