"""Clients that send a byte a second, at every kind of endpoint: a limit ends them, and others are answered meanwhile.

Time passes in `Connections.sweep`, as in `test_connections`; only an idle WebSocket has a real clock.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
from tests.api_server import RelayModel
from tests.server.http.test_connections import KEY, LIMIT, seconds, served, turn, wire

BODY_TIMEOUT: Final = 20
JSON: Final = "application/json"
FORM: Final = "multipart/form-data; boundary=x"
CHAT: Final = b'{"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}'
FILE: Final = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\na'
)

DOORS: Final = {
    "a chat": ("/v1/chat/completions", JSON, CHAT),
    "a response": ("/v1/responses", JSON, b'{"model": "teller", "input": "Hello"}'),
    "embeddings": ("/v1/embeddings", JSON, b'{"model": "teller", "input": "Hello"}'),
    "Anthropic's messages": ("/v1/messages", JSON, CHAT),
    "Ollama's chat": ("/api/chat", JSON, CHAT),
    "a key": ("/api/keys", JSON, b'{"name": "drip", "scopes": ["chat"]}'),
    "a search": ("/api/search", JSON, b'{"query": "Hello"}'),
    "a text to chunk": ("/api/chunk", JSON, b'{"text": "Hello", "filename": "a.txt"}'),
    "MCP": ("/mcp", JSON, b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'),
    "A2A": ("/a2a/teller", JSON, b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage"}'),
    "AG-UI": ("/ag-ui/teller", JSON, b'{"threadId": "a", "runId": "b", "messages": []}'),
    "a webhook": ("/api/webhooks", JSON, b'{"url": "https://example.com/hook", "events": ["run.failed"]}'),
    "a public session": ("/api/public-sessions/none/messages", JSON, b'{"text": "Hello"}'),
    "a file": ("/v1/files", FORM, FILE),
    "a file to chunk": ("/api/chunk", FORM, FILE),
    "an archive": ("/api/stores/import", FORM, FILE),
    "a recording": ("/v1/audio/transcriptions", FORM, FILE),
    "an image": ("/v1/images/edits", FORM, FILE),
    "a skill": ("/v1/skills", FORM, FILE.replace(b'"file"', b'"files[]"')),
    "no endpoint": ("/v1/none", JSON, CHAT),
}
"""The path, type and beginning of the body of each request that drips."""


def head(door: str, *, is_chunked: bool) -> bytes:
    path, kind, _body = DOORS[door]
    length = "Transfer-Encoding: chunked" if is_chunked else "Content-Length: 1000000"
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_slowly_sent_bodies_time_out_while_other_requests_are_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_chunked: bool
) -> None:
    async with served(tmp_path, body_timeout=BODY_TIMEOUT) as api, AsyncExitStack() as stack:
        api.add(teller := RelayModel("teller", b'{"object":"chat.completion"}'))
        _row, other_key = await api.auth.create("other", ("chat",))
        for path in ("/v1/models", "/mcp"):  # their first request imports what the others need
            await api.client.get(path, headers={"Authorization": f"Bearer {KEY}"})
        wires = {door: await stack.enter_async_context(wire(api)) for door in DOORS}
        for door, dripping in wires.items():
            await dripping.say(head(door, is_chunked=is_chunked))
        for second in range(BODY_TIMEOUT + 1):
            for door, dripping in wires.items():
                byte = DOORS[door][2].ljust(BODY_TIMEOUT + 1)[second : second + 1]
                await dripping.say(b"1\r\n" + byte + b"\r\n" if is_chunked else byte)
            if second == BODY_TIMEOUT // 2:
                answer = await api.client.post(
                    "/v1/chat/completions",
                    content=CHAT[:-1] + b" " * 1_000_000 + b"}",
                    headers={"Authorization": f"Bearer {other_key}", "Content-Type": JSON},
                )
                assert answer.status_code == 200
            await seconds(api, 1)
        for door, dripping in wires.items():
            assert await dripping.refusal() == (408, "request_timeout"), door
        assert len(teller.asked) == 1
        assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert "Traceback" not in caplog.text


HANDSHAKE: Final = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    f"Authorization: Bearer {KEY}\r\n\r\n"
)
FRAMES: Final = {
    "a frame": b"\x81\xff" + (1_000_000).to_bytes(8, "big") + b"\0\0\0\0" + b" " * 1_000_000,
    "frames of a message": b"\x01\x81\0\0\0\0 " + b"\x00\x81\0\0\0\0 " * 1_000,
    "pings": b"\x89\x80\0\0\0\0" * 1_000_000,
}


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/realtime?model=talker"])
async def test_a_websocket_whose_messages_never_end_is_closed(tmp_path: Path, path: str, frames: str) -> None:
    async with served(tmp_path, socket_idle_timeout=0.5) as api, wire(api) as dripping:
        api.add(RelayModel("talker", b"{}", capabilities=frozenset({"chat", "realtime"})))
        await dripping.say(HANDSHAKE.format(path=path).encode())
        async with asyncio.timeout(LIMIT):
            head = await dripping.reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in head.splitlines()[0], head
            closing = asyncio.create_task(dripping.reader.readuntil(b"idle for 0.5 s"))
            data = memoryview(FRAMES[frames])
            while not closing.done():
                await dripping.say(bytes(data[:1]))
                data = data[1:]
                await turn(api)
            await closing
