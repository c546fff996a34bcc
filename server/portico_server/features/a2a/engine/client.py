"""Calls an agent through OpenAI's chat interface: sends one message, and returns the answer of the task as it arrives.
Imports aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from portico_server.core import agent_depth
from portico_server.core.errors import (
    EngineFailed,
    InvalidRequest,
    PorticoError,
)
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.features.a2a.engine.answer import AgentAnswer, AnswerPiece
from portico_server.features.a2a.engine.card import RemoteAgent
from portico_server.features.a2a.engine.link import DONE, AgentLink, AgentRefused
from portico_server.features.a2a.engine.message import AgentContext, AgentContexts, ChatTurns
from portico_server.models.engines.openai_client.choice_chunks import ChoicePiece, ResponseEnvelope
from portico_server.models.openai_wire import frame
from portico_server.models.transport import (
    CONNECTION_ERRORS,
    deadline_exceeded,
)

logger = logging.getLogger(__name__)

CARD_AGE_S: Final = 600.0
"""Seconds after which the next call requests the card again."""

CARD_RETRY_S: Final = 60.0
"""Seconds after which a card is requested again if the last request failed. The known card stays valid meanwhile."""

CALL_TIMEOUT_S: Final = 30.0
"""Maximum time for requests that require no work of the agent, such as the state of a task or its cancellation, in
seconds.
"""

CANCEL_TIMEOUT_S: Final = 5.0

FIRST_POLL_S: Final = 0.1
"""Initial interval for polling a task of an agent that does not stream, in seconds. The interval grows."""

MAX_POLL_S: Final = 5.0

MAX_LOST_COUNT: Final = 5
"""Maximum number of times that the connection to an agent may be lost during one task."""

MAX_HOPS_COUNT: Final = 8
"""Maximum number of agents in a chain of calls. Without it, an agent that calls itself through this daemon would never
stop.
"""

_REFUSABLE: Final = {
    "tools": "it has its own tools and cannot call yours",
    "functions": "it has its own tools and cannot call yours",
    "logprobs": "it does not return token probabilities",
    "audio": "it returns text and files",
}
"""Chat options that agents do not support, each with the reason."""


class AgentClient:
    """An `EngineClient` for chats with an agent. ``on_change`` is called when the card of the agent has changed."""

    def __init__(
        self, link: AgentLink, name: str, agent: RemoteAgent, on_change: Callable[[RemoteAgent], None]
    ) -> None:
        self._link = link
        self._name = name
        self._agent = agent
        self._on_change = on_change
        self._contexts = AgentContexts()
        self._card_due = asyncio.get_running_loop().time() + CARD_AGE_S
        self._reading = asyncio.Lock()

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        self._check(request)
        if agent_depth.hops() >= MAX_HOPS_COUNT:
            raise InvalidRequest(
                f"'{self._name}' was called through {MAX_HOPS_COUNT} agents in a row: an agent calls itself.",
                code="too_deep",
            )
        turns = ChatTurns.of(request.body.get("messages"))
        await self._renew_card(deadline)
        envelope = ResponseEnvelope(chat=True, model=self._name)
        answer = AgentAnswer(self._name, self._link.excerpt)
        pieces = self._converse(request.caller, turns, answer, deadline)
        if not request.stream:
            async with aclosing(pieces):
                pieces_read = [piece async for piece in pieces]
            delta = {
                name: text
                for name, is_thought in (("content", False), ("reasoning_content", True))
                if (text := "".join(piece.text for piece in pieces_read if piece.thought is is_thought))
                or not is_thought
            }
            choice_pieces = [ChoicePiece(0, delta), ChoicePiece(0, {}, None, "stop")]
            document = envelope.document(choice_pieces, 1, answer.usage)
            return RelayResponse("application/json", single_chunk(document), answer.usage)
        try:
            first = await anext(pieces, None)
        except BaseException:
            await pieces.aclose()
            raise
        options = request.body.get("stream_options")
        wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
        relay_response = RelayResponse("text/event-stream", single_chunk(b""))
        relay_response.chunks = self._frames(
            first, pieces, answer, envelope, relay_response, wants_usage=wants_usage
        )
        return relay_response

    def _check(self, request: Relay) -> None:
        if request.operation != "chat/completions":
            raise InvalidRequest(
                f"'{self._name}' is a remote agent: it supports chat but not {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )
        body = request.body
        form = body.get("response_format")
        refusals = {param: reason for param, reason in _REFUSABLE.items() if body.get(param)}
        if isinstance(form, Mapping) and form.get("type") not in (None, "text"):
            refusals["response_format"] = "it determines the format of its answers"
        if body.get("n") not in (None, 1):
            refusals["n"] = "it returns only one answer"
        for param, reason in refusals.items():
            raise InvalidRequest(
                f"'{self._name}' is a remote agent, so it does not support '{param}': {reason}.",
                code="unsupported_parameter",
                param=param,
            )

    async def _renew_card(self, deadline: float | None) -> None:
        """Request the card again if it is old. If that fails, keep the known card."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._card_due or self._reading.locked():
            return
        async with self._reading:
            try:
                remote_agent = await self._link.read_card(deadline)
            except PorticoError as error:
                logger.warning("failed to refresh the card of %s: %s", self._name, error.message)
                self._card_due = loop.time() + CARD_RETRY_S
                return
            self._card_due = loop.time() + CARD_AGE_S
            if remote_agent != self._agent:
                self._agent = remote_agent
                self._on_change(remote_agent)

    async def _frames(
        self,
        first: AnswerPiece | None,
        pieces: AsyncGenerator[AnswerPiece, None],
        answer: AgentAnswer,
        envelope: ResponseEnvelope,
        relay_response: RelayResponse,
        *,
        wants_usage: bool,
    ) -> AsyncIterator[bytes]:
        try:
            yield envelope.opening(0)
            while first is not None:
                relay_response.usage = answer.usage
                yield envelope.chunk(
                    ChoicePiece(0, {"reasoning_content" if first.thought else "content": first.text})
                )
                first = await anext(pieces, None)
            relay_response.usage = answer.usage
            yield envelope.chunk(ChoicePiece(0, {}, None, "stop"))
            if wants_usage:
                yield envelope.usage(answer.usage)
            yield DONE
        except PorticoError as error:
            relay_response.usage = answer.usage
            yield frame(error)
            raise
        finally:
            await pieces.aclose()

    async def _converse(
        self, caller: str, turns: ChatTurns, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """Yield the answer to the new messages of a chat. If the agent has forgotten the conversation, send the whole
        chat.
        """
        context = self._contexts.take(caller, turns.known)
        texts: list[str] = []
        try:
            async for piece in self._ask(turns, context, answer, deadline):
                if not piece.thought:
                    texts.append(piece.text)
                yield piece
        except AgentRefused:
            if context is None or answer.state:
                raise
            async for piece in self._ask(turns, None, answer, deadline):
                if not piece.thought:
                    texts.append(piece.text)
                yield piece
        if answer.context_id:
            task_id = answer.task_id if answer.asks else ""
            agent_context = AgentContext(answer.context_id, task_id, turns.instructed)
            self._contexts.put(caller, turns.with_answer("".join(texts)), agent_context)

    async def _ask(
        self, turns: ChatTurns, context: AgentContext | None, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """Send a message and follow its task. If nobody waits for the task anymore, cancel it."""
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
            async for piece in self._answer(agent, params, answer, deadline):
                yield piece
        except AgentRefused:
            if not answer.state:  # the agent has not created a task for the message
                answer.task_id = answer.context_id = ""
            raise
        finally:
            if answer.open:
                await asyncio.shield(self._cancel(agent, answer.task_id))

    async def _answer(
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
                    True  # the agent has then reported the task, so that it can be cancelled
                )
                for piece in answer.read(await self._link.call(agent, "SendMessage", params, deadline)):
                    yield piece
        except CONNECTION_ERRORS as error:
            if type(error) is TimeoutError or not answer.task_id or not answer.state:
                raise self._link.explain(error) from error
        if not answer.settled() and not answer.task_id:
            raise EngineFailed(
                f"The agent '{self._name}' finished without an answer.", code="invalid_agent_answer"
            )
        async for piece in self._follow(agent, answer, deadline):
            yield piece

    async def _follow(
        self, agent: RemoteAgent, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """Follow a task whose answer is incomplete, by polling or by requesting its stream again."""
        loop = asyncio.get_running_loop()
        lost_count, pause = 0, FIRST_POLL_S
        while not answer.settled():
            if not agent.streaming or lost_count:
                # An agent that does not stream reports neither that its answer is ready nor that it is
                # available again.
                if deadline is not None and loop.time() + pause >= deadline:
                    raise deadline_exceeded(self._name)
                await asyncio.sleep(pause)
                pause = min(MAX_POLL_S, pause * 1.5)
            soon = loop.time() + CALL_TIMEOUT_S
            try:
                request = {"id": answer.task_id, "historyLength": 1}
                until = soon if deadline is None else min(soon, deadline)
                task = await self._link.call(agent, "GetTask", request, until)
                for piece in answer.read({"task": task}):
                    yield piece
                if answer.settled() or not agent.streaming:
                    continue
                async with aclosing(self._subscribed(agent, answer, deadline)) as pieces:
                    async for piece in pieces:
                        yield piece
            except CONNECTION_ERRORS as error:
                if lost_count >= MAX_LOST_COUNT or (deadline is not None and loop.time() >= deadline):
                    raise self._link.explain(error) from error
            if answer.settled():
                return
            lost_count += 1  # a stream that ends before its task counts as a lost connection too
            if lost_count > MAX_LOST_COUNT:
                raise EngineFailed(
                    f"The agent '{self._name}' lost the connection {lost_count} times during the task.",
                    code="upstream_unreachable",
                )

    async def _subscribed(
        self, agent: RemoteAgent, answer: AgentAnswer, deadline: float | None
    ) -> AsyncGenerator[AnswerPiece, None]:
        """Yield the pieces of a task whose stream is requested again. If the agent refuses because the task has ended,
        yield nothing; the task is then polled.
        """
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
            logger.info("cannot resume the stream of a task of %s: %s", self._name, error.reason)

    async def _cancel(self, agent: RemoteAgent, task_id: str) -> None:
        """Cancel a task of the agent."""
        until = asyncio.get_running_loop().time() + CANCEL_TIMEOUT_S
        try:
            await self._link.call(agent, "CancelTask", {"id": task_id}, until)
        except (PorticoError, *CONNECTION_ERRORS) as error:
            logger.info("failed to cancel a task of %s: %s", self._name, type(error).__name__)
