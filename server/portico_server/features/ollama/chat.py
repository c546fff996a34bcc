"""``/api/chat`` and ``/api/generate``: answers of models and apps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson

from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.bodies import CHAT, COMPLETION
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest
from portico_server.core.invalid import wrong
from portico_server.core.request import Tokenize
from portico_server.core.servable import Servable, relays
from portico_server.features.ollama.answer import (
    NDJSON,
    OllamaAnswer,
    Write,
    answer_lines,
    chat_fields,
    generate_fields,
    logprob_fields,
    pieces_of_app,
    pieces_of_model,
)
from portico_server.features.ollama.bodies import CHATTED, GENERATED
from portico_server.features.ollama.conversation import chat_messages, chat_options, with_pictures
from portico_server.features.ollama.names import named_servable


async def _answer(
    exchange: Exchange,
    services: ApiServices,
    body: Mapping[str, Any],
    chat: dict[str, Any],
    servable: Servable,
    write: Write,
) -> None:
    """Answer the chat completion request ``chat`` with JSON lines, or with one document."""
    caller, answer = caller_of(exchange), OllamaAnswer(body["model"])
    chat |= {"stream": True, "stream_options": {"include_usage": True}}
    (COMPLETION if "prompt" in chat else CHAT).check(chat)
    if relays(servable):
        pieces = pieces_of_model(exchange, services, servable, chat, answer)
    elif chat.get("logprobs"):
        raise InvalidRequest(
            f"The app '{chat['model']}' does not support 'logprobs'; omit it, or call a model directly.",
            code="unsupported_parameter",
            param="logprobs",
        )
    elif "prompt" in chat:
        raise InvalidRequest(f"'{chat['model']}' is a chat model; omit 'raw' and 'suffix'.", param="model")
    else:
        pieces = pieces_of_app(services, chat["model"], chat, caller, answer)
    if body.get("stream") is not False:
        await exchange.stream(answer_lines(pieces, answer, write), NDJSON)
        return
    with Presence(exchange):
        async with aclosing(pieces):
            parts = []
            async for piece in pieces:
                answer.first = answer.first or time.perf_counter()
                parts.append(piece)
    tokens = [token for piece in parts for token in piece.logprobs]
    text, thoughts = "".join(piece.text for piece in parts), "".join(piece.thoughts for piece in parts)
    document = {**write(text, thoughts, answer.called()), **logprob_fields(tokens)}
    await exchange.answer(200, orjson.dumps({**answer.head(), **document, **answer.end()}))


async def _load(
    exchange: Exchange,
    services: ApiServices,
    body: Mapping[str, Any],
    name: str,
    servable: Servable,
    write: Write,
) -> None:
    """Load the model for a request without a prompt, or unload the model if ``keep_alive`` is 0."""
    caller, reason = caller_of(exchange), "load"
    if body.get("keep_alive") in (0, "0", "0s"):
        caller.require("admin")
        await services.models.unload(servable.card.name)
        reason = "unload"
    elif relays(servable):
        with Presence(exchange):
            await services.runner.call(
                "tokenize", name, Tokenize(messages=({"role": "user", "content": ""},)), caller
            )
    head = OllamaAnswer(body["model"]).head()
    await exchange.answer(
        200, orjson.dumps({**head, **write("", "", []), "done": True, "done_reason": reason})
    )


async def chat(exchange: Exchange, services: ApiServices) -> None:
    """Answer a conversation."""
    body = await exchange.json()
    CHATTED.check(body)
    name, servable = await named_servable(services, body["model"], "chat/completions", caller_of(exchange))
    if not body.get("messages"):
        await _load(exchange, services, body, name, servable, chat_fields)
        return
    request_body = {"model": name, "messages": chat_messages(body), **chat_options(body, servable.card)}
    if body.get("tools"):
        request_body["tools"] = body["tools"]
    await _answer(exchange, services, body, request_body, servable, chat_fields)


async def generate(exchange: Exchange, services: ApiServices) -> None:
    """Answer a prompt. If the prompt is ``raw`` or has a ``suffix``, continue it instead."""
    body = await exchange.json()
    GENERATED.check(body)
    for name in ("context", "template"):
        if body.get(name):
            wrong(name, "is not supported; send the conversation to /api/chat")
    continues = bool(body.get("raw") or body.get("suffix"))
    operation = "completions" if continues else "chat/completions"
    name, servable = await named_servable(services, body["model"], operation, caller_of(exchange))
    if not body.get("prompt"):
        await _load(exchange, services, body, name, servable, generate_fields)
        return
    options = chat_options(body, servable.card)
    if continues:
        if options.get("logprobs"):
            wrong("logprobs", "cannot be combined with 'raw' or 'suffix'")
        request_body = {"model": name, "prompt": body["prompt"], **options}
        if body.get("suffix"):
            request_body["suffix"] = body["suffix"]
    else:
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        content = (
            with_pictures(body["prompt"], body["images"], "images") if body.get("images") else body["prompt"]
        )
        request_body = {"model": name, "messages": [*system, {"role": "user", "content": content}], **options}
    await _answer(exchange, services, body, request_body, servable, generate_fields)
