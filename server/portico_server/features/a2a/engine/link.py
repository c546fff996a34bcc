"""The HTTP client for a remote agent: requests its card, calls its methods, and reads its events. Imports aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn

import aiohttp
import orjson
from yarl import URL

from portico_server.core import agent_depth, trace
from portico_server.core.errors import (
    EngineFailed,
    InvalidRequest,
    PorticoError,
    TooMany,
    Unavailable,
    retry_after_s,
)
from portico_server.core.relay import event_data
from portico_server.features.a2a.engine.card import (
    MAX_CARD_BYTES,
    VERSION,
    AgentSource,
    RemoteAgent,
    card_address,
    line,
    parse_card,
    text_of,
)
from portico_server.http.client import failure_reason
from portico_server.models.endpoint import Endpoint
from portico_server.models.openai_wire import MAX_MESSAGE_CHARS
from portico_server.models.transport import (
    CONNECTION_ERRORS,
    EngineRoute,
    EngineTransport,
    deadline_exceeded,
    read_frames,
    read_pieces,
)

logger = logging.getLogger(__name__)

CARD_TIMEOUT_S: Final = 10.0
"""Maximum time for reading a card, from connecting to the last byte, in seconds."""

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Maximum total size of an agent's responses to one message, in bytes."""

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of an event, in bytes. An image is a single event."""

MAX_VALUES_COUNT: Final = 250_000
"""Maximum number of values in an event. Parsing so many takes a few hundredths of a second."""

DONE: Final = b"data: [DONE]\n\n"

_ACCEPTED: Final = {"JSONRPC": "application/json", "HTTP+JSON": "application/a2a+json"}
_PATHS: Final = {
    "SendMessage": ("POST", "message:send"),
    "SendStreamingMessage": ("POST", "message:stream"),
    "GetTask": ("GET", "tasks/{id}"),
    "CancelTask": ("POST", "tasks/{id}:cancel"),
    "SubscribeToTask": ("GET", "tasks/{id}:subscribe"),
}
"""The HTTP methods and paths of the protocol's methods, for the binding without JSON-RPC."""

_NOT_TAKEN: Final = (
    (-32005, "CONTENT_TYPE_NOT_SUPPORTED"),
    (-32001, "TASK_NOT_FOUND"),
    (-32004, "UNSUPPORTED_OPERATION"),
)


class AgentRefused(EngineFailed):
    """The agent has rejected a message, or does not know the task. ``reason`` is the reason in the protocol's terms."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, code="agent_refused")
        self.reason = reason


class AgentLink:
    """Calls the methods of one agent over either binding of the protocol. The total size of the responses is
    limited.
    """

    def __init__(self, transport: EngineTransport, source: AgentSource) -> None:
        self._transport = transport
        self._source = source
        self._name = source.name

    async def read_card(self, deadline: float | None) -> RemoteAgent:
        """Request the agent's card. Raises `PorticoError`."""
        source, address = self._source, card_address(self._source.location)
        soon = asyncio.get_running_loop().time() + CARD_TIMEOUT_S
        until = soon if deadline is None else min(soon, deadline)
        # first without the key, then with the key if the agent requires it for the card
        for header in ("", "Authorization"):
            try:
                response = await self._open("GET", address, None, self._headers(header), until)
                if response.status in (401, 403) and not header and source.key:
                    response.close()
                    continue
                if response.status != 200:
                    await self._refuse(response, until)
                data = await self._read_whole(response, until, MAX_CARD_BYTES)
            except CONNECTION_ERRORS as error:
                raise self.explain(
                    error, late=f"did not send its card within {CARD_TIMEOUT_S:g} s"
                ) from error
            break
        return parse_card(
            self._parse(data),
            self._name,
            address,
            base_url=source.base_url,
            is_keyed=bool(source.key),
            is_own=bool(source.headers),
        )

    async def call(
        self, agent: RemoteAgent, method: str, params: dict[str, Any], deadline: float | None
    ) -> Mapping[str, Any]:
        """Return the result of a method. Raises `PorticoError`, and `CONNECTION_ERRORS`, which `explain` converts."""
        response = await self._send(agent, method, params, deadline)
        return self._result(agent, self._parse(await self._read_whole(response, deadline, MAX_EVENT_BYTES)))

    async def stream(
        self, agent: RemoteAgent, method: str, params: dict[str, Any], deadline: float | None
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the events of a streaming method. Raises the errors of `call`."""
        response = await self._send(agent, method, params, deadline, streams=True)
        if response.content_type != "text/event-stream":  # a rejection, or a complete answer
            yield self._result(
                agent, self._parse(await self._read_whole(response, deadline, MAX_EVENT_BYTES))
            )
            return
        size = 0
        async with aclosing(
            _closable(read_frames(response, deadline=deadline, idle=self._source.idle))
        ) as frames:
            async for frame in frames:
                size += len(frame)
                if size > MAX_ANSWER_BYTES:
                    raise self._too_much(MAX_ANSWER_BYTES)
                for event in frame.split(b"\n\n"):
                    if data := event_data(event):
                        yield self._result(agent, self._parse(data))

    def explain(self, error: BaseException, *, late: str = "") -> PorticoError:
        """Convert a connection error to a `PorticoError`. ``late`` describes what the agent did not do in time."""
        if type(error) is TimeoutError:
            if late:
                return EngineFailed(f"The agent '{self._name}' {late}.", code="upstream_unreachable")
            return deadline_exceeded(self._name)
        return EngineFailed(
            f"The agent '{self._name}' cannot be reached or lost the connection: {failure_reason(error)}. "
            "Check the URL in the model's source, and that the agent is running.",
            code="upstream_unreachable",
        )

    async def _send(
        self,
        agent: RemoteAgent,
        method: str,
        params: dict[str, Any],
        deadline: float | None,
        *,
        streams: bool = False,
    ) -> aiohttp.ClientResponse:
        """Send a request, and return the response, whose status is 200 and whose body has not been read yet."""
        headers = self._headers(agent.header)
        headers["Accept"] = "text/event-stream" if streams else _ACCEPTED[agent.binding]
        if agent.binding == "JSONRPC":
            verb, url = "POST", agent.url
            arguments = {**params, "tenant": agent.tenant} if agent.tenant else params
            body: dict[str, Any] = {
                "jsonrpc": "2.0",
                "id": str(uuid.uuid4()),
                "method": method,
                "params": arguments,
            }
        else:
            headers["Content-Type"] = "application/a2a+json"
            verb, path = _PATHS[method]
            task_id, body = str(params.get("id") or ""), params
            if "{id}" in path:
                body = {}
                path = path.replace("{id}", _quote(task_id))
            url = "/".join(filter(None, (agent.url, _quote(agent.tenant), path)))
        response = await self._open(
            verb, url, orjson.dumps(body) if verb == "POST" else None, headers, deadline
        )
        if response.status != 200:
            await self._refuse(response, deadline)
        return response

    def _headers(self, header: str) -> dict[str, str]:
        headers = {"A2A-Version": VERSION, **self._source.headers}
        if header and self._source.key:
            headers[header] = f"Bearer {self._source.key}" if header == "Authorization" else self._source.key
        return headers

    async def _open(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], deadline: float | None
    ) -> aiohttp.ClientResponse:
        route = EngineRoute(Endpoint(url, "", headers=headers), "")
        route.url = URL(url, encoded=True)
        with trace.at(agent_depth.next_hop()):
            return await self._transport.send(method, route, body, deadline=deadline)

    async def _read_whole(
        self, response: aiohttp.ClientResponse, deadline: float | None, limit: int
    ) -> bytes:
        data = bytearray()
        pieces = _closable(read_pieces(response, deadline=deadline, idle=self._source.idle))
        async with aclosing(pieces):
            async for piece in pieces:
                data += piece
                if len(data) > limit:
                    raise self._too_much(limit)
        return bytes(data)

    def _parse(self, data: bytes) -> Any:
        if len(data) > MAX_EVENT_BYTES or data.count(b",") > MAX_VALUES_COUNT:
            raise self._too_much(MAX_EVENT_BYTES)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise EngineFailed(
                f"The agent '{self._name}' sent invalid JSON.", code="invalid_agent_answer"
            ) from error

    def _too_much(self, limit: int) -> EngineFailed:
        return EngineFailed(
            f"The agent '{self._name}' sent more than {limit >> 20} MB, or an event with more than "
            f"{MAX_VALUES_COUNT:,} values; its answer was truncated.",
            code="answer_too_large",
        )

    def _result(self, agent: RemoteAgent, document: Any) -> Mapping[str, Any]:
        if isinstance(document, Mapping):
            if isinstance(document.get("error"), Mapping):
                self._raise_refusal(document["error"])
            result = document if agent.binding == "HTTP+JSON" else document.get("result")
            if isinstance(result, Mapping):
                return result
        raise EngineFailed(
            f"The agent '{self._name}' sent a response that the protocol does not define.",
            code="invalid_agent_answer",
        )

    async def _refuse(self, response: aiohttp.ClientResponse, deadline: float | None) -> NoReturn:
        """Raise the error for a response with a status other than 200."""
        status, retry_after = response.status, retry_after_s(response.headers.get("Retry-After"))
        if 300 <= status < 400:
            response.close()
            raise EngineFailed(
                f"The agent '{self._name}' redirects from {response.url.with_query(None)} to "
                f"'{line(response.headers.get('Location')).partition('?')[0]}', but redirects are not "
                "followed: set the model's source to the final URL.",
                code="agent_redirects",
            )
        data = await self._read_whole(response, deadline, MAX_CARD_BYTES)
        document: Any = None
        with contextlib.suppress(orjson.JSONDecodeError):
            document = orjson.loads(data)
        error = document.get("error") if isinstance(document, Mapping) else None
        error = error if isinstance(error, Mapping) else {"message": error}
        reason = self.excerpt(error.get("message")) or f"status {status} without a reason."
        if status in (401, 403):
            problem = "requires a key, or rejects the model's key" if status == 401 else "forbids this"
            raise EngineFailed(f"The agent '{self._name}' {problem}: {reason}", code="agent_key_refused")
        if status == 429:
            raise TooMany(
                f"The agent '{self._name}' receives too many calls: {reason}",
                code="provider_limit",
                retry_after=retry_after,
            )
        if status == 503:
            raise Unavailable(f"The agent '{self._name}' is not available: {reason}", retry_after=retry_after)
        if error.get("code") is not None:
            self._raise_refusal(error)
        raise EngineFailed(
            f"The agent '{self._name}' at {response.url.with_query(None)} returned status {status}: {reason}",
            code="agent_failed",
        )

    def _raise_refusal(self, error: Mapping[str, Any]) -> NoReturn:
        """Raise the error for an error of the protocol, which can have the format of either binding."""
        details = error.get("data") or error.get("details")
        first = details[0] if isinstance(details, list) and details else {}
        reason = line(first.get("reason")) if isinstance(first, Mapping) else ""
        reason = reason or next((word for code, word in _NOT_TAKEN if error.get("code") == code), "")
        cause = self.excerpt(error.get("message")) or "it gave no reason."
        if reason == "CONTENT_TYPE_NOT_SUPPORTED":
            raise InvalidRequest(
                f"The agent '{self._name}' does not support this content: {cause}",
                code="content_type_not_supported",
                param="messages",
            )
        raise AgentRefused(f"The agent '{self._name}' rejected the request: {cause}", reason)

    def excerpt(self, text: Any) -> str:
        """Return a text from the agent for use in an error. If the text contains the model's key, the key is
        removed.
        """
        shown_text = text_of(text, MAX_MESSAGE_CHARS)
        for secret in (self._source.key, *self._source.headers.values()):
            shown_text = shown_text.replace(secret, "…") if len(secret) > 3 else shown_text
        return shown_text


def _closable(items: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    assert isinstance(items, AsyncGenerator)
    return items


def _quote(text: str) -> str:
    """Escape a value for use in a path."""
    return URL.build(path=text).raw_path.replace("/", "%2F").replace(":", "%3A") if text else ""
