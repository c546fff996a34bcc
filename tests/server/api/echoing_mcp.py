"""An MCP server that repeats its environment everywhere it can, for tests: ``python echoing_mcp.py``."""

import json
import os
import sys
from typing import Any


def reply(message: dict[str, Any], words: str) -> dict[str, Any] | None:
    """Answer a JSON-RPC message; every text of the answer contains ``words``."""
    text = {"type": "text", "text": words}
    match message["method"]:
        case "initialize":
            result: dict[str, Any] = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
                "serverInfo": {"name": words, "version": "1"},
            }
        case "tools/list":
            schema = {"type": "object", "properties": {"a": {"type": "string", "description": words}}}
            names = ("works", "fails", "refuses")
            result = {"tools": [{"name": n, "description": words, "inputSchema": schema} for n in names]}
        case "tools/call" if message["params"]["name"] == "refuses":
            return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32000, "message": words}}
        case "tools/call":
            fails = message["params"]["name"] == "fails"
            result = {"content": [text], "structuredContent": {"said": words}, "isError": fails}
        case "resources/list":
            result = {"resources": [{"uri": "note://a", "name": words}]}
        case "resources/templates/list":
            result = {"resourceTemplates": []}
        case "resources/read":
            result = {"contents": [{"uri": "note://a", "text": words}]}
        case "prompts/list":
            result = {"prompts": [{"name": "p", "description": words}]}
        case "prompts/get":
            result = {"messages": [{"role": "user", "content": text}]}
        case _ if "id" not in message:
            return None
        case _:
            result = {}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


if __name__ == "__main__":
    environment = json.dumps(dict(os.environ))
    print(environment, file=sys.stderr, flush=True)
    for line in sys.stdin:
        answer = reply(json.loads(line), environment)
        if answer is not None:
            print(json.dumps(answer), flush=True)
