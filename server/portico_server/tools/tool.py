"""What a tool is: a name, a description, a JSON schema and a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from portico_server.core.context import Context
from portico_server.core.request import ToolCall, ToolResult

Work: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[ToolResult]]
Keyed: TypeAlias = Callable[[ToolCall, Context], Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class Tool:
    """``work`` gets arguments that match ``input_schema``; ``keyed``, in its place, gets the call with its key too, for
    what must be done once although the call is repeated. What goes wrong for a reason that the asking
    model can mend is a `ToolResult` with ``is_error``; everything else is raised.

    ``output_schema`` describes ``ToolResult.structured``. ``read_only``: calling it changes nothing;
    ``destructive``: what it changes may not be mended; ``open_world``: it reaches out of the daemon.
    ``needs_approval``: somebody is asked before each call. ``owner``: the key that alone sees it; ``None`` for all.
    ``group``: a heading to find it under; ``cost``: US dollars that a call costs.
    ``timeout``: seconds that a call may take. ``source``: where the tool comes from, such as ``built-in``.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    work: Work | None = None
    keyed: Keyed | None = None
    output_schema: Mapping[str, Any] | None = None
    read_only: bool = True
    destructive: bool = False
    open_world: bool = False
    needs_approval: bool = False
    timeout: float | None = None
    group: str = ""
    cost: float = 0.0
    source: str = "built-in"
    owner: str | None = None
