"""What a tool is: a name, a description, a JSON schema and a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from portico_server.core.context import Context
from portico_server.core.request import ToolResult

Work: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class Tool:
    """``work`` gets arguments that match ``input_schema``. What goes wrong for a reason that the asking
    model can mend is a `ToolResult` with ``is_error``; everything else is raised.

    ``output_schema`` describes ``ToolResult.structured``. ``read_only``: calling it changes nothing;
    ``destructive``: what it changes may not be mended; ``open_world``: it reaches out of the daemon.
    ``timeout``: seconds that a call may take. ``source``: where the tool comes from, such as ``built-in``.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    work: Work
    output_schema: Mapping[str, Any] | None = None
    read_only: bool = True
    destructive: bool = False
    open_world: bool = False
    timeout: float | None = None
    source: str = "built-in"
