"""A server of the Model Context Protocol, as other people write them: the tides of a harbour."""

from mcp.server import MCPServer

server = MCPServer("tides")


@server.tool()
def high_water(day: str) -> str:
    """At what hour the water is highest on a day."""
    return {"monday": "06:40", "tuesday": "07:25"}.get(day.lower(), "unknown")


@server.tool()
def forget_everything() -> str:
    """Delete the tables of tides."""
    return "deleted"


if __name__ == "__main__":
    server.run()
