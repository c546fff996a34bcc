"""Tools, their sources and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.schemas.artifacts import Artifact
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool: the JSON Schema of its arguments, the effects of a call, whether a person must approve a call, the
    tool's group, the cost of a call in US dollars, and the tool's source.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None = None
    read_only: bool
    destructive: bool
    needs_approval: bool = False
    group: str = ""
    cost: float = 0.0
    source: str

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of the arguments."""
        return tuple(self.input_schema.get("properties") or ())


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A source of tools that was added. An API document can provide many tools."""

    name: str
    kind: str
    what: str
    state: str
    error: str | None
    warning: str
    tools: tuple[str, ...]
    configured: bool


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call: text for a model, the same content as JSON if it is structured, and the files that
    the tool created.
    """

    text: str
    structured: Mapping[str, Any] | None
    is_error: bool
    artifacts: tuple[Artifact, ...] = ()


TOOLS = Resource(
    "Tools",
    "/api/tools",
    "Tools that models can call.",
    {"name": "a tool"},
    (
        Verb("list", "GET", list[Tool]),
        Verb("call", "POST {name}/call", ToolResult, slow=True, positional=("arguments",)),
        Verb("get", "GET {name}", Tool),
        Verb("sources", "GET /api/tool-sources", list[ToolSource]),
        Verb("source", "GET /api/tool-sources/{name}", ToolSource),
        Verb("remove", "DELETE /api/tool-sources/{name}"),
    ),
    columns=(Column("NAME"), Column("GROUP"), Column("TAKES"), Column("DESCRIPTION", width=100)),
)
