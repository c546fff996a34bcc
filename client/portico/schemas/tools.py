"""Tools, their sources and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas.artifacts import Artifact


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
