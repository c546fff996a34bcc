"""MCP servers, and their contents."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class McpResource:
    """A resource to read at ``uri``. ``template``: the braces in it are placeholders. ``size`` is in bytes."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str
    size: int | None
    template: bool


@dataclass(frozen=True, slots=True)
class McpContent:
    """The contents of a resource: a ``text``, or bytes as base64 in ``data``."""

    uri: str
    mime_type: str
    text: str | None
    data: str | None


@dataclass(frozen=True, slots=True)
class McpPrompt:
    """A text with placeholders, written by the server."""

    name: str
    title: str
    description: str
    arguments: tuple[McpArgument, ...]


@dataclass(frozen=True, slots=True)
class McpPromptMessage:
    """A message of a filled-in prompt. ``data`` is base64 if it is an image or audio; ``text`` then gives its type and
    size.
    """

    role: str
    text: str
    mime_type: str
    data: str | None


@dataclass(frozen=True, slots=True)
class McpCard:
    """A server's description of itself at connection: untrusted text, whatever it asks of a reader.

    ``protocol`` is the common revision of MCP; ``capabilities`` are names such as ``tools`` and ``tools.listChanged``.
    """

    title: str = ""
    version: str = ""
    protocol: str = ""
    instructions: str = ""
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server as it is shown. ``env`` and ``headers`` contain only names: their values may be secrets."""

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
    """True if the server is in the configuration: it cannot be removed while the configuration contains it."""
    card: McpCard
    """The server's description of itself at the last connection."""
    reached_at: float | None
    """When it was connected, or last responded; seconds since 1970."""

    @property
    def where(self) -> str:
        """The address, or the command that starts the server."""
        return self.url or " ".join(self.command)


@dataclass(frozen=True, slots=True)
class McpArgument:
    """An argument of a prompt. All values are text."""

    name: str
    title: str
    description: str
    required: bool


MCP = Resource(
    "Mcp",
    "/api/mcp",
    "External MCP servers, whose tools the daemon offers as its own.",
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
