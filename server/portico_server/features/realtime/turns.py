"""The responses of a session: how they start, run and are cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import orjson

from portico_server.core.errors import Conflict, InvalidRequest, PorticoError, TooMany
from portico_server.core.principal import Principal
from portico_server.features.realtime import config
from portico_server.features.realtime.config import Config
from portico_server.features.realtime.context import SessionContext
from portico_server.features.realtime.items import Item
from portico_server.features.realtime.model_input import resolve_references, to_input
from portico_server.features.realtime.transcriber import Transcriber
from portico_server.features.realtime.turn import RealtimeTurn
from portico_server.features.responses.responder import Responder
from portico_server.features.responses.work import PreparedResponse

MAX_TURNS_COUNT: Final = 4
"""Maximum number of concurrent responses. Only one of them can belong to the conversation."""

logger = logging.getLogger(__name__)


class RealtimeTurns:
    """Creates the responses of a session: one at a time in its conversation, and others outside it. ``on_start`` is
    called when a response starts, ``on_end`` when it has ended.
    """

    def __init__(
        self,
        responder: Responder,
        caller: Principal,
        context: SessionContext,
        transcriber: Transcriber,
        on_start: Callable[[], None],
        on_end: Callable[[RealtimeTurn], None],
    ) -> None:
        self._responder = responder
        self._caller = caller
        self._context = context
        self._config = context.config
        self._conversation = context.conversation
        self._transcriber = transcriber
        self._on_start = on_start
        self._on_end = on_end
        self._tasks: dict[RealtimeTurn, asyncio.Task[None]] = {}
        self.beginning = asyncio.Lock()
        """Locked while a response begins, so that the client, speech and silence cannot start two responses."""

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """Return the tasks of the responses in progress."""
        return self._tasks.values()

    @property
    def active(self) -> RealtimeTurn | None:
        """Return the response in progress in the conversation, or ``None``."""
        return next((t for t in self._tasks if t.conversation is not None and not t.ended), None)

    async def create(self, event: Mapping[str, Any]) -> None:
        """Start the response that the client requests. Raises `PorticoError`."""
        response_config = config.asked(self._config.current, event.get("response"))
        self._config.require_granted(response_config, "response")
        async with self.beginning:
            aside = response_config.get("conversation") == "none"
            self._require_no_other(aside)
            with config.inside("response"):
                await self._require_speaker(response_config)
            await (
                self._transcriber.wait()
            )  # the model receives the transcripts of the recordings, so wait for them
            items = list(self._conversation)
            if "input" in response_config:
                items = resolve_references(response_config["input"], self._conversation, "response.input")
            with config.inside("response"):
                response = await self._prepare(response_config, items)
            size = len(orjson.dumps(event.get("response")))
            self._context.memory.hold(size, "response")
            turn = RealtimeTurn(response_config, self._context, aside=aside)
            await turn.begin()
            self._start(turn, self._respond(turn, response), size)

    async def answer(self, listening: asyncio.Task[str | None] | None) -> None:
        """Start the response to the user's speech or silence. The model runs once the speech is transcribed."""
        response_config = config.asked(self._config.current, None)
        self._require_no_other(aside=False)
        turn = RealtimeTurn(response_config, self._context)
        await turn.begin()
        self._start(turn, self._respond_to(turn, response_config, listening))

    async def cancel(self, event: Mapping[str, Any]) -> None:
        """Cancel the response that the client names, or the active response. Raises `InvalidRequest`."""
        response_id = event.get("response_id")
        turn = self.active
        if response_id is not None:
            turn = next((turn for turn in self._tasks if turn.id == response_id and not turn.ended), None)
        if turn is None:
            raise InvalidRequest(
                "No response can be cancelled: none is in progress"
                + ("." if response_id is None else f" with the id '{response_id[:100]}'."),
                code="response_cancel_not_active",
                param=None if response_id is None else "response_id",
            )
        await self._cancel(turn, "client_cancelled")

    async def interrupt(self) -> None:
        """Cancel the active response because the user speaks."""
        async with self.beginning:
            turn = self.active
            if turn is not None:
                await self._cancel(turn, "turn_detected")

    async def _cancel(self, turn: RealtimeTurn, reason: str) -> None:
        turn.cancelled_by = reason
        task = self._tasks[turn]
        if not turn.delivering:
            task.cancel()
        await asyncio.wait([task])
        if not turn.ended:
            await turn.cancel()

    def _require_no_other(self, aside: bool) -> None:
        """Raise `Conflict` or `TooMany` unless another response can start: in the conversation, or with ``aside``
        outside it.
        """
        active = None if aside else self.active
        if active is not None:
            raise Conflict(
                f"The response {active.id} is in progress in this conversation. Wait for response.done, or "
                "send response.cancel.",
                code="conversation_already_has_active_response",
            )
        if len(self._tasks) >= MAX_TURNS_COUNT:
            raise TooMany(
                f"{len(self._tasks)} responses are in progress in this session, which is the maximum. Wait "
                "for a response to end.",
                code="too_many_at_once",
                retry_after=1.0,
            )

    async def _require_speaker(self, asked_config: Config) -> None:
        if asked_config["output_modalities"] == ["audio"]:
            await self._context.voices.able(
                "speech", asked_config["audio"]["output"]["model"], "audio.output.model"
            )

    async def _prepare(self, asked_config: Config, items: list[Item]) -> PreparedResponse:
        return await self._responder.prepare(config.body_of(asked_config, to_input(items)), self._caller)

    def _start(self, turn: RealtimeTurn, work: Coroutine[Any, Any, None], size: int = 0) -> None:
        """Run the work of a response that has started, then release the ``size`` bytes that were reserved for it."""
        self._on_start()
        task = asyncio.create_task(work, name=f"realtime {turn.id}")
        self._tasks[turn] = task

        def end(_task: object) -> None:
            self._tasks.pop(turn)
            self._context.memory.release(size)
            self._on_end(turn)

        task.add_done_callback(end)

    async def _respond_to(
        self, turn: RealtimeTurn, asked_config: Config, listening: asyncio.Task[str | None] | None
    ) -> None:
        async with self._failing(turn):
            await self._transcriber.wait()
            # the recording contains no words, such as a cough, or its transcription failed
            if listening is not None and not listening.result():
                await turn.leave()
                return
            await self._require_speaker(asked_config)
            response = await self._prepare(asked_config, list(self._conversation))
            await self._deliver(turn, response)

    async def _respond(self, turn: RealtimeTurn, response: PreparedResponse) -> None:
        async with self._failing(turn):
            await self._deliver(turn, response)

    async def _deliver(self, turn: RealtimeTurn, response: PreparedResponse) -> None:
        async with aclosing(self._responder.stream(response, self._caller, lambda: True)) as batches:
            async for batch in batches:
                await turn.take(batch)
                if turn.cancelled_by:
                    return

    @asynccontextmanager
    async def _failing(self, turn: RealtimeTurn) -> AsyncIterator[None]:
        """If the block raises an error, end the response with this error."""
        try:
            yield
        except PorticoError as error:
            await turn.fail(error)
        except Exception:
            logger.exception("the response %s of a realtime session failed", turn.id)
            await turn.fail(PorticoError(f"An internal error occurred; see {turn.id} in Portico's log."))
