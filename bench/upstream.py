"""An OpenAI endpoint that immediately answers with the same bytes: ``python bench/upstream.py PORT``.

It is as cheap as a Python server can be, so that a benchmark measures the relay in front of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import cast

TOKENS = 64
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "up",
        "choices": [choice],
    }
    frame = b"data: " + json.dumps(value).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(frame), frame)


_USAGE = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 9 + TOKENS}
_PLAIN = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * TOKENS},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
).encode()
_MODELS = b'{"object":"list","data":[{"id":"up","object":"model","created":1,"owned_by":"bench"}]}'
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
PLAIN = _OK % len(_PLAIN) + _PLAIN
MODELS = _OK % len(_MODELS) + _MODELS
STREAM = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _chunk({"role": "assistant", "content": ""}),
    *[_chunk({"content": "word "}) for _ in range(TOKENS)],
    _chunk({}, "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
]


class Upstream(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as pooled clients need it."""

    def __init__(self) -> None:
        self._seen = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of that class

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while True:
            head, found, rest = self._seen.partition(b"\r\n\r\n")
            match = _LENGTH.search(head)
            length = int(match[1]) if match else 0
            if not found or len(rest) < length:
                return
            self._seen = rest[length:]
            if head.startswith(b"GET"):
                self._transport.write(MODELS)
            elif re.search(rb'"stream": ?true', rest[:length]):
                task = asyncio.get_running_loop().create_task(self._stream())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._transport.write(PLAIN)

    async def _stream(self) -> None:
        """Write one token at a time, as an engine does; the loop runs in between."""
        for chunk in STREAM:
            self._transport.write(chunk)
            await asyncio.sleep(0)


async def main() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(
        Upstream, "127.0.0.1", int(sys.argv[1]), backlog=512
    )
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
