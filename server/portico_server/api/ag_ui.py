"""The AG-UI protocol, 1.0: front ends run an app or a model at ``/ag-ui/NAME`` and hear of it in events.

Source: https://docs.ag-ui.com/sdk/python/core/events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import orjson

from portico.wire import (
    Answered,
    Asked,
    Cited,
    Delta,
    StepFinished,
    StepStarted,
    ToolCalled,
    ToolReturned,
    as_json,
)
from portico_server.api.errors import NotAllowedHere, ours
from portico_server.api.exchange import Exchange
from portico_server.api.openai.bodies import CHAT
from portico_server.api.openai.relay import caller_of, find
from portico_server.api.services import ApiServices
from portico_server.core import fields
from portico_server.core.errors import PorticoError
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.passage import to_json
from portico_server.core.request import CalledTool, Chat, Reply
from portico_server.runs.run import Run

PREFIX: Final = "/ag-ui/"
VERSION: Final = "1.0"
OPERATION: Final = "ag-ui"
"""What usage rows call a run that began here."""

MAX_ID_CHARS: Final = 256
"""Characters of an id that a front end gives a thread or a run: each event at its ends repeats it."""

_CONTEXT: Final = fields.mapping({"description": fields.text(), "value": fields.text()})
_TOOL: Final = fields.mapping({"name": fields.name(), "description": fields.text()})

ASKED: Final = RequestBody(
    {
        "threadId": fields.identifier(MAX_ID_CHARS),
        "runId": fields.identifier(MAX_ID_CHARS),
        "messages": fields.items(fields.mapping({"role": fields.text()}), "a list of messages"),
    },
    {
        "tools": fields.items(_TOOL, "a list of tools"),
        "context": fields.items(_CONTEXT, "a list of texts with descriptions", max_items=1_000),
        "resume": fields.items(fields.mapping(), "a list of answers"),
    },
    example={"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "Hello"}]},
)
"""``RunAgentInput``. Fields that are not known are ignored, as the protocol has it."""

_SAID: Final = ("developer", "system", "user", "assistant", "tool")
_SHOWN: Final = ("activity", "reasoning")
"""Messages that are for people who look on, and not for the model."""


# --- what is asked --------------------------------------------------------------------------------------------------


def _chat(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A run's input as a chat completion. Raises `InvalidRequest`."""
    messages = [
        _message(message, f"messages[{number}]")
        for number, message in enumerate(body["messages"])
        if message.get("role") not in _SHOWN
    ]
    if context := body.get("context"):
        lines = [f"- {one.get('description', '')}: {one.get('value', '')}" for one in context]
        messages.insert(0, {"role": "system", "content": "\n".join(("What the application says:", *lines))})
    chat: dict[str, Any] = {"model": name, "messages": messages}
    if tools := body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
    if body.get("resume"):
        wrong("resume", "is not taken: a run that asks something waits until its question is answered")
    return chat


def _message(given: Mapping[str, Any], at: str) -> dict[str, Any]:
    role = given.get("role")
    if role not in _SAID:
        not_one_of(f"{at}.role", role, (*_SAID, *_SHOWN))
    made: dict[str, Any] = {"role": role, "content": _content(given.get("content"), f"{at}.content")}
    if given.get("name"):
        made["name"] = given["name"]
    if role == "assistant" and given.get("toolCalls"):
        made["tool_calls"] = given["toolCalls"]
    if role == "tool":
        if not isinstance(given.get("toolCallId"), str):
            missing(f"{at}.toolCallId")
        made["tool_call_id"] = given["toolCallId"]
        if given.get("error"):
            made["content"] = f"{made['content'] or ''}\nError: {given['error']}".strip()
    return made


def _content(value: Any, at: str) -> Any:
    if not isinstance(value, list):
        return value if value is not None else ""
    return [_part(part, f"{at}[{number}]") for number, part in enumerate(value)]


def _part(part: Any, at: str) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        wrong_type(at, "an object", part)
    if part.get("type") == "text":
        return {"type": "text", "text": part.get("text")}
    if part.get("type") != "image":
        not_one_of(f"{at}.type", part.get("type"), ("text", "image"))
    source = part.get("source")
    if not isinstance(source, Mapping) or not isinstance(source.get("value"), str):
        wrong(f"{at}.source", "must be an object with a 'value'")
    if source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source["value"]}}
    if source.get("type") != "data":
        not_one_of(f"{at}.source.type", source.get("type"), ("data", "url"))
    kind = source.get("mimeType") or "image/png"
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{source['value']}"}}


def _tool(tool: Mapping[str, Any], at: str) -> dict[str, Any]:
    if not tool.get("name"):
        missing(f"{at}.name")
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    function = {
        "name": tool["name"],
        "description": tool.get("description") or "",
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


# --- what is told ---------------------------------------------------------------------------------------------------


class _Events:
    """The events of one run: what is open is closed before something else begins, as the protocol wants it."""

    def __init__(self, body: Mapping[str, Any], run: Run) -> None:
        self._ids = {"threadId": body["threadId"], "runId": body["runId"]}
        self._run = run
        self._state = body.get("state")
        self._message = ""
        self._messages_count = 0
        self._steps: dict[str, None] = {}
        self._called: dict[str, None] = {}
        self._returned: set[str] = set()
        self.said = False

    def begin(self) -> list[dict[str, Any]]:
        """The run has begun."""
        metadata = {"run": self._run.id}
        events: list[dict[str, Any]] = [
            {"type": "RUN_STARTED", **self._ids, "protocolVersion": VERSION, "metadata": metadata}
        ]
        if self._state is not None:
            events.append({"type": "STATE_SNAPSHOT", "snapshot": self._state})
        return events

    def of(self, event: Any) -> list[dict[str, Any]]:
        """The events for one of the run's."""
        match event:
            case Delta(text=text, index=0) if text:
                return self.text(text)
            case ToolCalled():
                return self.called(CalledTool(event.id, event.name, event.arguments))
            case ToolReturned():
                if event.id not in self._called or event.id in self._returned:
                    return []
                self._returned.add(event.id)
                result = {"toolCallId": event.id, "content": event.text, "role": "tool"}
                return [
                    *self.close(),
                    {"type": "TOOL_CALL_RESULT", "messageId": self._next(), **result},
                ]
            case StepStarted(path=path) if path not in self._steps:
                self._steps[path] = None
                return [{"type": "STEP_STARTED", "stepName": path}]
            case StepFinished(path=path) if path in self._steps:
                del self._steps[path]
                return [{"type": "STEP_FINISHED", "stepName": path}]
            case Cited(passages=passages):
                return self._cited(to_json(passages))
            case Asked() | Answered():
                return [{"type": "CUSTOM", "name": f"portico.{event.type}", "value": as_json(event)}]
        return []

    def _cited(self, passages: Sequence[Any]) -> list[dict[str, Any]]:
        """The passages, as a part of the state."""
        if self._state is None:
            self._state = {}
            return [{"type": "STATE_SNAPSHOT", "snapshot": {"citations": passages}}]
        if not isinstance(self._state, Mapping):
            return [{"type": "CUSTOM", "name": "portico.cited", "value": passages}]
        return [{"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/citations", "value": passages}]}]

    def text(self, piece: str) -> list[dict[str, Any]]:
        """A piece of the answer."""
        events: list[dict[str, Any]] = []
        if not self._message:
            self._message = self._next()
            events.append({"type": "TEXT_MESSAGE_START", "messageId": self._message, "role": "assistant"})
        self.said = True
        return [*events, {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._message, "delta": piece}]

    def called(self, call: CalledTool) -> list[dict[str, Any]]:
        """A call of a tool: the front end's, or one of the daemon's."""
        if call.id in self._called:
            return []
        self._called[call.id] = None
        named = {"toolCallId": call.id}
        said = [{"type": "TOOL_CALL_ARGS", **named, "delta": call.arguments}] if call.arguments else []
        begun = {"type": "TOOL_CALL_START", **named, "toolCallName": call.name}
        return [*self.close(), begun, *said, {"type": "TOOL_CALL_END", **named}]

    def close(self) -> list[dict[str, Any]]:
        """Close the message that is open."""
        if not self._message:
            return []
        closed, self._message = self._message, ""
        return [{"type": "TEXT_MESSAGE_END", "messageId": closed}]

    def _settle(self) -> list[dict[str, Any]]:
        """Close all that is open."""
        steps = [{"type": "STEP_FINISHED", "stepName": path} for path in reversed(self._steps)]
        self._steps.clear()
        return [*self.close(), *steps]

    def end(self, reply: Reply) -> list[dict[str, Any]]:
        """The run has ended."""
        events = [] if self.said or not reply.content else self.text(reply.content)
        for call in reply.tool_calls:
            events += self.called(call)
        waiting = [call for call in self._called if call not in self._returned]
        outcome: dict[str, Any] = {"type": "success"}
        if waiting:
            outcome["pendingToolCallIds"] = waiting
        last = {"type": "RUN_FINISHED", **self._ids, "outcome": outcome, "usage": self._usage()}
        return [*events, *self._settle(), last]

    def fail(self, error: PorticoError) -> list[dict[str, Any]]:
        """The run has failed."""
        last = {"type": "RUN_ERROR", "message": error.message, "usage": self._usage()}
        if error.code:
            last["code"] = error.code
        return [*self._settle(), last]

    def _usage(self) -> list[dict[str, Any]]:
        used = self._run.usage
        made = {
            "inputTokens": used.prompt_tokens,
            "outputTokens": used.completion_tokens,
            "totalTokens": used.prompt_tokens + used.completion_tokens,
            "cachedInputTokens": used.cached_tokens,
        }
        return [{"model": self._run.model or self._run.name, **made}]

    def _next(self) -> str:
        self._messages_count += 1
        return f"{self._run.id}-{self._messages_count}"


async def _frames(services: ApiServices, run: Run, events: _Events, exchange_id: str) -> AsyncIterator[bytes]:
    """The events of a run as frames. Closing this cancels the run."""
    try:
        yield _written(events.begin())
        try:
            async for _number, event in run.log.follow():
                if made := events.of(event):
                    yield _written(made)
            reply = await services.runner.wait(run)
            if not isinstance(reply, Reply):
                raise PorticoError(f"'{run.name}' answered a conversation with something else.")
            yield _written(events.end(reply))
        except Exception as error:  # noqa: BLE001  # logged, and said in the protocol's own form
            yield _written(events.fail(ours(error, exchange_id)))
    finally:
        await run.leave()


def _written(events: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)


async def serve(exchange: Exchange, services: ApiServices) -> None:
    """Run an app or a model, and tell of it."""
    path: str = exchange.scope["path"]
    exchange.scope["portico.route"] = f"{PREFIX}{{name}}"
    if exchange.scope["method"] != "POST":
        raise NotAllowedHere(exchange.scope["method"], path, "POST")
    name, caller = path.removeprefix(PREFIX), caller_of(exchange)
    body = await exchange.json()
    ASKED.check(body)
    await find(services, name, "chat/completions", caller)
    chat = _chat(name, body)
    CHAT.check({**chat, "stream": True})
    options = {key: value for key, value in chat.items() if key not in ("model", "messages")}
    run = services.runner.start(OPERATION, name, Chat(tuple(chat["messages"]), options), caller)
    exchange.extra.append((b"x-portico-run", run.id.encode()))
    await exchange.stream(_frames(services, run, _Events(body, run), exchange.id))
