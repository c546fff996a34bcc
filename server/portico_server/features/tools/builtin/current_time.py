"""The current time in a time zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from portico_server.core.context import Context
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.features.tools.tool import Tool


def tool(_registry: Registry) -> Tool:
    """Return ``current_time``, which returns the date, time and weekday in a time zone."""
    return Tool(
        name="current_time",
        title="Current time",
        description="The current date, time and weekday in a time zone (UTC if none is given).",
        input_schema={
            "type": "object",
            "properties": {
                "timezone": {
                    "type": "string",
                    "description": "IANA name of a time zone, such as Europe/Berlin or Asia/Shanghai.",
                    "maxLength": 64,
                }
            },
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "time": {"type": "string", "description": "ISO 8601 with the offset from UTC."},
                "timezone": {"type": "string"},
                "weekday": {"type": "string"},
                "unix": {"type": "integer", "description": "Seconds since 1970."},
            },
            "required": ["time", "timezone", "weekday", "unix"],
        },
        work=_work,
        group="general",
        computed=True,
    )


async def _work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
    name = arguments.get("timezone") or "UTC"
    try:
        zone = UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # an unknown or invalid name, or a folder of time zones
        return ToolResult(
            f"'{name}' is not a known time zone. Use an IANA name such as Europe/Berlin or UTC.",
            is_error=True,
        )
    now = datetime.now(zone)
    weekday = _WEEKDAYS[now.weekday()]
    time = now.isoformat(timespec="seconds")
    return ToolResult(
        f"{weekday}, {time} ({name})",
        {"time": time, "timezone": name, "weekday": weekday, "unix": int(now.timestamp())},
    )


# strftime is not used, because the weekday's name must not depend on the machine's locale.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
