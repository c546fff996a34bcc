"""The tools that every daemon has: one file each, and one line in this table.

A file has a function ``tool(registry) -> Tool``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portico_server.core.registry import Registry
from portico_server.tools.builtin import current_time, list_stores, search
from portico_server.tools.tool import Tool

BUILTIN: Final[tuple[Callable[[Registry], Tool], ...]] = (
    current_time.tool,
    list_stores.tool,
    search.tool,
)
