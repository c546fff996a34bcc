"""An editor that attacks `portico agent-server`: after each message, the server still answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tests import daemon as daemons
from tests.client.test_agent_server import COMMAND, daemon
from tests.daemon import Daemon

__all__ = ["daemon"]


def request(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def session(cwd: str, **params: Any) -> bytes:
    return request("session/new", **{"cwd": cwd, "mcpServers": [], **params})


def prompt(session_id: str, *blocks: Any) -> bytes:
    return request("session/prompt", sessionId=session_id, prompt=list(blocks))


TEXT: Final = {"type": "text", "text": "Hello"}
PASSWD: Final = "file:///etc/passwd"

MESSAGES: Final = {
    "no JSON": b"hello",
    "an empty line": b"",
    "null": b"null",
    "a number": b"7",
    "a list of requests": b"[" + request("session/list") + b"]",
    "text": b'"session/list"',
    "an answer with an object as its id": b'{"jsonrpc": "2.0", "id": {"a": 1}, "result": {}}',
    "an unclosed object": b'{"jsonrpc": "2.0"',
    "bytes that are no UTF-8": b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}',
    "a method of a wrong type": b'{"jsonrpc": "2.0", "id": 1, "method": {"a": 1}, "params": {}}',
    "an unknown method": request("session/erase"),
    "a method with underscores": request("__class__/__init__"),
    "an id of a wrong type": b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "session/list", "params": {}}',
    "parameters of a wrong type": b'{"jsonrpc": "2.0", "id": 1, "method": "session/list", "params": "a"}',
    "an answer to no request": b'{"jsonrpc": "2.0", "id": 99, "result": {}}',
    "an error of no request": b'{"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "a"}}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 nested objects": b'{"a":' * 100_000,
    "a number of 5,000 digits": b'{"jsonrpc": "2.0", "id": ' + b"9" * 5_000 + b', "method": "session/list"}',
    "a line of 1 MB": request("session/list", cwd="/" + "x" * 1_000_000),
    "a relative folder": session("../.."),
    "a folder with a null byte": session("/tmp\0/etc"),
    "a folder of 1 MB": session("/" + "x" * 1_000_000),
    "a folder with half a character": session("/\ud800"),
    "an unknown session": prompt("ses_nowhere", TEXT),
    "a session with a path": request("session/load", sessionId="../../api/keys", cwd="/", mcpServers=[]),
    "a session of 1 MB": prompt("s" * 1_000_000, TEXT),
    "a file outside the project": prompt("{session}", {"type": "resource_link", "name": "a", "uri": PASSWD}),
    "an image": prompt("{session}", {"type": "image", "data": "AAAA", "mimeType": "image/png"}),
    "a block of an unknown type": prompt("{session}", {"type": "shell", "text": "id"}),
    "an end of no turn": b'{"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "ses_nowhere"}}',
}


@pytest.fixture(scope="module")
def server(daemon: Daemon) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "--url", daemon.url, "agent-server"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=daemons.environment(),
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def send(server: subprocess.Popen[bytes], line: bytes) -> None:
    assert server.stdin is not None
    server.stdin.write(line + b"\n")
    server.stdin.flush()


def answer(server: subprocess.Popen[bytes], request_id: str) -> Any:
    """Return the answer to a request. Answers to other requests, and updates, are dropped."""
    assert server.stdout is not None
    for line in server.stdout:
        message = json.loads(line)
        assert b"root:" not in line, "the content of /etc/passwd"
        if message.get("id") == request_id:
            return message
    raise AssertionError("the server ended")


def ask(server: subprocess.Popen[bytes], request_id: str, method: str, **params: Any) -> Any:
    send(
        server, json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()
    )
    return answer(server, request_id)


@pytest.fixture(scope="module")
def session_id(server: subprocess.Popen[bytes], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Complete the handshake, and return the id of a session."""
    assert "result" in ask(server, "hello", "initialize", protocolVersion=1)
    folder = str(tmp_path_factory.mktemp("project"))
    return str(ask(server, "new", "session/new", cwd=folder, mcpServers=[])["result"]["sessionId"])


@pytest.mark.parametrize("case", MESSAGES)
def test_the_server_answers_after_any_message(
    server: subprocess.Popen[bytes], session_id: str, case: str
) -> None:
    send(server, MESSAGES[case].replace(b"{session}", session_id.encode()))
    sessions = ask(server, f"after {case}", "session/list")["result"]["sessions"]
    assert session_id in {entry["sessionId"] for entry in sessions}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello", -32700),
        (b"null", -32600),
        (b"[]", -32600),
        (b'{"id": [1], "method": "session/list"}', -32600),
    ],
)
def test_an_invalid_message_line_gets_an_error_response(
    server: subprocess.Popen[bytes], session_id: str, line: bytes, code: int
) -> None:
    ask(server, f"before {line!r}", "session/list")
    send(server, line)
    assert server.stdout is not None
    messages = map(json.loads, server.stdout)  # updates and answers of earlier cases may come first
    response = next(message for message in messages if "method" not in message and message["id"] is None)
    assert response["error"]["code"] == code
