"""MCP servers, and what they offer."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class McpResource:
    """Something to read at ``uri``. ``template``: the braces in it stand for what is asked for. ``size`` in bytes."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str
    size: int | None
    template: bool


@dataclass(frozen=True, slots=True)
class McpContent:
    """What stands in a resource: a ``text``, or bytes as base64 in ``data``."""

    uri: str
    mime_type: str
    text: str | None
    data: str | None


@dataclass(frozen=True, slots=True)
class McpPrompt:
    """A text with places, written by the server."""

    name: str
    title: str
    description: str
    arguments: tuple[McpArgument, ...]


@dataclass(frozen=True, slots=True)
class McpPromptMessage:
    """A message of a prompt that was filled in. ``data`` is base64 where it is a picture or a sound; ``text`` names
    that with its type and size.
    """

    role: str
    text: str
    mime_type: str
    data: str | None


@dataclass(frozen=True, slots=True)
class McpCard:
    """What a server says of itself when it is reached: its words, which are text whatever they ask of a reader.

    ``protocol`` is the revision of MCP that both speak; ``capabilities`` such as ``tools`` and ``tools.listChanged``.
    """

    title: str = ""
    version: str = ""
    protocol: str = ""
    instructions: str = ""
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server as it is shown. ``env`` and ``headers`` are names alone: their values may be secrets."""

    name: str
    command: tuple[str, ...]
    url: str
    env: tuple[str, ...]
    headers: tuple[str, ...]
    state: str
    error: str | None
    tools: tuple[str, ...]
    restarts: int
    configured: bool
    """From the configuration: not to be removed while that has it."""
    card: McpCard
    """What it said of itself when it was reached last."""
    reached_at: float | None
    """When that was, or when it last answered; seconds since 1970."""

    @property
    def where(self) -> str:
        """The address, or the command that starts the server."""
        return self.url or " ".join(self.command)


@dataclass(frozen=True, slots=True)
class McpArgument:
    """What a prompt takes. All values are text."""

    name: str
    title: str
    description: str
    required: bool


MCP = Resource(
    "Mcp",
    "/api/mcp",
    "MCP servers of other people, whose tools the daemon offers as its own.",
    {"name": "an MCP server"},
    (
        Verb("list", "GET servers", list[McpServer]),
        Verb("get", "GET servers/{name}", McpServer),
        Verb("remove", "DELETE servers/{name}", slow=True),
        Verb("restart", "POST servers/{name}/restart", McpServer),
        Verb("logs", "GET servers/{name}/logs", list[str], positional=("lines",)),
        Verb("resources", "GET servers/{name}/resources", list[McpResource]),
        Verb("read", "POST servers/{name}/resources/read", list[McpContent], slow=True),
        Verb("prompts", "GET servers/{name}/prompts", list[McpPrompt]),
        Verb(
            "render",
            "POST servers/{name}/prompts/render",
            list[McpPromptMessage],
            slow=True,
            positional=("arguments",),
            aliases={"prompt": "name"},
        ),
    ),
    columns=(
        Column("NAME"),
        Column("STATE"),
        Column("TOOLS", kind="size"),
        Column("WHERE"),
        Column("ERROR", width=80),
    ),
)
