"""An MCP server without an SDK that answers as a script says: ``python scripted.py SCRIPT.json [json | sse]``.

The script is a JSON object. ``list`` is the result of ``tools/list``, or the whole response under ``response``.
``calls`` maps a tool's name to the members of the response to its call, such as ``{"result": …}`` or ``{"error": …}``;
a tool that is missing echoes its name and arguments. ``line`` is a raw line to send instead, in which ``$ID`` stands
for the id. ``initialize`` replaces members of the result of ``initialize``. ``stderr`` and ``exit``: what to write at
the start, and the status to end with.

Without a second argument the server uses standard input and output. With one, it serves HTTP, prints its port, and
answers with JSON or with an event stream. Over HTTP it has sessions: the tool ``forget`` ends all of them, and a
request of an unknown session gets the response ``lost``: status, headers and body. The tool ``runs`` says how many
calls have run. ``refusal`` is such a response for every request, and ``expired`` for every request after a call of the
tool ``expire``. With ``forgets`` no session lasts longer than its first request.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SCRIPT: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
RUNS: list[str] = []
SESSIONS: set[str] = set()
LOCK = threading.Lock()


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


def called(name: str, arguments: Any) -> dict[str, Any]:
    if name == "runs":
        return {"result": text(str(len(RUNS)))}
    RUNS.append(name)
    if name == "forget":
        SESSIONS.clear()
    if name == "expire":
        SCRIPT["refusal"] = SCRIPT["expired"]
    response: dict[str, Any] = SCRIPT.get("calls", {}).get(name) or {
        "result": text(f"{name} {json.dumps(arguments)}")
    }
    return response


def answer(message: dict[str, Any]) -> str | None:
    """Return the line that answers a message, or ``None`` for a notification."""
    number = message.get("id")
    params = message.get("params") or {}
    if number is None:
        return None
    match message.get("method"):
        case "initialize":
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
                **SCRIPT.get("initialize", {}),
            }
            response: dict[str, Any] = {"result": result}
        case "tools/list":
            response = SCRIPT.get("response") or {"result": SCRIPT.get("list", {"tools": []})}
        case "tools/call":
            with LOCK:
                response = called(params["name"], params.get("arguments"))
        case _:
            response = {"error": {"code": -32601, "message": "Method not found"}}
    if "line" in response:
        return str(response["line"]).replace("$ID", str(number))
    return json.dumps({"jsonrpc": "2.0", "id": number, **response})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        pass

    def send(self, status: int, body: str, headers: dict[str, str]) -> None:
        data = body.encode("utf-8", "surrogatepass")
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, response: dict[str, Any]) -> None:
        body = response.get("body", "")
        kind = "text/plain" if isinstance(body, str) else "application/json"
        headers = {"Content-Type": kind, **response.get("headers", {})}
        self.send(response["status"], body if isinstance(body, str) else json.dumps(body), headers)

    def do_GET(self) -> None:
        self.send(405, "", {})

    def do_DELETE(self) -> None:
        SESSIONS.discard(self.headers.get("Mcp-Session-Id", ""))
        self.send(200, "", {})

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "refusal" in SCRIPT:
            self.refuse(SCRIPT["refusal"])
            return
        headers = {"Content-Type": "application/json"}
        if message.get("method") == "initialize":
            session = headers["Mcp-Session-Id"] = f"session-{len(SESSIONS)}-{len(RUNS)}"
            if "forgets" not in SCRIPT:
                SESSIONS.add(session)
        elif self.headers.get("Mcp-Session-Id", "") not in {"", *SESSIONS}:
            self.refuse(SCRIPT.get("lost", {"status": 404}))
            return
        line = answer(message)
        if line is None:
            self.send(202, "", {})
        elif sys.argv[2] == "sse":
            headers["Content-Type"] = "text/event-stream"
            self.send(200, f"event: message\ndata: {line}\n\n", headers)
        else:
            self.send(200, line, headers)


def main() -> None:
    for line in SCRIPT.get("stderr", ()):
        print(line, file=sys.stderr, flush=True)
    if "exit" in SCRIPT:
        sys.exit(SCRIPT["exit"])
    if len(sys.argv) > 2:
        server = ThreadingHTTPServer(("127.0.0.1", int(SCRIPT.get("port", 0))), Handler)
        print(server.server_address[1], flush=True)
        server.serve_forever()
    for line in sys.stdin:
        response = answer(json.loads(line))
        if response is not None:
            print(response, flush=True)


if __name__ == "__main__":
    main()
