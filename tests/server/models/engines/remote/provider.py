"""A stand-in for a provider: returns the answers of a test one after another and records the requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. A ``body`` of bytes is sent unchanged; any other is sent as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


class Provider:
    """A provider that returns ``answers`` one after another and repeats the last one."""

    def __init__(self, *answers: Answer) -> None:
        self.answers: Sequence[Answer] = answers
        self.url = ""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answer = self.answers[min(len(self.bodies), len(self.answers) - 1)]
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        self.bodies.append(orjson.loads(await request.read()))
        return web.Response(body=answer.data, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Provider]:
    """Run the stand-in on a free port; ``url`` has no path."""
    provider = Provider(*answers)
    app = web.Application()
    app.router.add_post("/{tail:.*}", provider.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()


def completion(text: str = "hello", **message: Any) -> dict[str, Any]:
    """Return a chat completion as OpenAI sends it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "far",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def embeddings(*vectors: Sequence[float]) -> dict[str, Any]:
    """Return embeddings as numbers, as the simpler servers send them, in the wrong order."""
    data = [{"object": "embedding", "index": i, "embedding": list(v)} for i, v in enumerate(vectors)]
    return {"object": "list", "data": data[::-1], "model": "far", "usage": {"prompt_tokens": len(vectors)}}
