"""Speaks to an agent as if it were OpenAI's chat: one message, one task, its answer as it comes. Imports aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
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
from portico_server.core.relay import Relay, RelayResponse, event_data
from portico_server.http.client import failure_reason
from portico_server.models.answers import single_chunk
from portico_server.models.endpoint import Endpoint
from portico_server.models.engines.a2a.answer import AgentAnswer, AnswerPiece
from portico_server.models.engines.a2a.card import (
    MAX_CARD_BYTES,
    VERSION,
    AgentSource,
    RemoteAgent,
    card_address,
    line,
    parse_card,
    text_of,
)
from portico_server.models.engines.a2a.message import AgentContext, AgentContexts, ChatTurns
from portico_server.models.engines.openai_client.choices import ChoicePiece, ResponseEnvelope
from portico_server.models.openai_wire import MAX_MESSAGE_CHARS, frame
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
"""Seconds in which a card is read, from the connection to the last byte."""

CARD_AGE_S: Final = 600.0
"""Seconds after which the next call reads the card again."""

CARD_RETRY_S: Final = 60.0
"""Seconds after which a card is tried again that could not be read; the one that is known holds meanwhile."""

CALL_TIMEOUT_S: Final = 30.0
"""Seconds for what an agent answers without working at it: the state of a task, its end."""

CANCEL_TIMEOUT_S: Final = 5.0

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Bytes of all that an agent sends for one message."""

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one event: a picture is one."""

MAX_VALUES_COUNT: Final = 250_000
"""Values in one event: reading so many takes some hundredths of a second."""

FIRST_POLL_S: Final = 0.1
"""Seconds between two looks at a task whose agent does not stream; they grow."""

MAX_POLL_S: Final = 5.0

MAX_LOST_COUNT: Final = 5
"""How often the connection to an agent may be lost while it works at one task."""

MAX_HOPS_COUNT: Final = 8
"""Agents that may be called by agents: one that calls itself by this daemon would do so for ever."""

DONE: Final = b"data: [DONE]\n\n"

_ACCEPTED: Final = {"JSONRPC": "application/json", "HTTP+JSON": "application/a2a+json"}
_PATHS: Final = {
    "SendMessage": ("POST", "message:send"),
    "SendStreamingMessage": ("POST", "message:stream"),
    "GetTask": ("GET", "tasks/{id}"),
    "CancelTask": ("POST", "tasks/{id}:cancel"),
    "SubscribeToTask": ("GET", "tasks/{id}:subscribe"),
}
"""The methods over plain HTTP."""

_NOT_TAKEN: Final = (
    (-32005, "CONTENT_TYPE_NOT_SUPPORTED"),
    (-32001, "TASK_NOT_FOUND"),
    (-32004, "UNSUPPORTED_OPERATION"),
)
_REFUSABLE: Final = {
    "tools": "it has tools of its own and calls none of yours",
    "functions": "it has tools of its own and calls none of yours",
    "logprobs": "it returns no probabilities of tokens",
    "audio": "it answers with text and files",
}
"""What a chat may ask for and an agent cannot be told."""


class AgentRefused(EngineFailed):
    """The agent read a message and did not take it, or does not know the task; ``reason`` is the protocol's word."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, code="agent_refused")
        self.reason = reason


class AgentLink:
    """Calls of one agent's methods, in either binding. Everything that it sends is bounded."""

    def __init__(self, transport: EngineTransport, source: AgentSource) -> None:
        self._transport = transport
        self._source = source
        self._name = source.name

    async def read_card(self, deadline: float | None) -> RemoteAgent:
        """Fetch its card. Raises `PorticoError`."""
        source, address = self._source, card_address(self._source.location)
        soon = asyncio.get_running_loop().time() + CARD_TIMEOUT_S
        until = soon if deadline is None else min(soon, deadline)
        for header in ("", "Authorization"):  # without the key, unless the card itself wants it
            try:
                response = await self._open("GET", address, None, self._headers(header), until)
                if response.status in (401, 403) and not header and source.key:
                    response.close()
                    continue
                if response.status != 200:
                    await self._refuse(response, until)
                data = await self._whole(response, until, MAX_CARD_BYTES)
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
            keyed=bool(source.key),
            own=bool(source.headers),
        )

    async def call(
        self, agent: RemoteAgent, method: str, params: dict[str, Any], deadline: float | None
    ) -> Mapping[str, Any]:
        """The result of a method. Raises `PorticoError`, and `CONNECTION_ERRORS`, which `explain` explains."""
        response = await self._send(agent, method, params, deadline)
        return self._result(agent, self._parse(await self._whole(response, deadline, MAX_EVENT_BYTES)))

    async def stream(
        self, agent: RemoteAgent, method: str, params: dict[str, Any], deadline: float | None
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of a method that streams. Errors as those of `call`."""
        response = await self._send(agent, method, params, deadline, streams=True)
        if response.content_type != "text/event-stream":  # a refusal, or a whole answer
            yield self._result(agent, self._parse(await self._whole(response, deadline, MAX_EVENT_BYTES)))
            return
        size = 0
        async with aclosing(
            _closable(read_frames(response, deadline=deadline, idle=self._source.idle))
        ) as frames:
            async for some in frames:
                size += len(some)
                if size > MAX_ANSWER_BYTES:
                    raise self._too_much(MAX_ANSWER_BYTES)
                for event in some.split(b"\n\n"):
                    if data := event_data(event):
                        yield self._result(agent, self._parse(data))

    def explain(self, error: BaseException, *, late: str = "") -> PorticoError:
        """What a broken connection means."""
        if type(error) is TimeoutError:
            if late:
                return EngineFailed(f"The agent '{self._name}' {late}.", code="upstream_unreachable")
            return deadline_exceeded(self._name)
        return EngineFailed(
            f"The agent '{self._name}' cannot be reached or broke off: {failure_reason(error)}. Check the address in "
            "its source and that it runs.",
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
        """An answer with status 200, whose body is still to be read."""
        headers = self._headers(agent.header)
        headers["Accept"] = "text/event-stream" if streams else _ACCEPTED[agent.binding]
        if agent.binding == "JSONRPC":
            verb, url = "POST", agent.url
            given = {**params, "tenant": agent.tenant} if agent.tenant else params
            body: dict[str, Any] = {
                "jsonrpc": "2.0",
                "id": str(uuid.uuid4()),
                "method": method,
                "params": given,
            }
        else:
            headers["Content-Type"] = "application/a2a+json"
            verb, path = _PATHS[method]
            task_id, body = str(params.get("id") or ""), params
            if "{id}" in path:
                body = {}
                path = path.replace("{id}", _quoted(task_id))
            url = "/".join(filter(None, (agent.url, _quoted(agent.tenant), path)))
        response = await self._open(
            verb, url, orjson.dumps(body) if verb == "POST" else None, headers, deadline
        )
        if response.status != 200:
            await self._refuse(response, deadline)
        return response

    def _headers(self, header: str) -> dict[str, str]:
        found = {"A2A-Version": VERSION, **self._source.headers}
        if header and self._source.key:
            found[header] = f"Bearer {self._source.key}" if header == "Authorization" else self._source.key
        return found

    async def _open(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], deadline: float | None
    ) -> aiohttp.ClientResponse:
        route = EngineRoute(Endpoint(url, "", headers=headers), "")
        route.url = URL(url, encoded=True)
        with trace.at(agent_depth.next_hop()):
            return await self._transport.send(method, route, body, deadline=deadline)

    async def _whole(self, response: aiohttp.ClientResponse, deadline: float | None, most: int) -> bytes:
        data = bytearray()
        pieces = _closable(read_pieces(response, deadline=deadline, idle=self._source.idle))
        async with aclosing(pieces):
            async for some in pieces:
                data += some
                if len(data) > most:
                    raise self._too_much(most)
        return bytes(data)

    def _parse(self, data: bytes) -> Any:
        if len(data) > MAX_EVENT_BYTES or data.count(b",") > MAX_VALUES_COUNT:
            raise self._too_much(MAX_EVENT_BYTES)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise EngineFailed(
                f"The agent '{self._name}' sent something that is not JSON.", code="invalid_agent_answer"
            ) from error

    def _too_much(self, most: int) -> EngineFailed:
        return EngineFailed(
            f"The agent '{self._name}' sent more than {most >> 20} MB, or more than {MAX_VALUES_COUNT:,} values at "
            "once; it was cut off.",
            code="answer_too_large",
        )

    def _result(self, agent: RemoteAgent, document: Any) -> Mapping[str, Any]:
        if isinstance(document, Mapping):
            if isinstance(document.get("error"), Mapping):
                self._raise_refusal(document["error"])
            found = document if agent.binding == "HTTP+JSON" else document.get("result")
            if isinstance(found, Mapping):
                return found
        raise EngineFailed(
            f"The agent '{self._name}' sent something that the protocol does not have.",
            code="invalid_agent_answer",
        )

    async def _refuse(self, response: aiohttp.ClientResponse, deadline: float | None) -> NoReturn:
        """Raise what a status other than 200 means."""
        status, retry_after = response.status, retry_after_s(response.headers.get("Retry-After"))
        if 300 <= status < 400:
            response.close()
            raise EngineFailed(
                f"The agent '{self._name}' redirects from {response.url.with_query(None)} to "
                f"'{line(response.headers.get('Location')).partition('?')[0]}', which is not followed: give the model "
                "the address where the agent is.",
                code="agent_redirects",
            )
        data = await self._whole(response, deadline, MAX_CARD_BYTES)
        document: Any = None
        with contextlib.suppress(orjson.JSONDecodeError):
            document = orjson.loads(data)
        error = document.get("error") if isinstance(document, Mapping) else None
        error = error if isinstance(error, Mapping) else {"message": error}
        why = self.shown(error.get("message")) or f"status {status} and no reason."
        if status in (401, 403):
            what = "wants a key, or refuses the one that the model has" if status == 401 else "forbids this"
            raise EngineFailed(f"The agent '{self._name}' {what}: {why}", code="agent_key_refused")
        if status == 429:
            raise TooMany(
                f"The agent '{self._name}' has too many calls: {why}",
                code="provider_limit",
                retry_after=retry_after,
            )
        if status == 503:
            raise Unavailable(f"The agent '{self._name}' is not available: {why}", retry_after=retry_after)
        if error.get("code") is not None:
            self._raise_refusal(error)
        raise EngineFailed(
            f"The agent '{self._name}' at {response.url.with_query(None)} answered with status {status}: {why}",
            code="agent_failed",
        )

    def _raise_refusal(self, error: Mapping[str, Any]) -> NoReturn:
        """Raise what an error of the protocol means, in either form."""
        details = error.get("data") or error.get("details")
        first = details[0] if isinstance(details, list) and details else {}
        reason = line(first.get("reason")) if isinstance(first, Mapping) else ""
        reason = reason or next((word for code, word in _NOT_TAKEN if error.get("code") == code), "")
        why = self.shown(error.get("message")) or "it gives no reason."
        if reason == "CONTENT_TYPE_NOT_SUPPORTED":
            raise InvalidRequest(
                f"The agent '{self._name}' does not read this: {why}",
                code="content_type_not_supported",
                param="messages",
            )
        raise AgentRefused(f"The agent '{self._name}' refused: {why}", reason)

    def shown(self, text: Any) -> str:
        """Words of the agent for an error, without the key, should it repeat that."""
        said = text_of(text, MAX_MESSAGE_CHARS)
        for secret in (self._source.key, *self._source.headers.values()):
            said = said.replace(secret, "…") if len(secret) > 3 else said
        return said


def _closable(items: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    assert isinstance(items, AsyncGenerator)
    return items


def _quoted(text: str) -> str:
    """A word in a path."""
    return URL.build(path=text).raw_path.replace("/", "%2F").replace(":", "%3A") if text else ""


# --- the engine client -----------------------------------------------------------------------------------------------


class AgentClient:
    """A `EngineClient` for chats. ``changed`` hears of a card that says something new."""

    def __init__(
        self, link: AgentLink, name: str, agent: RemoteAgent, changed: Callable[[RemoteAgent], None]
    ) -> None:
        self._link = link
        self._name = name
        self._agent = agent
        self._changed = changed
        self._contexts = AgentContexts()
        self._card_due = asyncio.get_running_loop().time() + CARD_AGE_S
        self._reading = asyncio.Lock()

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        self._check(request)
        if agent_depth.hops() >= MAX_HOPS_COUNT:
            raise InvalidRequest(
                f"'{self._name}' was called by {MAX_HOPS_COUNT} agents in a row: something calls itself.",
                code="too_deep",
            )
        turns = ChatTurns.of(request.body.get("messages"))
        await self._renew_card(deadline)
        envelope = ResponseEnvelope(chat=True, model=self._name)
        answer = AgentAnswer(self._name, self._link.shown)
        pieces = self._converse(request.caller, turns, answer, deadline)
        if not request.stream:
            async with aclosing(pieces):
                found = [piece async for piece in pieces]
            delta = {
                name: text
                for name, thought in (("content", False), ("reasoning_content", True))
                if (text := "".join(piece.text for piece in found if piece.thought is thought)) or not thought
            }
            whole = [ChoicePiece(0, delta), ChoicePiece(0, {}, None, "stop")]
            document = envelope.document(whole, 1, answer.usage)
            return RelayResponse("application/json", single_chunk(document), answer.usage)
        try:
            first = await anext(pieces, None)
        except BaseException:
            await pieces.aclose()
            raise
        options = request.body.get("stream_options")
        wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
        relayed = RelayResponse("text/event-stream", single_chunk(b""))
        relayed.chunks = self._frames(first, pieces, answer, envelope, relayed, wants_usage=wants_usage)
        return relayed

    def _check(self, request: Relay) -> None:
        if request.operation != "chat/completions":
            raise InvalidRequest(
                f"'{self._name}' is an agent elsewhere: it does chats; it does not do {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )
        body = request.body
        form = body.get("response_format")
        refused = {param: why for param, why in _REFUSABLE.items() if body.get(param)}
        if isinstance(form, Mapping) and form.get("type") not in (None, "text"):
            refused["response_format"] = "the form of its answers is its own"
        if body.get("n") not in (None, 1):
            refused["n"] = "it answers once"
        for param, why in refused.items():
            raise InvalidRequest(
                f"'{self._name}' is an agent elsewhere, so it takes no '{param}': {why}.",
                code="unsupported_parameter",
                param=param,
            )

    async def _renew_card(self, deadline: float | None) -> None:
        """Read the card again if it is old. One that cannot be read changes nothing."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._card_due or self._reading.locked():
            return
        async with self._reading:
            try:
                found = await self._link.read_card(deadline)
            except PorticoError as error:
                logger.warning("the card of %s is not renewed: %s", self._name, error.message)
                self._card_due = loop.time() + CARD_RETRY_S
                return
            self._card_due = loop.time() + CARD_AGE_S
            if found != self._agent:
                self._agent = found
                self._changed(found)

    async def _frames(
        self,
        first: AnswerPiece | None,
        pieces: AsyncGenerator[AnswerPiece, None],
        answer: AgentAnswer,
        envelope: ResponseEnvelope,
        relayed: RelayResponse,
        *,
        wants_usage: bool,
    ) -> AsyncIterator[bytes]:
        try:
            yield envelope.opening(0)
            while first is not None:
                relayed.usage = answer.usage
                yield envelope.chunk(
                    ChoicePiece(0, {"reasoning_content" if first.thought else "content": first.text})
                )
                first = await anext(pieces, None)
            relayed.usage = answer.usage
            yield envelope.chunk(ChoicePiece(0, {}, None, "stop"))
            if wants_usage:
                yield envelope.usage(answer.usage)
            yield DONE
        except PorticoError as error:
            relayed.usage = answer.usage
            yield frame(error)
            raise
        finally:
            await pieces.aclose()

    async def _converse(
        self, caller: str, turns: ChatTurns, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """The answer to what is new in a chat; where the agent has forgotten the conversation, it is told all of it."""
        context = self._contexts.take(caller, turns.known)
        said: list[str] = []
        try:
            async for piece in self._ask(turns, context, answer, deadline):
                if not piece.thought:
                    said.append(piece.text)
                yield piece
        except AgentRefused:
            if context is None or answer.state:
                raise
            async for piece in self._ask(turns, None, answer, deadline):
                if not piece.thought:
                    said.append(piece.text)
                yield piece
        if answer.context_id:
            task_id = answer.task_id if answer.asks else ""
            known = AgentContext(answer.context_id, task_id, turns.instructed)
            self._contexts.put(caller, turns.with_answer("".join(said)), known)

    async def _ask(
        self, turns: ChatTurns, context: AgentContext | None, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """Send a message and follow what becomes of it. A task that nobody waits for any more is cancelled."""
        agent = self._agent
        message: dict[str, Any] = {
            "messageId": str(uuid.uuid4()),
            "role": "ROLE_USER",
            "parts": turns.parts(agent, context),
        }
        if context is not None:
            message["contextId"] = answer.context_id = context.context_id
        if context is not None and context.task_id:
            message["taskId"] = answer.task_id = context.task_id
        params = {"message": message, "configuration": {"historyLength": 1}}
        try:
            async for piece in self._answered(agent, params, answer, deadline):
                yield piece
        except AgentRefused:
            if not answer.state:  # nothing has become of the message
                answer.task_id = answer.context_id = ""
            raise
        finally:
            if answer.open:
                await asyncio.shield(self._cancel(agent, answer.task_id))

    async def _answered(
        self, agent: RemoteAgent, params: dict[str, Any], answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        try:
            if agent.streaming:
                async with aclosing(
                    self._link.stream(agent, "SendStreamingMessage", params, deadline)
                ) as updates:
                    async for update in updates:
                        for piece in answer.read(update):
                            yield piece
                        if answer.settled():
                            return
            else:
                params["configuration"]["returnImmediately"] = (
                    True  # its task is known then, and can be cancelled
                )
                for piece in answer.read(await self._link.call(agent, "SendMessage", params, deadline)):
                    yield piece
        except CONNECTION_ERRORS as error:
            if type(error) is TimeoutError or not answer.task_id or not answer.state:
                raise self._link.explain(error) from error
        if not answer.settled() and not answer.task_id:
            raise EngineFailed(
                f"The agent '{self._name}' ended without an answer.", code="invalid_agent_answer"
            )
        async for piece in self._followed(agent, answer, deadline):
            yield piece

    async def _followed(
        self, agent: RemoteAgent, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """What becomes of a task whose answer is not complete: looked at again and again, or streamed again."""
        loop = asyncio.get_running_loop()
        lost, pause = 0, FIRST_POLL_S
        while not answer.settled():
            if not agent.streaming or lost:
                # Nothing announces that an agent which does not stream is ready, or is there again.
                if deadline is not None and loop.time() + pause >= deadline:
                    raise deadline_exceeded(self._name)
                await asyncio.sleep(pause)
                pause = min(MAX_POLL_S, pause * 1.5)
            soon = loop.time() + CALL_TIMEOUT_S
            try:
                asked = {"id": answer.task_id, "historyLength": 1}
                until = soon if deadline is None else min(soon, deadline)
                task = await self._link.call(agent, "GetTask", asked, until)
                for piece in answer.read({"task": task}):
                    yield piece
                if answer.settled() or not agent.streaming:
                    continue
                async with aclosing(self._subscribed(agent, answer, deadline)) as pieces:
                    async for piece in pieces:
                        yield piece
            except CONNECTION_ERRORS as error:
                if lost >= MAX_LOST_COUNT or (deadline is not None and loop.time() >= deadline):
                    raise self._link.explain(error) from error
            if answer.settled():
                return
            lost += 1  # a stream that ends before its task counts as well
            if lost > MAX_LOST_COUNT:
                raise EngineFailed(
                    f"The agent '{self._name}' broke off {lost} times while it worked at the task.",
                    code="upstream_unreachable",
                )

    async def _subscribed(
        self, agent: RemoteAgent, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """What comes of a task that is streamed again; one that has ended meanwhile is refused, and looked at."""
        try:
            async with aclosing(
                self._link.stream(agent, "SubscribeToTask", {"id": answer.task_id}, deadline)
            ) as updates:
                async for update in updates:
                    for piece in answer.read(update):
                        yield piece
                    if answer.settled():
                        return
        except AgentRefused as error:
            logger.info("a task of %s is not streamed again: %s", self._name, error.reason)

    async def _cancel(self, agent: RemoteAgent, task_id: str) -> None:
        """Let the agent end a task."""
        until = asyncio.get_running_loop().time() + CANCEL_TIMEOUT_S
        try:
            await self._link.call(agent, "CancelTask", {"id": task_id}, until)
        except (PorticoError, *CONNECTION_ERRORS) as error:
            logger.info("a task of %s is not cancelled: %s", self._name, type(error).__name__)
