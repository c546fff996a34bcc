"""``POST /v1/messages`` and ``/v1/messages/count_tokens``. The relay forwards requests for models; answers of apps are
translated from the events of their runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from portico.wire import Cited, Delta, Passage
from portico_server.api.exchange import Exchange, Message, Presence, close_source
from portico_server.api.openai.relay import caller_of, fill_model, find
from portico_server.api.services import ApiServices
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.json_values import required_text
from portico_server.core.relay import OriginalRequest, Relay, RelayResponse
from portico_server.core.request import Chat, ChatReply, Tokenize, TokenizedText
from portico_server.core.servable import Relays, relays
from portico_server.features.anthropic import answer
from portico_server.features.anthropic.answer import Head
from portico_server.features.anthropic.conversation import Target
from portico_server.features.anthropic.request import COUNTED, chat_of, prompt_of
from portico_server.features.anthropic.stream import PING, Stream
from portico_server.models.token_usage import estimate_tokens
from portico_server.runs.run import Run

_OURS = ("model", "messages", "stream")
"""Fields that the protocol adapter handles itself. All other fields are options of the app."""

FORWARDED = ("anthropic-beta", "anthropic-version")
"""Headers that change how a model that speaks this protocol interprets the request."""


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Answer a conversation, either with a complete message or with a stream."""
    body = await exchange.json()
    await fill_model(services, body, "chat/completions", caller_of(exchange))
    name = required_text(body, "model", "", empty=False)
    servable = await find(services, name, "chat/completions", caller_of(exchange))
    target = Target.of(servable.card)
    chat = chat_of(body, target)
    head = Head(name, chat.get("stop", ()), estimate_tokens(chat) if chat.get("stream") else 0)
    if not relays(servable):
        await _app(exchange, services, chat, head)
        return
    original = OriginalRequest("anthropic", body, _forwarded(exchange)) if target.speaks else None
    await _model(exchange, services, servable, Relay("chat/completions", chat, original=original), head)


async def count_tokens(exchange: Exchange, services: ApiServices) -> None:
    """Count the tokens of a conversation, including its tools, for a model. This loads the model."""
    body = await exchange.json()
    await fill_model(services, body, "chat/completions", caller_of(exchange))
    name = required_text(body, "model", "", empty=False)
    servable = await find(services, name, "chat/completions", caller_of(exchange))
    target = Target.of(servable.card)
    COUNTED.check(body)
    options = prompt_of(body, target)
    messages = options.pop("messages")
    if not relays(servable):
        raise InvalidRequest(
            f"'{name}' is an app and has no tokenizer; count the tokens with the app's model.",
            code="tokens_unsupported",
            param="model",
        )
    with Presence(exchange):
        tokenized = await services.runner.call(
            "tokenize", name, Tokenize(messages=tuple(messages), options=options), caller_of(exchange)
        )
    if not isinstance(tokenized, TokenizedText):
        raise PorticoError(f"'{name}' did not answer the request with a token count.")
    await exchange.answer(200, orjson.dumps({"input_tokens": len(tokenized.ids)}))


def _forwarded(exchange: Exchange) -> dict[str, str]:
    header_values = {name: exchange.header(name.encode()) for name in FORWARDED}
    return {name: value.decode("latin-1") for name, value in header_values.items() if value}


async def _model(
    exchange: Exchange, services: ApiServices, model: Relays, request: Relay, head: Head
) -> None:
    async def relay() -> RelayResponse:
        relay_response = await services.runner.relay(
            model, request.body["model"], request, caller_of(exchange)
        )
        head.model = relay_response.answered_by or head.model
        exchange.name_unenforced(relay_response.unenforced)
        return relay_response

    async def begin(_head: Message) -> AsyncIterator[bytes]:
        return _relayed(await relay(), Stream(head))

    if request.stream:
        await exchange.stream(begin)
        return
    with Presence(exchange):
        relay_response = await relay()
        data = await relay_response.read()
    if relay_response.protocol == "anthropic":
        await exchange.answer(200, data)
    else:
        message = answer.of_completion(_parse(data), head, relay_response.usage)
        await exchange.answer(200, orjson.dumps(message))


async def _relayed(relay_response: RelayResponse, stream: Stream) -> AsyncIterator[bytes]:
    """Yield the chunks of a relayed chat as message events. Chunks from a model that speaks this protocol pass through
    unchanged.
    """
    try:
        async for chunk in relay_response.chunks:
            if relay_response.protocol == "anthropic":
                yield chunk
            elif frames := _events(chunk, stream):
                yield frames
        if relay_response.protocol != "anthropic":
            yield stream.end(relay_response.usage)
    finally:
        await close_source(relay_response.chunks)


def _events(chunk: bytes, stream: Stream) -> bytes:
    """Translate chat frames into events. An error frame yields nothing, because the caller raises its error next."""
    frames = b""
    for line in chunk.split(b"\n"):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data != b"[DONE]":
                frames += stream.chunk(_parse(data))
        elif line.startswith(b":"):
            frames += PING
    return frames


def _parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The model's answer is not valid JSON.") from error


async def _app(exchange: Exchange, services: ApiServices, chat: dict[str, Any], head: Head) -> None:
    options = {key: value for key, value in chat.items() if key not in _OURS}
    run = await services.runner.start(
        "chat/completions", chat["model"], Chat(tuple(chat["messages"]), options), caller_of(exchange)
    )
    exchange.extra.append((b"x-portico-run", run.id.encode()))
    if chat.get("stream"):
        await exchange.stream(_native_frames(services, run, Stream(head)))
        return
    with Presence(exchange):
        reply = _reply(await services.runner.wait(run), run.name)
    await exchange.answer(200, orjson.dumps(answer.of_reply(reply, head)))


async def _native_frames(services: ApiServices, run: Run, stream: Stream) -> AsyncIterator[bytes]:
    """Yield the events of a run as message events. Closing this generator cancels the run."""
    passages: tuple[Passage, ...] = ()
    has_started = False
    try:
        async for _number, event in run.log.follow():
            match event:
                case Cited():
                    passages = event.passages
                case Delta(text=text) if text:
                    yield stream.text(text)
                    has_started = True
        reply = _reply(await services.runner.wait(run), run.name)  # raises the run's error if the run failed
        if reply.content and not has_started:
            yield stream.text(reply.content)
        citation_frames = stream.citation_frames(reply.citations or passages)
        calls = [stream.called(call.id, call.name, call.arguments) for call in reply.tool_calls]
        yield citation_frames + b"".join(calls) + stream.end(reply.usage, reply.finish_reason)
    finally:
        await run.leave()


def _reply(result: Any, name: str) -> ChatReply:
    if not isinstance(result, ChatReply):
        raise PorticoError(f"'{name}' did not answer the conversation with a chat reply.")
    return result
