"""LMDeploy's server as far as the daemon sees it: its arguments, its key, its dialect, its errors (LMDeploy 0.18).

Its behaviour was taken from LMDeploy itself: see ``tests/server/features/gpu_engines/lmdeploy``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import orjson
import standin
from aiohttp import web

from portico_server.models.engines.fake import script
from portico_server.models.engines.fake.worker import FakeServer, _paced

TYPES = {401: "authentication_error", 404: "not_found_error", 500: "server_error", 503: "server_error"}


def refuse(status: int, message: str) -> web.Response:
    kind = TYPES.get(status, "invalid_request_error")
    body = {"message": message, "type": kind, "code": status, "param": None, "object": "error"}
    return web.json_response(body, status=status)


def broken(_message: str) -> web.Response:
    """Answer with a failure whose cause appears only in the log."""
    failure = {"message": "An internal server error occurred.", "type": "server_error", "code": 500}
    frames = b"data: " + orjson.dumps({"error": {**failure, "param": None, "object": "error"}}) + b"\n\n"
    return web.Response(body=frames + b"data: [DONE]\n\n", content_type="text/event-stream")


class LmServer(FakeServer):
    """Streams as LMDeploy does and implements nothing else of it."""

    sessions: dict[int, asyncio.Event] = {}  # noqa: RUF012  one server, with its adapters

    async def _generate(
        self, request: web.Request, body: dict[str, Any], said: str, prompt: str
    ) -> web.StreamResponse:
        if body.get("stream") is not True or body.get("n", 1) != 1 or not isinstance(prompt, str):
            return refuse(400, "the daemon asks for one streamed choice at a time")
        rule = self._player.next(said)
        await asyncio.sleep(rule.delay)
        if rule.error is not None:
            return refuse(rule.error.status, rule.error.message)
        chat = request.path.endswith("chat/completions")
        choice = script.choose_reply(rule, body, 0, chat=chat)
        head = {
            "id": "chatcmpl-x" if chat else "-1",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": body["model"],
        }
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)

        async def send(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> None:
            await response.write(
                b"data: " + orjson.dumps({**head, "choices": choices, "usage": usage}) + b"\n\n"
            )

        def piece_of(text: str, finish: str | None = None) -> dict[str, Any]:
            content = {"delta": {"role": "assistant", "content": text}} if chat else {"text": text}
            choice_document = {"index": 0, **content, **({"finish_reason": finish} if finish else {})}
            if text and body.get("logprobs"):
                token = {"token": text.replace(" ", "▁"), "logprob": 0.0, "bytes": list(text.encode())}
                choice_document["logprobs"] = {"content": [{**token, "top_logprobs": []}]}
            return choice_document

        session_end = self.sessions.setdefault(body.get("session_id", -1), asyncio.Event())
        completion_tokens, finish = 0, choice.finish_reason
        try:
            async for piece in _paced(rule, choice.pieces):
                if session_end.is_set():
                    finish = "abort"
                    break
                completion_tokens += 1
                await send([piece_of(piece)])
            await send([piece_of("", finish)])
        finally:
            self.sessions.pop(body.get("session_id", -1), None)
        tokens = len(script.split_words(prompt))
        usage_fields = {
            "prompt_tokens": tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": tokens + completion_tokens,
        }
        await send([], {**usage_fields, "prompt_tokens_details": {"cached_tokens": 0}})
        await response.write(b"data: [DONE]\n\n")
        return response


async def abort(request: web.Request) -> web.Response:
    session = (await request.json())["session_id"]
    if session not in LmServer.sessions:
        return refuse(400, f"Session {session} not found.")
    LmServer.sessions[session].set()
    return web.Response()


async def check(request: web.Request) -> web.Response | None:
    body = await request.json()
    if "stop" in body:
        return refuse(400, "LMDeploy would take any token for a stop that has its text somewhere in it")
    if (
        request.path.endswith("/completions")
        and not request.path.endswith("chat/completions")
        and "logprobs" in body
    ):
        return refuse(400, "LMDeploy would break off this stream")
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema" and "name" not in response_format["json_schema"]:
        return refuse(400, "response_format.json_schema.name: Field required")
    if body.get("tools") and body.get("tool_choice") != "none" and not given.tool_call_parser:
        return refuse(400, "Please launch the api_server with --tool-call-parser if you want to use tools.")
    return None


parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("serve", choices=("serve",))
parser.add_argument("api_server", choices=("api_server",))
parser.add_argument("model_path")
parser.add_argument("--model-name")
parser.add_argument("--server-name", default="0.0.0.0")
parser.add_argument("--server-port", type=int)
parser.add_argument("--api-keys", nargs="*")
parser.add_argument("--session-len", type=int, default=2048)
parser.add_argument("--tp", type=int, default=1)
parser.add_argument("--dtype", choices=("auto", "float16", "bfloat16"), default="auto")
parser.add_argument("--max-batch-size", type=int)
parser.add_argument("--cache-max-entry-count", type=float, default=0.8)
parser.add_argument("--backend", choices=("pytorch", "turbomind"), default="turbomind")
parser.add_argument("--logprobs-mode", choices=(None, "raw_logits", "raw_logprobs"))
parser.add_argument("--enable-abort-handling", action="store_true")
parser.add_argument("--tool-call-parser")
parser.add_argument("--reasoning-parser")
parser.add_argument("--adapters", nargs="*")
given = parser.parse_args()


def main() -> None:
    assert given.server_name == "127.0.0.1" and os.path.isdir(given.model_path) and len(given.api_keys) == 1
    assert given.enable_abort_handling and (given.backend == "pytorch" or not given.adapters)
    loras = standin.Loras(LmServer)
    for pair in given.adapters or ():
        loras.load(*pair.split("=", 1))
    standin.serve(
        loras=loras,
        port=given.server_port,
        key=given.api_keys[0],
        model=given.model_name,
        length=given.session_len,
        refuse=refuse,
        check=check,
        routes={"/abort_request": abort},
        server=LmServer,
        dialect=standin.Dialect(
            tells_length=False,
            too_long="Input length ({tokens}) must be smaller than the model context length ({length}).",
            locked=lambda: refuse(401, "Unauthorized."),
            broken=broken,
        ),
    )


main()
