"""A third-party server's requests to a model, if the operator allows them: MCP's sampling.

Translates between the protocol and chats, within the limits of the server's spec. Imports the types of ``mcp``.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

import mcp_types as types
from mcp.client.session import ClientRequestContext

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.rate_bucket import RateBucket
from portico_server.core.request import Chat, ChatReply, Message
from portico_server.core.secret_values import SecretValues
from portico_server.features.mcp_servers.spec import SamplingSpec
from portico_server.runs.runner import Runner

OPERATION: Final = "mcp_sampling"
"""Operation of these runs in usage rows. The run's key is the key that called the server. If no key called the server,
it is ``mcp:`` and the server's name.
"""

HOUR_S: Final = 3600.0

MAX_MESSAGES: Final = 1_000
"""Maximum number of messages in one request."""

MAX_TOOLS: Final = 128
"""Maximum number of tools that one request can offer the model."""

MAX_STOP_SEQUENCES: Final = 16

DECLARED: Final = types.SamplingCapability(tools=types.SamplingToolsCapability())
"""Capabilities that the handshake declares to a server that can ask a model."""

_STOPPED: Final = {"stop": "endTurn", "length": "maxTokens", "tool_calls": "toolUse"}

Sampled = types.CreateMessageResult | types.CreateMessageResultWithTools | types.ErrorData


class KeyTurns:
    """Admits the requests of one key at a time.

    The protocol does not say to which request a server's question belongs, so the question is attributed to the key
    whose requests are admitted. Keys take turns in order of arrival.
    """

    def __init__(self) -> None:
        self.key = ""
        """The key whose turn it is; empty if no request is admitted, or if the caller has no key."""
        self._inside = 0
        self._asking = 0
        self._queue: deque[tuple[str, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wrap a request of a key."""
        # The model that a server asks can call the server again. Such a call is admitted before the calls
        # that wait for the question to end.
        is_own_turn = key == self.key and (self._asking or not self._queue)
        if self._inside and not is_own_turn:
            let_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append((key, let_in))
            try:
                await let_in
            except asyncio.CancelledError:
                if let_in.cancelled():
                    with suppress(ValueError):
                        self._queue.remove((key, let_in))
                else:
                    self._leave()
                raise
        else:
            self.key = key
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Mark the time during which the server waits for an answer to its question."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    def _leave(self) -> None:
        self._inside -= 1
        if self._inside:
            return
        waiting_turns = [waiting_turn for waiting_turn in self._queue if not waiting_turn[1].done()]
        self.key = waiting_turns[0][0] if waiting_turns else ""
        self._queue = deque(waiting_turn for waiting_turn in waiting_turns if waiting_turn[0] != self.key)
        for key, let_in in waiting_turns:
            if key == self.key:
                self._inside += 1
                let_in.set_result(None)


class Sampler:
    """Answers the questions of one server, within the server's limits. Its only right is to call that server's model.

    A question is charged to the key whose request the server is processing.
    """

    def __init__(
        self, server: str, sampling_spec: SamplingSpec, runner: Runner, secrets: SecretValues
    ) -> None:
        self._server = server
        self._secrets = secrets
        self._spec = sampling_spec
        self._runner = runner
        model = sampling_spec.model
        self._caller = Principal(f"mcp:{server}", frozenset({"chat", f"apps:{model}:call"}))
        self._turns = KeyTurns()
        self._calls = RateBucket(sampling_spec.calls, HOUR_S, asyncio.get_running_loop().time())

    def turn(self, key: str) -> AbstractAsyncContextManager[None]:
        """Wrap a request of a key to the server, once it is the key's turn."""
        return self._turns.turn("" if key == self._caller.id else key)

    async def __call__(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> Sampled:
        """Handle the protocol's sampling callback. Errors are returned to the server in the protocol's form."""
        now = asyncio.get_running_loop().time()
        if self._calls.level(now) < 1:
            return types.ErrorData(
                code=types.INVALID_REQUEST,
                message=f"'{self._server}' can ask a model {self._spec.calls} times an hour; next in "
                f"{self._calls.wait(1, now):.0f} s.",
            )
        self._calls.take(1, now)
        try:
            chat = self._secrets.remove(chat_of(params, self._spec.max_tokens))
            owner, model = self._turns.key or None, self._spec.model
            async with self._turns.asking():
                reply = await self._runner.call(OPERATION, model, chat, self._caller, owner=owner)
        except PorticoError as error:
            return types.ErrorData(code=types.INTERNAL_ERROR, message=error.message)
        if not isinstance(reply, ChatReply):
            return types.ErrorData(
                code=types.INTERNAL_ERROR, message=f"'{self._spec.model}' is not a chat model."
            )
        return result_of(reply, tools=bool(params.tools))


def chat_of(params: types.CreateMessageRequestParams, max_tokens: int) -> Chat:
    """Return a sampling request as a chat, for an answer of at most ``max_tokens`` tokens.

    Raise `InvalidRequest` for a request that is larger than the limit for clients.
    """
    for items, limit, noun in (
        (params.messages, MAX_MESSAGES, "messages"),
        (params.tools, MAX_TOOLS, "tools"),
        (params.stop_sequences, MAX_STOP_SEQUENCES, "stop sequences"),
    ):
        if items is not None and len(items) > limit:
            raise InvalidRequest(f"The request has {len(items):,} {noun}; at most {limit:,} are allowed.")
    messages: list[Message] = []
    if params.system_prompt:
        messages.append({"role": "system", "content": params.system_prompt})
    for message in params.messages:
        messages += _turn(message.role, message.content_as_list)
    options: dict[str, Any] = {"max_tokens": max(1, min(params.max_tokens, max_tokens))}
    if params.temperature is not None:
        options["temperature"] = params.temperature
    if params.stop_sequences:
        options["stop"] = list(params.stop_sequences)
    if params.tools:
        options["tools"] = [_function(tool) for tool in params.tools]
        if params.tool_choice is not None and params.tool_choice.mode:
            options["tool_choice"] = params.tool_choice.mode
    return Chat(tuple(messages), options)


def result_of(reply: ChatReply, *, tools: bool) -> Sampled:
    """Return a model's answer as a message. Tool calls are included only for a server that sent tools."""
    text = types.TextContent(type="text", text=reply.content)
    reason = _STOPPED.get(reply.finish_reason, reply.finish_reason)
    if not tools:
        return types.CreateMessageResult(
            role="assistant", content=text, model=reply.model, stop_reason=reason
        )
    uses = [
        types.ToolUseContent(type="tool_use", id=call.id, name=call.name, input=_object(call.arguments))
        for call in reply.tool_calls
    ]
    return types.CreateMessageResultWithTools(
        role="assistant",
        content=[text, *uses] if reply.content or not uses else list(uses),
        model=reply.model,
        stop_reason=reason,
    )


def _turn(role: types.Role, blocks: Sequence[types.SamplingMessageContentBlock]) -> Iterator[Message]:
    """Yield one turn as messages. Tool results are separate messages, before the other content."""
    for block in blocks:
        if isinstance(block, types.ToolResultContent):
            text = "\n".join(part.text for part in block.content if isinstance(part, types.TextContent))
            if not text and block.structured_content is not None:
                text = json.dumps(block.structured_content, ensure_ascii=False)
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
    parts = [part for block in blocks if (part := _part(block)) is not None]
    calls = [_call(block) for block in blocks if isinstance(block, types.ToolUseContent)]
    if not parts and not calls:
        return
    only = parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else None
    message: dict[str, Any] = {"role": role, "content": parts if only is None else only}
    yield {**message, "content": message["content"] or "", "tool_calls": calls} if calls else message


def _part(block: types.SamplingMessageContentBlock) -> dict[str, Any] | None:
    match block:
        case types.TextContent(text=text):
            return {"type": "text", "text": text}
        case types.ImageContent(mime_type=kind, data=data):
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case types.AudioContent(mime_type=kind, data=data):
            form = kind.partition("/")[2].removeprefix("x-")
            return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
    return None


def _call(block: types.ToolUseContent) -> dict[str, Any]:
    arguments = json.dumps(block.input, ensure_ascii=False)
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _function(tool: types.Tool) -> dict[str, Any]:
    description_field = {"description": tool.description} if tool.description else {}
    return {
        "type": "function",
        "function": {"name": tool.name, **description_field, "parameters": dict(tool.input_schema)},
    }


def _object(arguments: str) -> dict[str, Any]:
    try:
        document = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
