"""Converts a function's return value into the result of a tool."""

from __future__ import annotations

import json
from typing import Any

from portico_server.core.request import ToolResult


def outcome(value: Any) -> ToolResult:
    """Convert text to a text result, and all other values to JSON, under ``result`` if the value is not an object."""
    if isinstance(value, str):
        return ToolResult(value)
    structured_content = value if isinstance(value, dict) else {"result": value}
    return ToolResult(json.dumps(value, ensure_ascii=False), structured_content)
