"""Tools, their sources and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.schemas.artifacts import Artifact
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool, the JSON Schema of its arguments, what a call may do, whether somebody is asked before it, the group that
    it is in, what a call costs in US dollars, and where the tool comes from.
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
    """One addition as it is shown; a document of an API gives many tools."""

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
    """What a tool answered: text for a model, the same as JSON where there is a structure, and files it made."""

    text: str
    structured: Mapping[str, Any] | None
    is_error: bool
    artifacts: tuple[Artifact, ...] = ()


TOOLS = Resource(
    "Tools",
    "/api/tools",
    "What models may call.",
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
