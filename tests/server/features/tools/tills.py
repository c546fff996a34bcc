"""Tools of each kind of source that pay orders at the same till: an API, an MCP server, a command and a function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
from tests.server.features.flows.outside import Outside

KINDS = ("openapi", "mcp", "command", "function")
"""The kinds of sources. A tool that `add` adds is called ``KIND_pay``."""

SEND = """
import json, os, sys, urllib.request

def send(url, order, key):
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    body = json.dumps({"order": order}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as response:
        return response.read().decode()
"""

COMMAND = (
    SEND
    + """
print(send(sys.argv[1], sys.argv[2], os.environ.get("PORTICO_IDEMPOTENCY_KEY", "")))
"""
)

FUNCTION = (
    SEND
    + """
URL = {url!r}

def pay(order: str) -> str:
    "Pay an order."
    return send(URL, order, os.environ.get("PORTICO_IDEMPOTENCY_KEY", ""))
"""
)

SERVER = (
    SEND
    + """
ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}

for line in sys.stdin:
    message = json.loads(line)
    params = message.get("params", {})
    match message["method"]:
        case "initialize":
            result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
            result["serverInfo"] = {"name": "till", "version": "1"}
        case "tools/list":
            result = {"tools": [{"name": "pay", "inputSchema": ORDER}]}
        case "tools/call":
            key = params.get("_meta", {}).get("portico/idempotency-key", "")
            result = {"content": [{"type": "text", "text": send(sys.argv[1], params["arguments"]["order"], key)}]}
        case _:
            continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
)

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Till", "version": "1"},
    "paths": {
        "/effect": {
            "post": {
                "operationId": "pay",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {"order": {"type": "string"}},
                                "required": ["order"],
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "Paid."}},
            }
        }
    },
}


def add(url: str, kind: str, outside: Outside, folder: Path, **fields: Any) -> None:
    """Add the source of the tool ``KIND_pay`` to the daemon at ``url``. ``fields`` are further fields of the source."""
    till = f"{outside.url}/effect"
    path = "/api/tool-sources"
    source: dict[str, Any] = {"name": f"{kind}_pay"}
    match kind:
        case "openapi":
            outside.documents["/openapi.json"] = DOCUMENT
            source = {"name": kind, "openapi": f"{outside.url}/openapi.json"}
        case "mcp":
            program = folder / "till_server.py"
            program.write_text(SERVER)
            path, source = "/api/mcp/servers", {"name": kind, "command": [sys.executable, str(program), till]}
        case "command":
            source["command"] = [sys.executable, "-c", COMMAND, till, "{order}"]
        case _:
            (folder / "till_function.py").write_text(FUNCTION.replace("{url!r}", repr(till)))
            source |= {"function": "till_function:pay", "folder": str(folder)}
    response = httpx.post(f"{url}{path}", json={**source, **fields, "approval": "never"}, timeout=60)
    assert response.is_success, response.text


def arguments(kind: str, order: str) -> dict[str, Any]:
    """Return the arguments of a call that pays an order."""
    return {"body": {"order": order}} if kind == "openapi" else {"order": order}


def order_in(body: str) -> str:
    """Return the order that a request to the till pays."""
    order: str = json.loads(body)["order"]
    return order
