"""The process of a fake model.

It can also run without a daemon, for benchmarks: ``python -m portico_server.models.engines.fake.worker --port 9000``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import signal
import sys
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from portico.wire import Usage
from portico_server.core.errors import InvalidRequest
from portico_server.core.ids import new_id
from portico_server.models.embedding_wire import dimensions_of, document, encoding_of, shorten, texts_of
from portico_server.models.engines import worker_http, worker_link
from portico_server.models.engines.fake import script as scripts
from portico_server.models.engines.fake.media import FakeImages, FakeSpeech
from portico_server.models.engines.fake.script import (
    FakeChoice,
    Script,
    ScriptedReply,
    ScriptPlayer,
    load_script,
    read_script,
)
from portico_server.models.engines.openai_client.requests import fitted_message
from portico_server.models.token_usage import usage_to_json

START_LOG_LINES = 10
"""Number of log lines that a slow start writes."""


class FakeServer:
    """OpenAI's endpoints for one script, and for the scripts of ``adapters``, which a request selects by name.

    ``sees`` means that the model accepts images.
    """

    def __init__(
        self, script: Script, adapters: Mapping[str, Script] | None = None, *, sees: bool = False
    ) -> None:
        self._script = script
        self._sees = sees
        self._player = ScriptPlayer(script)
        self._words: dict[int, str] = {}
        self._adapters = {name: ScriptPlayer(own_value) for name, own_value in (adapters or {}).items()}

    def mount(self, app: web.Application) -> web.Application:
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/embeddings", self.embed)
        app.router.add_post("/v1/rerank", self.rerank)
        app.router.add_post("/tokenize", self.tokenize)
        app.router.add_post("/detokenize", self.detokenize)
        FakeImages(self._player).mount(app)
        FakeSpeech(self._player).mount(app)
        return app

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await worker_http.body_of(request)
        messages = body.get("messages") or []
        for index, message in enumerate(messages):
            _check_content(message, f"messages[{index}]", sees=self._sees)
        return await self._generate(
            request, body, scripts.last_user_text(messages), scripts.prompt_text(messages)
        )

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await worker_http.body_of(request)
        prompt = body.get("prompt")
        text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt or ()))
        return await self._generate(request, body, text, text)

    async def _generate(
        self, request: web.Request, body: dict[str, Any], text: str, prompt: str
    ) -> web.StreamResponse:
        prompt_tokens = len(scripts.split_words(prompt))
        limit = self._script.context_length
        if limit is not None and prompt_tokens >= limit:
            raise InvalidRequest(
                f"The prompt has {prompt_tokens} tokens, but the context of this model has {limit}.",
                code="context_length_exceeded",
                param="messages",
            )
        messages = body.get("messages") or []
        player = self._adapters.get(str(body.get("model")), self._player)
        rule = player.next(text, scripts.system_text(messages), scripts.results_text(messages))
        if rule.delay:
            await asyncio.sleep(rule.delay)
        if rule.error is not None:
            error = rule.error
            return worker_http.failure(error.status, error.message, error.type, error.code, error.retry_after)
        chat = request.path.endswith("chat/completions")
        choices = [scripts.choose_reply(rule, body, index, chat=chat) for index in range(body.get("n") or 1)]
        usage = Usage(prompt_tokens, sum(len(choice.pieces) + choice.call_tokens for choice in choices))
        if body.get("echo") and not chat:
            for choice in choices:
                choice.pieces.insert(0, text)
        envelope = _Envelope(chat, str(body.get("model", "fake")))
        if body.get("stream") is True:
            return await self._stream(request, body, rule, choices, usage, envelope)
        for choice in choices:
            async for _ in _paced(rule, choice.pieces):
                pass
        return worker_http.answer(envelope.to_json(choices, usage, logprobs=bool(body.get("logprobs"))))

    async def _stream(
        self,
        request: web.Request,
        body: dict[str, Any],
        rule: ScriptedReply,
        choices: list[FakeChoice],
        usage: Usage,
        envelope: _Envelope,
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        options = body.get("stream_options") or {}

        async def send(value: dict[str, Any]) -> None:
            await response.write(b"data: " + orjson.dumps(value) + b"\n\n")

        for choice in choices:
            if envelope.chat:
                await send(envelope.chunk(choice.index, {"role": "assistant", "content": ""}))
            async for piece in _paced(rule, choice.pieces):
                logprobs = scripts.fake_logprobs([piece]) if body.get("logprobs") else None
                await send(envelope.chunk(choice.index, {"content": piece}, logprobs=logprobs))
            for position, call in enumerate(choice.calls):
                head = {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": ""},
                }
                await send(envelope.chunk(choice.index, {"tool_calls": [{"index": position, **head}]}))
                for part in scripts.split_words(call["arguments"]):
                    delta = {"tool_calls": [{"index": position, "function": {"arguments": part}}]}
                    await send(envelope.chunk(choice.index, delta))
            end = envelope.chunk(choice.index, {}, finish=choice.finish_reason)
            end["choices"][0] |= _stop_reason(choice)
            await send(end)
        if options.get("include_usage"):
            await send({**envelope.head(chunk=True), "choices": [], "usage": usage_to_json(usage)})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def embed(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await worker_http.body_of(request)
        texts = texts_of(body)
        dimensions = dimensions_of(body, self._script.dimensions)
        vectors = [shorten(scripts.fake_vector(text, self._script.dimensions), dimensions) for text in texts]
        usage = Usage(sum(len(scripts.split_words(text)) for text in texts))
        return worker_http.answer(document(vectors, encoding_of(body), str(body.get("model", "fake")), usage))

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await worker_http.body_of(request)
        documents = [str(document) for document in body.get("documents") or ()]
        scores = scripts.count_common_words(str(body.get("query", "")), documents)
        order = sorted(range(len(documents)), key=lambda index: -scores[index])[: body.get("top_n")]
        tokens = sum(len(scripts.split_words(text)) for text in documents)
        return worker_http.answer(
            {
                "model": body.get("model", "fake"),
                "results": [{"index": index, "relevance_score": scores[index]} for index in order],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        """Return tokens in vLLM's format. Each word is a token, numbered by a hash."""
        body: dict[str, Any] = await worker_http.body_of(request)
        prompt = body.get("prompt")
        text = prompt if isinstance(prompt, str) else scripts.prompt_text(body.get("messages") or [])
        if body.get("tools"):
            text += "\n" + orjson.dumps(body["tools"]).decode()
        texts = scripts.split_words(text)
        ids = [zlib.crc32(word.encode()) >> 1 for word in texts]
        self._words.update(zip(ids, texts, strict=True))
        tokenization = {"count": len(ids), "max_model_len": self._script.context_length, "tokens": ids}
        return worker_http.answer(
            {**tokenization, "token_strs": texts if body.get("return_token_strs") else None}
        )

    async def detokenize(self, request: web.Request) -> web.StreamResponse:
        """Return the text of tokens that the model has returned before."""
        body: dict[str, Any] = await worker_http.body_of(request)
        ids: list[Any] = body.get("tokens") or []
        unknown = next((number for number in ids if number not in self._words), None)
        if unknown is not None:
            raise InvalidRequest(f"Token {unknown} is not in this model's vocabulary.", param="tokens")
        return worker_http.answer({"prompt": "".join(self._words[number] for number in ids)})


def _check_content(message: Mapping[str, Any], path: str, *, sees: bool) -> None:
    """Raise `InvalidRequest` for content that a model cannot read, as the engines for real models do."""
    content = fitted_message(message, path, sees=sees)["content"]
    for part in content if isinstance(content, list) else ():
        if part["type"] == "image_url":
            image = part["image_url"]
            url: str = image["url"] if isinstance(image, Mapping) else image
            try:
                base64.b64decode(url.partition(",")[2], validate=True)
            except ValueError as error:
                raise InvalidRequest(
                    f"An image of '{path}' is not valid base64: {error}.", param=f"{path}.content"
                ) from error


class _Envelope:
    """The fields that all answers and chunks of one call have in common."""

    def __init__(self, chat: bool, model: str) -> None:
        self.chat = chat
        self._id = new_id("chatcmpl-" if chat else "cmpl-")
        self._created = int(time.time())
        self._model = model

    def head(self, *, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def chunk(
        self, index: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        content = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": finish}
        return {**self.head(chunk=True), "choices": [choice]}

    def to_json(self, choices: list[FakeChoice], usage: Usage, *, logprobs: bool) -> dict[str, Any]:
        return {
            **self.head(chunk=False),
            "choices": [
                {
                    "index": choice.index,
                    **({"message": choice.message()} if self.chat else {"text": "".join(choice.pieces)}),
                    "logprobs": scripts.fake_logprobs(choice.pieces) if logprobs else None,
                    "finish_reason": choice.finish_reason,
                    **_stop_reason(choice),
                }
                for choice in choices
            ],
            "usage": usage_to_json(usage),
        }


def _stop_reason(choice: FakeChoice) -> dict[str, str]:
    return {"stop_reason": choice.stopped_by} if choice.stopped_by else {}


async def _paced(rule: ScriptedReply, pieces: list[str]) -> AsyncIterator[str]:
    """Yield the pieces at the pace of the rule, until the rule makes the process crash or hang."""
    for number, piece in enumerate([*pieces, ""]):
        if rule.crash == number:
            os.kill(os.getpid(), signal.SIGKILL)
        if rule.hang == number:
            await asyncio.get_running_loop().create_future()
        if piece:
            if rule.interval and number:
                await asyncio.sleep(rule.interval)
            yield piece


def _load(seconds: float) -> None:
    """Imitate the loading time of a large model, and write log lines as it would."""
    for step in range(1, START_LOG_LINES + 1) if seconds else ():
        time.sleep(seconds / START_LOG_LINES)
        percent = 100 * step // START_LOG_LINES
        print(f"Loading safetensors checkpoint shards: {percent:3}% Completed", file=sys.stderr, flush=True)


def main() -> None:
    """Run as a child of the daemon if called without arguments, or standalone with ``--port``."""
    parser = argparse.ArgumentParser(prog="python -m portico_server.models.engines.fake.worker")
    parser.add_argument("--port", type=int, help="serve standalone on this port of 127.0.0.1, without a key")
    parser.add_argument("--script", default="", help="a YAML script")
    parser.add_argument("--vision", action="store_true", help="accept images")
    arguments = parser.parse_args()
    if arguments.port is not None:
        server = FakeServer(load_script(arguments.script), sees=arguments.vision)
        app = server.mount(worker_http.application(""))
        worker_http.serve(app, port=arguments.port, is_announced=False)
        return
    config = worker_link.receive()
    _load(config["script"].get("start") or 0)
    adapters = {name: read_script(script) for name, script in config["adapters"].items()}
    server = FakeServer(read_script(config["script"]), adapters, sees=config["sees"])
    worker_http.serve(server.mount(worker_http.application(config["key"])), host=config["host"])


if __name__ == "__main__":
    main()
