"""Ollama's API, for programs that speak only that: ``/api/chat``, ``/api/generate``, ``/api/embed``, ``/api/tags`` …

The address to set there is the daemon's own, without a path. Models are added and removed by Portico's commands.
Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from portico.wire import Delta, Usage
from portico_server import __version__
from portico_server.api.anthropic.answer import thoughts_in
from portico_server.api.anthropic.conversation import THOUGHTS
from portico_server.api.error_shape import Shape
from portico_server.api.errors import RawHeaders
from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.bodies import CHAT, COMPLETION, EMBEDDING
from portico_server.api.openai.embeddings import document
from portico_server.api.openai.relay import caller_of, find
from portico_server.api.services import ApiServices
from portico_server.core import fields
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound, PorticoError
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import wrong, wrong_type
from portico_server.core.principal import Principal
from portico_server.core.relay import Relay
from portico_server.core.request import Chat, Embed, Reply, Tokenize, Vectors
from portico_server.core.servable import Card, Relays, Servable, relays

API_VERSION: Final = "0.13.0"
"""The version of Ollama whose API this is: programs ask for it before they use what is new."""

LATEST: Final = ":latest"
"""What Ollama's programs put behind a name without a tag."""

_NDJSON: Final[RawHeaders] = [(b"content-type", b"application/x-ndjson")]
_PICTURES: Final = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklGR": "webp"}
"""How base64 of a picture begins."""

# --- what is asked --------------------------------------------------------------------------------------------------

_NAME: Final = fields.name("must not be empty; GET /api/tags lists the names")
_OPTIONS: Final = fields.mapping(
    {
        "temperature": fields.number(0, 2),
        "top_p": fields.number(0, 1),
        "top_k": fields.integer(0),
        "min_p": fields.number(0, 1),
        "seed": fields.integer(),
        "num_predict": fields.integer(-2),
        "stop": fields.anything(),
        "presence_penalty": fields.number(-2, 2),
        "frequency_penalty": fields.number(-2, 2),
        "repeat_penalty": fields.number(0, 10),
    }
)
_TEXTS: Final = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_COMMON: Final = {
    "stream": fields.boolean().noted(default=True),
    "format": fields.anything(oneOf=[{"enum": ["json", ""]}, {"type": "object"}]),
    "options": _OPTIONS,
    "think": fields.anything(oneOf=[{"type": "boolean"}, {"enum": ["low", "medium", "high"]}]),
    "keep_alive": fields.anything(
        description="0 without messages unloads the model; otherwise the daemon decides"
    ),
}

CHATTED: Final = RequestBody(
    {"model": _NAME},
    {
        **_COMMON,
        "messages": fields.items(fields.mapping({"role": fields.text()}), "a list of messages"),
        "tools": fields.items(fields.mapping(), "a list of tools"),
    },
    example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
)
"""``POST /api/chat``. What stands within messages is checked once they are those of a chat completion."""

GENERATED: Final = RequestBody(
    {"model": _NAME},
    {
        **_COMMON,
        "prompt": fields.text(),
        "suffix": fields.text(),
        "system": fields.text(),
        "raw": fields.boolean(),
        "images": fields.items(fields.text(), "a list of pictures as base64"),
    },
    example={"model": "default", "prompt": "Once upon a time"},
)
"""``POST /api/generate``."""

EMBEDDED: Final = RequestBody(
    {"model": _NAME, "input": fields.anything(**_TEXTS)},
    {"dimensions": fields.integer(1), "truncate": fields.boolean()},
    example={"model": "default-embedding", "input": ["one text", "another"]},
)
"""``POST /api/embed``."""

EMBEDDED_ONE: Final = RequestBody({"model": _NAME, "prompt": fields.text()}, {})
"""``POST /api/embeddings``, which programs call that are older than ``/api/embed``."""

SHOWN: Final = RequestBody({}, {"model": fields.text(), "name": fields.text()}, example={"model": "default"})
"""``POST /api/show``; older programs send ``name``."""


async def _servable(
    services: ApiServices, name: str, operation: Any, caller: Principal
) -> tuple[str, Servable]:
    """The model and the name that it has here."""
    try:
        return name, await find(services, name, operation, caller)
    except NotFound:
        if not name.endswith(LATEST):
            raise
        bare = name.removesuffix(LATEST)
        return bare, await find(services, bare, operation, caller)


def _options(body: Mapping[str, Any], card: Card) -> dict[str, Any]:
    """The options of a chat completion or a completion. Those that place a model in memory are the daemon's own."""
    given = body.get("options") or {}
    names = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
    found = {name: given[name] for name in (*names, "repeat_penalty") if given.get(name) is not None}
    if given.get("stop"):
        found["stop"] = given["stop"]
    if (given.get("num_predict") or 0) > 0:
        found["max_tokens"] = given["num_predict"]
    wanted = body.get("format")
    if wanted == "json":
        found["response_format"] = {"type": "json_object"}
    elif isinstance(wanted, dict):
        found["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": wanted},
        }
    elif wanted:
        wrong("format", "must be 'json' or a JSON schema")
    think = body.get("think")
    if THOUGHTS in card.capabilities and think is not None:
        if isinstance(think, str):
            found["reasoning_effort"] = think
        else:
            found["chat_template_kwargs"] = {"enable_thinking": bool(think)}
    return found


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Messages as a chat completion has them: calls get ids, and results of tools those of the calls before them."""
    found: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []
    for index, message in enumerate(body.get("messages") or ()):
        at = f"messages[{index}]"
        made: dict[str, Any] = {"role": message.get("role"), "content": message.get("content") or ""}
        if images := message.get("images"):
            made["content"] = _with_pictures(made["content"], images, f"{at}.images")
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list):
                wrong_type(f"{at}.tool_calls", "a list", calls)
            made["tool_calls"] = [
                _asked_call(call, f"call_{index}_{n}", f"{at}.tool_calls[{n}]")
                for n, call in enumerate(calls)
            ]
            waiting += [(call["id"], call["function"]["name"]) for call in made["tool_calls"]]
        if message.get("role") == "tool":
            name = message.get("tool_name") or message.get("name")
            answered = next((one for one in waiting if one[1] == name), waiting[0] if waiting else None)
            if answered is None:
                wrong(at, "answers a call, but no message before it calls a tool")
            waiting.remove(answered)
            made["tool_call_id"] = answered[0]
        found.append(made)
    return found


def _asked_call(call: Any, call_id: str, at: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        wrong(at, "must be an object with a 'function' that has a 'name'")
    arguments = orjson.dumps(function.get("arguments") or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _with_pictures(text: Any, images: Any, at: str) -> list[dict[str, Any]]:
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        wrong_type(at, "a list of pictures as base64", images)
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for number, image in enumerate(images):
        kind = next((kind for begin, kind in _PICTURES.items() if image.startswith(begin)), None)
        if kind is None:
            wrong(f"{at}[{number}]", "is not a PNG, JPEG, GIF or WebP picture as base64")
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}})
    return parts


# --- what is answered -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _OllamaAnswer:
    """An answer as it comes: its calls, how it ended, and what it took."""

    model: str
    started: float = field(default_factory=time.perf_counter)
    first: float | None = None
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish: str = "stop"
    usage: Usage = Usage()

    def head(self) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self.model, "created_at": now}

    def add_calls(self, parts: Sequence[Mapping[str, Any]]) -> None:
        for part in parts:
            call = self.calls.setdefault(part.get("index") or 0, {"name": "", "arguments": ""})
            function = part.get("function") or {}
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""

    def called(self) -> list[dict[str, Any]]:
        """Its calls; their arguments are objects there."""
        return [
            {"function": {"name": call["name"], "arguments": _arguments(call["arguments"])}}
            for _index, call in sorted(self.calls.items())
        ]

    def end(self) -> dict[str, Any]:
        """Why it ended, its tokens, and nanoseconds of its parts."""
        now = time.perf_counter()
        first = self.first or now
        return {
            "done": True,
            "done_reason": "length" if self.finish == "length" else "stop",
            "total_duration": int((now - self.started) * 1e9),
            "load_duration": 0,
            "prompt_eval_count": self.usage.prompt_tokens,
            "prompt_eval_duration": int((first - self.started) * 1e9),
            "eval_count": self.usage.completion_tokens,
            "eval_duration": int((now - first) * 1e9),
        }


def _arguments(text: str) -> Any:
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


_Piece = tuple[str, str]
"""Text, and thoughts."""


async def _of_model(
    services: ApiServices, servable: Relays, body: dict[str, Any], caller: Principal, answer: _OllamaAnswer
) -> AsyncGenerator[_Piece, None]:
    operation: Any = "completions" if "prompt" in body else "chat/completions"
    relayed = await services.runner.relay(servable, body["model"], Relay(operation, body), caller)
    if relayed.answered_by:
        answer.model = relayed.answered_by
    try:
        async for chunk in relayed.chunks:
            for line in chunk.split(b"\n"):
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data != b"[DONE]":
                    for choice in _parsed(data).get("choices") or ():
                        delta = choice.get("delta") or {"content": choice.get("text")}
                        answer.add_calls(delta.get("tool_calls") or ())
                        answer.finish = choice.get("finish_reason") or answer.finish
                        yield delta.get("content") or delta.get("refusal") or "", thoughts_in(delta)
    finally:
        close = getattr(relayed.chunks, "aclose", None)
        if close is not None:
            await close()
        answer.usage = relayed.usage


async def _of_app(
    services: ApiServices, name: str, body: Mapping[str, Any], caller: Principal, answer: _OllamaAnswer
) -> AsyncGenerator[_Piece, None]:
    options = {
        key: value
        for key, value in body.items()
        if key not in ("model", "messages", "stream", "stream_options")
    }
    run = services.runner.start("chat/completions", name, Chat(tuple(body["messages"]), options), caller)
    started = False
    try:
        async for _number, event in run.log.follow():
            if isinstance(event, Delta) and event.text:
                started = True
                yield event.text, ""
        reply = await services.runner.wait(run)
        if not isinstance(reply, Reply):
            raise PorticoError(f"'{name}' answered a conversation with something else.")
        if not started:
            yield reply.content, ""
        for index, call in enumerate(reply.tool_calls):
            answer.calls[index] = {"name": call.name, "arguments": call.arguments}
        answer.finish, answer.usage = reply.finish_reason, reply.usage
    finally:
        await run.leave()


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The model answered something that is not JSON.") from error


_Write = Callable[[str, str, list[dict[str, Any]]], dict[str, Any]]
"""Text, thoughts and calls as the fields of a line."""


def _chat_fields(text: str, thoughts: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thoughts:
        message["thinking"] = thoughts
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def _generate_fields(text: str, thoughts: str, _calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"response": text, **({"thinking": thoughts} if thoughts else {})}


async def _lines(
    pieces: AsyncGenerator[_Piece, None], answer: _OllamaAnswer, write: _Write
) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        async for text, thoughts in pieces:
            if text or thoughts:
                answer.first = answer.first or time.perf_counter()
                yield _line({**answer.head(), **write(text, thoughts, []), "done": False})
    if calls := answer.called():
        yield _line({**answer.head(), **write("", "", calls), "done": False})
    yield _line({**answer.head(), **write("", "", []), **answer.end()})


def _line(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document) + b"\n"


async def _answer(
    exchange: Exchange,
    services: ApiServices,
    body: Mapping[str, Any],
    chat: dict[str, Any],
    servable: Servable,
    write: _Write,
) -> None:
    """Answer ``chat`` in lines, or as one document."""
    caller, answer = caller_of(exchange), _OllamaAnswer(body["model"])
    chat |= {"stream": True, "stream_options": {"include_usage": True}}
    (COMPLETION if "prompt" in chat else CHAT).check(chat)
    if relays(servable):
        pieces = _of_model(services, servable, chat, caller, answer)
    elif "prompt" in chat:
        raise InvalidRequest(
            f"'{chat['model']}' answers conversations; leave out 'raw' and 'suffix'.", param="model"
        )
    else:
        pieces = _of_app(services, chat["model"], chat, caller, answer)
    if body.get("stream") is not False:
        await exchange.stream(_lines(pieces, answer, write), _NDJSON)
        return
    texts, thoughts = [], []
    with Presence(exchange):
        async with aclosing(pieces):
            async for text, thought in pieces:
                answer.first = answer.first or time.perf_counter()
                texts.append(text)
                thoughts.append(thought)
    whole = write("".join(texts), "".join(thoughts), answer.called())
    await exchange.answer(200, orjson.dumps({**answer.head(), **whole, **answer.end()}))


async def _load(
    exchange: Exchange,
    services: ApiServices,
    body: Mapping[str, Any],
    name: str,
    servable: Servable,
    write: _Write,
) -> None:
    """A request without a prompt loads the model, or unloads it where ``keep_alive`` is 0."""
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
    head = _OllamaAnswer(body["model"]).head()
    await exchange.answer(
        200, orjson.dumps({**head, **write("", "", []), "done": True, "done_reason": reason})
    )


async def chat(exchange: Exchange, services: ApiServices) -> None:
    """Answer a conversation."""
    body = await exchange.json()
    CHATTED.check(body)
    name, servable = await _servable(services, body["model"], "chat/completions", caller_of(exchange))
    if not body.get("messages"):
        await _load(exchange, services, body, name, servable, _chat_fields)
        return
    asked = {"model": name, "messages": _messages(body), **_options(body, servable.card)}
    if body.get("tools"):
        asked["tools"] = body["tools"]
    await _answer(exchange, services, body, asked, servable, _chat_fields)


async def generate(exchange: Exchange, services: ApiServices) -> None:
    """Answer a prompt, or continue it where it is ``raw`` or has a ``suffix``."""
    body = await exchange.json()
    GENERATED.check(body)
    for name in ("context", "template"):
        if body.get(name):
            wrong(name, "is not taken; send the conversation to /api/chat")
    continues = bool(body.get("raw") or body.get("suffix"))
    operation = "completions" if continues else "chat/completions"
    name, servable = await _servable(services, body["model"], operation, caller_of(exchange))
    if not body.get("prompt"):
        await _load(exchange, services, body, name, servable, _generate_fields)
        return
    options = _options(body, servable.card)
    if continues:
        asked = {"model": name, "prompt": body["prompt"], **options}
        if body.get("suffix"):
            asked["suffix"] = body["suffix"]
    else:
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        content = (
            _with_pictures(body["prompt"], body["images"], "images") if body.get("images") else body["prompt"]
        )
        asked = {"model": name, "messages": [*system, {"role": "user", "content": content}], **options}
    await _answer(exchange, services, body, asked, servable, _generate_fields)


# --- vectors --------------------------------------------------------------------------------------------------------


async def embed(exchange: Exchange, services: ApiServices) -> None:
    """Vectors of one text or many."""
    body = await exchange.json()
    EMBEDDED.check(body)
    started = time.perf_counter()
    found = await _embedded(exchange, services, body)
    await exchange.answer(
        200,
        orjson.dumps(
            {
                "model": body["model"],
                "embeddings": [one["embedding"] for one in found["data"]],
                "total_duration": int((time.perf_counter() - started) * 1e9),
                "load_duration": 0,
                "prompt_eval_count": found["usage"]["prompt_tokens"],
            }
        ),
    )


async def embed_one(exchange: Exchange, services: ApiServices) -> None:
    """The vector of one text."""
    body = await exchange.json()
    EMBEDDED_ONE.check(body)
    found = await _embedded(exchange, services, {"model": body["model"], "input": body["prompt"]})
    await exchange.answer(200, orjson.dumps({"embedding": found["data"][0]["embedding"]}))


async def _embedded(exchange: Exchange, services: ApiServices, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as OpenAI's API has it."""
    caller = caller_of(exchange)
    asked = {name: body[name] for name in ("model", "input", "dimensions") if body.get(name) is not None}
    EMBEDDING.check(asked)
    name, servable = await _servable(services, body["model"], "embeddings", caller)
    asked["model"] = name
    with Presence(exchange):
        if relays(servable):
            relayed = await services.runner.relay(servable, name, Relay("embeddings", asked), caller)
            found: Mapping[str, Any] = _parsed(b"".join([chunk async for chunk in relayed.chunks]))
            return found
        texts = (asked["input"],) if isinstance(asked["input"], str) else tuple(asked["input"])
        result = await services.runner.call("embeddings", name, Embed(texts, asked.get("dimensions")), caller)
    if not isinstance(result, Vectors):
        raise PorticoError(f"'{name}' answered an embedding request with something else.")
    return document(result, name, None)


# --- models ---------------------------------------------------------------------------------------------------------


async def tags(exchange: Exchange, services: ApiServices) -> None:
    """Every name that a request may carry: models, apps and aliases."""
    caller = caller_of(exchange)
    cards = {card.name: card for card in await services.registry.cards(caller, "model", "app")}
    named = list(cards.items())
    named += [
        (alias, cards[target])
        for alias, target in sorted(services.registry.aliases.meanings.items())
        if target in cards and alias not in cards and cards[target].owner is None
    ]
    await exchange.answer(200, orjson.dumps({"models": [_listed(name, card) for name, card in named]}))


async def ps(exchange: Exchange, services: ApiServices) -> None:
    """The models that are loaded."""
    caller = caller_of(exchange)
    cards = {card.name: card for card in await services.registry.cards(caller, "model")}
    loaded = [one for one in services.models.list() if one.state == "ready" and one.name in cards]
    models = [
        {
            **_listed(one.name, cards[one.name]),
            "size": one.memory_bytes or 0,
            "size_vram": (one.memory_bytes or 0) if one.gpus else 0,
            "context_length": one.context_length or 0,
            "expires_at": _moment(
                (one.last_used_at or time.time()) + (one.keep_alive or services.settings.keep_alive)
            ),
        }
        for one in loaded
    ]
    await exchange.answer(200, orjson.dumps({"models": models}))


async def show(exchange: Exchange, services: ApiServices) -> None:
    """What is known of one."""
    body = await exchange.json()
    SHOWN.check(body)
    name = body.get("model") or body.get("name")
    if not name:
        wrong("model", "is missing; GET /api/tags lists the names")
    registry, caller = services.registry, caller_of(exchange)
    try:
        card = (await registry.resolve(name, caller)).card
    except NotFound:
        card = (await registry.resolve(name.removesuffix(LATEST), caller)).card
    if card.kind not in ("model", "app"):
        raise NotFound(f"The model '{name}' does not exist.", code="model_not_found", param="model")
    known = {"general.architecture": card.kind, "general.name": card.title or card.name}
    for label, at in (("context_length", "context_length"), ("dimensions", "embedding_length")):
        if isinstance(card.labels.get(label), int):
            known[f"{card.kind}.{at}"] = card.labels[label]
    # Every chat model calls tools here.
    words = {"chat": ("completion", "tools"), "embeddings": ("embedding",), THOUGHTS: ("thinking",)}
    capable = [word for ours, found in words.items() if ours in card.capabilities for word in found]
    await exchange.answer(
        200,
        orjson.dumps(
            {
                "modelfile": f"# {card.description or card.name}\n",
                "parameters": "",
                "template": "",
                "details": _details(card),
                "model_info": known,
                "capabilities": capable,
                "modified_at": _moment(card.created),
            }
        ),
    )


async def version(exchange: Exchange, _services: ApiServices) -> None:
    """The version of Ollama's API, and Portico's own."""
    await exchange.answer(200, orjson.dumps({"version": API_VERSION, "portico": __version__}))


def _listed(name: str, card: Card) -> dict[str, Any]:
    # Programs compare digests to see whether a model has changed.
    identity = f"{card.name} {card.labels.get('source', '')} {card.created}"
    return {
        "name": name,
        "model": name,
        "modified_at": _moment(card.created),
        "size": 0,
        "digest": hashlib.sha256(identity.encode()).hexdigest(),
        "details": _details(card),
    }


def _details(card: Card) -> dict[str, Any]:
    count = card.labels.get("parameters")
    size = f"{count / 1e9:.1f}B" if isinstance(count, int | float) else ""
    return {
        "parent_model": "",
        "format": str(card.labels.get("engine") or card.kind),
        "family": card.kind,
        "families": [card.kind],
        "parameter_size": size,
        "quantization_level": "",
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


BODIES: Final[Mapping[str, RequestBody]] = {
    "/api/chat": CHATTED,
    "/api/generate": GENERATED,
    "/api/embed": EMBEDDED,
    "/api/embeddings": EMBEDDED_ONE,
    "/api/show": SHOWN,
}
"""Fields that are not known are ignored, as there."""


def _body(error: PorticoError, _request_id: str) -> bytes:
    return orjson.dumps({"error": error.message, "code": error.code, "param": error.param})


def _frame(error: PorticoError, request_id: str) -> bytes:
    return _body(error, request_id) + b"\n"


def _shape(write: _Write) -> Shape:
    # A line without content: programs read every line as JSON.
    quiet = _line({**write("", "", []), "done": False})
    return Shape("Ollama", lambda error: error.status, _body, _frame, (b"x-request-id",), quiet)


SHAPE: Final = _shape(_chat_fields)
"""The form of errors and of signs of life; also where there is nothing, since models are the operator's."""

GENERATE_SHAPE: Final = _shape(_generate_fields)
"""The form at ``/api/generate``."""
