"""An engine's server that sends one token per step to each of its streams: ``python bench/steps.py PORT``.

Like vLLM on a GPU, one step gives every stream of the batch its next token, and each token becomes its own frame in
vLLM's form. A request's ``max_tokens`` is the number of its tokens, ``seed`` the tokens per second; the role is sent
at once. A token's text is the time at which it was written, so that a reader can tell how late it is.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any, cast

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_MODELS = b'{"object":"list","data":[{"id":"up","object":"model","created":1,"owned_by":"bench"}]}'
_LISTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"

_STAMP = "0" * 19


def _frame(choices: list[dict[str, Any]], **more: Any) -> bytes:
    """Return one frame in vLLM's form (`ChatCompletionStreamResponse` without unset fields), as one HTTP chunk."""
    head = {"id": "chatcmpl-a1b2c3d4e5f60718293a4b5c6d7e8f90", "object": "chat.completion.chunk"}
    document = {**head, "created": 1763000000, "model": "up", "choices": choices, **more}
    text = b"data: %s\n\n" % json.dumps(document, separators=(",", ":")).encode()
    return b"%x\r\n%s\r\n" % (len(text), text)


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, "token_ids": None}


ROLE = _frame([_choice({"role": "assistant", "content": ""})], prompt_token_ids=None, prompt_text=None)
BEFORE, AFTER = _frame([_choice({"content": _STAMP})]).split(_STAMP.encode())
LAST = _frame([{**_choice({"content": ""}, "length"), "stop_reason": None}])
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def _usage(tokens: int) -> bytes:
    return _frame([], usage={"prompt_tokens": 9, "total_tokens": 9 + tokens, "completion_tokens": tokens})


class Batch:
    """The streams that receive their tokens at the same rate."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._loop = asyncio.get_running_loop()
        self._streams: dict[Stream, list[int]] = {}
        self._next = 0.0

    def add(self, stream: Stream, tokens: int) -> None:
        if not self._streams:
            self._next = self._loop.time() + self._interval
            self._loop.call_at(self._next, self._step)
        self._streams[stream] = [tokens, tokens]

    def discard(self, stream: Stream) -> None:
        self._streams.pop(stream, None)

    def _step(self) -> None:
        for stream, count in tuple(self._streams.items()):
            count[0] -= 1
            stream.write(b"%s%019d%s" % (BEFORE, time.monotonic_ns(), AFTER))
            if count[0] <= 0:
                stream.write(LAST + _usage(count[1]) + DONE)
                del self._streams[stream]
        if self._streams:
            self._next += self._interval
            self._loop.call_at(self._next, self._step)


class Stream(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as pooled clients need it."""

    batches: dict[float, Batch] = {}  # noqa: RUF012  # one process, one server

    def __init__(self) -> None:
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of that class
        self.write = self.transport.write

    def connection_lost(self, error: Exception | None) -> None:
        for batch in self.batches.values():
            batch.discard(self)

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
                self.write(_LISTED % (len(_MODELS), _MODELS))
                continue
            request = json.loads(rest[:length])
            self.write(_HEAD + ROLE)
            rate = float(request["seed"])
            if rate not in self.batches:
                self.batches[rate] = Batch(rate)
            self.batches[rate].add(self, request["max_tokens"])


async def main() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(
        Stream, "127.0.0.1", int(sys.argv[1]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
