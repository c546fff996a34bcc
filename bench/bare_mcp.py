"""The bare server for `mcp_calls.py`: one tool on a plain `mcp` server. ``python bench/bare_mcp.py PORT``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("bare")


@server.tool()
def current_time(timezone: str = "UTC") -> dict[str, str]:
    """The time now."""
    return {"time": datetime.now(UTC).isoformat(), "timezone": timezone}


if __name__ == "__main__":
    uvicorn.run(
        server.streamable_http_app(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        access_log=False,
    )
