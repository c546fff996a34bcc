"""Tools and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.values.runs import Artifact


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a model may call. ``input_schema`` is a JSON schema; ``source`` says where the tool comes from,
    ``group`` what it is found under, ``cost`` what a call costs in US dollars.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    read_only: bool = False
    destructive: bool = False
    source: str = ""
    needs_approval: bool = False
    group: str = ""
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A tool that was added, or an API that gives many. ``kind``: command, function, openapi or database."""

    name: str
    kind: str = ""
    what: str = ""
    state: str = ""
    error: str | None = None
    warning: str = ""
    """What its operator should change."""
    tools: tuple[str, ...] = ()
    configured: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered: text, the same as JSON where there is a structure, and files that it made."""

    text: str
    structured: Any = None
    is_error: bool = False
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill. ``shared``: its name means it for every key; ``owner``, as an admin sees it, the key that has it."""

    id: str
    name: str
    description: str = ""
    default_version: str = "1"
    latest_version: str = "1"
    created_at: float = 0
    shared: bool = True
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class SkillVersion:
    """One version of a skill: the front matter of its SKILL.md, and path, bytes and SHA-256 of each file."""

    id: str
    skill_id: str
    version: str
    name: str
    description: str = ""
    created_at: float = 0
    front_matter: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A folder of the sandbox that code of several calls shares. Times in seconds since 1970."""

    id: str
    name: str
    created_at: float = 0
    last_active_at: float = 0
    expires_after: Mapping[str, Any] = field(default_factory=dict)
    memory_limit: str | None = None

    @property
    def minutes(self) -> int:
        """For how long it is kept after its last use."""
        return int(self.expires_after.get("minutes", 0))


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """A file of a container; ``path`` is where code finds it, ``source`` says who put it there."""

    id: str
    container_id: str
    path: str
    bytes: int = 0
    source: str = ""
    created_at: float = 0


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
