"""Somebody else's MCP server is added while the daemon serves; an agent uses its tools, and so does any other client."""

import sys
from pathlib import Path

from portico import Client
from portico.agent import Agent
from portico.wire import Finished, ToolCalled, ToolReturned

with Client() as client:
    tides = client.mcp.add(
        "tides", [sys.executable, str(Path("server.py").resolve())], allow=["high_*"], timeout=30
    )
    print(tides.name, tides.state, list(tides.tools))

    pilot = Agent("default", "You advise ships.", tools=["tides_high_water"])
    for _, event in pilot.stream("When can the ship enter on Tuesday?"):
        match event:
            case ToolCalled(name=name, arguments=arguments):
                print("calls", name, arguments)
            case ToolReturned(text=text):
                print("  ", text)
            case Finished(result=answer):
                print(answer.content)

    print("called directly:", client.tools.call("tides_high_water", {"day": "monday"}).text)
    client.mcp.remove("tides")
    print(
        "removed; its tools left:", [tool.name for tool in client.tools.list() if "high_water" in tool.name]
    )
