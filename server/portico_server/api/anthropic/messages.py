"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: models by relay, apps by the events of their runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson

from portico.wire import Cited, Delta, Passage
from portico_server.api.anthropic import answer, field
from portico_server.api.anthropic.answer import Head
from portico_server.api.anthropic.conversation import MAX_MESSAGES, ROLES, Target, messages_of
from portico_server.api.anthropic.field import Block
from portico_server.api.anthropic.stream import PING, Stream
from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.relay import caller_of, find
from portico_server.api.services import ApiServices
from portico_server.core import fields
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.relay import OriginalRequest, Relay, RelayResponse
from portico_server.core.request import Chat, Reply, Tokenize, Tokens
from portico_server.core.servable import Relays, relays
from portico_server.runs.run import Run

# A Messages request as a chat. Pure.
#
# Source: https://platform.claude.com/docs/en/api/messages.


CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}
"""``tool_choice`` there and here."""

EFFORTS: Mapping[str, str] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""``output_config.effort`` there and ``reasoning_effort`` here."""

_LITTLE, _MUCH = 4_096, 16_384
"""Tokens of ``thinking.budget_tokens`` below which the effort is low, and from which on it is high."""


MAX_TOOLS: Final = 1_000

_BLOCKS: Final = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
_SHARE: Final = fields.number(0, 1, wanted="a number", limits="between 0 and 1")

COUNTED: Final = RequestBody(
    {
        "model": fields.name().noted(description="A name from GET /v1/models"),
        "messages": fields.anything(
            type="array",
            minItems=1,
            maxItems=MAX_MESSAGES,
            items={
                "type": "object",
                "required": ["role", "content"],
                "properties": {"role": {"enum": [*ROLES]}, "content": _BLOCKS},
            },
        ),
    },
    {
        "system": fields.anything(**_BLOCKS),
        "tools": fields.items(
            fields.anything(type="object"), "a list of tools", max_items=MAX_TOOLS, each="tools"
        ),
        "tool_choice": fields.mapping({"type": fields.choice(*CHOICES, "tool")}),
    },
    example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
)
"""``POST /v1/messages/count_tokens``. What stands within messages is checked where it is translated."""

CREATED: Final = RequestBody(
    {
        **COUNTED.required,
        "max_tokens": fields.integer(1, wanted="a whole number", limits="at least 1"),
    },
    {
        **COUNTED.optional,
        "stream": fields.boolean("a boolean").noted(default=False),
        "stop_sequences": fields.items(fields.name(), "a list of strings"),
        "temperature": _SHARE,
        "top_p": _SHARE,
        "top_k": fields.integer(0, wanted="a whole number", limits="at least 0"),
        "thinking": fields.mapping(),
        "output_config": fields.mapping({"format": fields.mapping()}),
        "output_format": fields.mapping().noted(deprecated=True),
        "metadata": fields.anything(description="For Anthropic's accounts; ignored"),
    },
    example={**(COUNTED.example or {}), "max_tokens": 100},
)
"""``POST /v1/messages``."""


def chat_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The chat to be relayed. Raises `InvalidRequest` with the field for what is wrong, or cannot be done.

    What Anthropic keeps for itself (``metadata``, ``cache_control``, ``service_tier``, ``container`` …) stays behind.
    """
    CREATED.check(body)
    chat = {"model": body["model"], "messages": messages_of(body, target)}
    limit = body["max_tokens"]
    # More than the context holds cannot be used up, and some engines refuse it.
    if target.context_length is None or limit < target.context_length:
        chat["max_tokens"] = limit
    given = {name: body.get(name) for name in ("temperature", "top_p", "top_k")}
    given["stop"] = body.get("stop_sequences") or None
    chat |= {name: value for name, value in given.items() if value is not None}
    if body.get("stream"):
        chat["stream"] = True
    return chat | tools_of(body, target) | _output(body) | _thinking(body, target)


def tools_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The client's own tools, and which may be called. Those that Anthropic defines are left out."""
    given = body.get("tools") or []
    tools = [
        found for index, tool in enumerate(given) if (found := _tool(tool, f"tools[{index}]")) is not None
    ]
    choice = body.get("tool_choice")
    if choice is None:
        return {"tools": tools} if tools else {}
    kind = choice.get("type")
    if kind is None:
        missing("tool_choice.type")
    names = {tool["function"]["name"] for tool in tools}
    wanted: Any = CHOICES.get(kind)
    if kind == "tool":
        name = field.text(choice, "name", "tool_choice")
        wanted = {"type": "function", "function": {"name": name}}
        if name not in names:
            if not target.speaks:
                wrong("tool_choice.name", _missing_tool(name, given, names))
            wanted = "auto"
    elif kind == "any" and not names:
        if not target.speaks:
            wrong(
                "tool_choice",
                "is 'any', but 'tools' has none with an 'input_schema'; others are not run here",
            )
        wanted = "auto"
    if not tools:
        return {}
    chosen = {"tools": tools, "tool_choice": wanted}
    if kind != "none" and field.flag(choice, "disable_parallel_tool_use", "tool_choice"):
        chosen["parallel_tool_calls"] = False
    return chosen


def _tool(tool: Any, at: str) -> dict[str, Any] | None:
    """A function; ``None`` for a tool that Anthropic defines, such as web_search or bash."""
    if not isinstance(tool, dict):
        wrong_type(at, "an object", tool)
    if tool.get("type") not in (None, "custom"):
        if not isinstance(tool["type"], str):
            wrong_type(f"{at}.type", "a string", tool["type"])
        return None
    name = field.text(tool, "name", at, empty=False)
    schema = field.mapping(tool, "input_schema", at)
    if schema is None:
        missing(f"{at}.input_schema")
    function: dict[str, Any] = {"name": name, "parameters": schema}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if field.flag(tool, "strict", at):
        function["strict"] = True
    return {"type": "function", "function": function}


def _missing_tool(name: str, given: list[Any], names: set[str]) -> str:
    if any(tool.get("name") == name for tool in given):
        return (
            f"is '{name}', a tool that Anthropic defines and nothing here runs; leave the choice to the model"
        )
    return f"is '{name}', but 'tools' lists {', '.join(sorted(names)) or 'nothing'}"


def _output(body: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that an answer must fit."""
    config = body.get("output_config") or {}
    name = "output_config.format" if config.get("format") is not None else "output_format"
    wanted: Block | None = config.get("format") or body.get("output_format")
    if wanted is None:
        return {}
    if wanted.get("type") != "json_schema":
        not_one_of(f"{name}.type", wanted.get("type"), ("json_schema",))
    schema = field.mapping(wanted, "schema", name)
    if schema is None:
        missing(f"{name}.schema")
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    }


def _thinking(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """How much to think, for a model whose engine has such a setting."""
    thinking = body.get("thinking")
    config = body.get("output_config") or {}
    if not target.thinks:
        return {}
    if thinking is not None and thinking.get("type") == "disabled":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    effort = config.get("effort")
    if isinstance(effort, str) and effort in EFFORTS:
        return {"reasoning_effort": EFFORTS[effort]}
    budget = (thinking or {}).get("budget_tokens")
    if not isinstance(budget, int):
        return {}
    return {"reasoning_effort": "low" if budget < _LITTLE else "medium" if budget < _MUCH else "high"}


_OURS = ("model", "messages", "stream")
"""Fields that are the protocol adapter's business and not an option of the app."""

FORWARDED = ("anthropic-beta", "anthropic-version")
"""Headers that change how a model which speaks this protocol reads the request."""


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Answer a conversation, whole or as a stream."""
    body = await exchange.json()
    name = field.text(body, "model", "", empty=False)
    servable = await find(services, name, "chat/completions", caller_of(exchange))
    target = Target.of(servable.card)
    chat = chat_of(body, target)
    head = Head(name, chat.get("stop", ()))
    if not relays(servable):
        await _app(exchange, services, chat, head)
        return
    original = OriginalRequest("anthropic", body, _forwarded(exchange)) if target.speaks else None
    await _model(exchange, services, servable, Relay("chat/completions", chat, original=original), head)


async def count_tokens(exchange: Exchange, services: ApiServices) -> None:
    """How many tokens a conversation has for the model, its tools included; loads the model."""
    body = await exchange.json()
    name = field.text(body, "model", "", empty=False)
    servable = await find(services, name, "chat/completions", caller_of(exchange))
    target = Target.of(servable.card)
    COUNTED.check(body)
    messages = messages_of(body, target)
    tools = tools_of(body, target).get("tools", ())
    if not relays(servable):
        raise InvalidRequest(
            f"'{name}' is an app and has no tokens of its own; count with the model behind it.",
            code="tokens_unsupported",
            param="model",
        )
    with Presence(exchange):
        found = await services.runner.call(
            "tokenize", name, Tokenize(messages=tuple(messages), tools=tuple(tools)), caller_of(exchange)
        )
    if not isinstance(found, Tokens):
        raise PorticoError(f"'{name}' answered a request for tokens with something else.")
    await exchange.answer(200, orjson.dumps({"input_tokens": len(found.ids)}))


def _forwarded(exchange: Exchange) -> dict[str, str]:
    found = {name: exchange.header(name.encode()) for name in FORWARDED}
    return {name: value.decode("latin-1") for name, value in found.items() if value}


# --- models ---------------------------------------------------------------------------------------------------


async def _model(
    exchange: Exchange, services: ApiServices, model: Relays, request: Relay, head: Head
) -> None:
    data = b""
    with Presence(exchange):
        relayed = await services.runner.relay(model, request.body["model"], request, caller_of(exchange))
        if relayed.answered_by:
            head.model = relayed.answered_by
        if not request.stream:
            data = b"".join([chunk async for chunk in relayed.chunks])
    if request.stream:
        await exchange.stream(_relayed(relayed, Stream(head)))
    elif relayed.protocol == "anthropic":
        await exchange.answer(200, data)
    else:
        message = answer.of_completion(_parsed(data), head, relayed.usage)
        await exchange.answer(200, orjson.dumps(message))


async def _relayed(relayed: RelayResponse, stream: Stream) -> AsyncIterator[bytes]:
    """The chunks of a chat as events; those of a model that speaks this protocol as they are."""
    try:
        async for chunk in relayed.chunks:
            if relayed.protocol == "anthropic":
                yield chunk
            elif frames := _events(chunk, stream):
                yield frames
        if relayed.protocol != "anthropic":
            yield stream.end(relayed.usage)
    finally:
        close = getattr(relayed.chunks, "aclose", None)
        if close is not None:
            await close()


def _events(chunk: bytes, stream: Stream) -> bytes:
    """What some frames of a chat mean. Of an error, which is raised next, nothing is said here."""
    frames = b""
    for line in chunk.split(b"\n"):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data != b"[DONE]":
                frames += stream.chunk(_parsed(data))
        elif line.startswith(b":"):
            frames += PING
    return frames


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The model answered something that is not JSON.") from error


# --- apps -----------------------------------------------------------------------------------------------------


async def _app(exchange: Exchange, services: ApiServices, chat: dict[str, Any], head: Head) -> None:
    options = {key: value for key, value in chat.items() if key not in _OURS}
    run = services.runner.start(
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
    """The events of a run as those of a message. Closing this generator cancels the run."""
    passages: tuple[Passage, ...] = ()
    started = False
    try:
        async for _number, event in run.log.follow():
            match event:
                case Cited():
                    passages = event.passages
                case Delta(text=text) if text:
                    yield stream.text(text)
                    started = True
        reply = _reply(await services.runner.wait(run), run.name)  # raises what ended a failed run
        if reply.content and not started:
            yield stream.text(reply.content)
        cited = stream.cited(reply.citations or passages)
        calls = [stream.called(call.id, call.name, call.arguments) for call in reply.tool_calls]
        yield cited + b"".join(calls) + stream.end(reply.usage, reply.finish_reason)
    finally:
        await run.leave()


def _reply(result: Any, name: str) -> Reply:
    if not isinstance(result, Reply):
        raise PorticoError(f"'{name}' answered a conversation with something else.")
    return result
