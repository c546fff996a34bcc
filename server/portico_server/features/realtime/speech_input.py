"""The audio that a session's client sends: when speech starts and ends, and when the user is silent for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, PorticoError, TooMany
from portico_server.core.ids import new_id
from portico_server.core.pools import LOADING
from portico_server.features.realtime import config
from portico_server.features.realtime.audio import MAX_BUFFER_BYTES, MIN_COMMIT_MS, decode, work_on
from portico_server.features.realtime.context import SessionContext
from portico_server.features.realtime.input_buffer import (
    InputBuffer,
    TurnMark,
    load_detector,
    load_noise_filter,
)
from portico_server.features.realtime.transcriber import MAX_LISTENING_COUNT, Transcriber
from portico_server.features.realtime.turn import RealtimeTurn
from portico_server.features.realtime.turns import RealtimeTurns

MAX_INLINE_CHARS: Final = 32_000
"""Maximum length of encoded audio that is decoded on the event loop, in characters. This takes half a millisecond. A
thread decodes longer audio.
"""


class SpeechInput:
    """Receives the client's audio and splits it into recordings, when the client requests it or a turn is detected."""

    def __init__(
        self, context: SessionContext, buffer: InputBuffer, transcriber: Transcriber, turns: RealtimeTurns
    ) -> None:
        self._context = context
        self._config = context.config
        self._memory = context.memory
        self._emit = context.emit
        self._buffer = buffer
        self._transcriber = transcriber
        self._turns = turns
        self._spoken_item: tuple[str, int] | None = None
        """The id of the item that the current speech will become, and the position at which its audio begins."""
        self._silence: asyncio.TimerHandle | None = None
        """Timer that fires when the user has been silent for too long."""
        self._is_closed = False
        self.prompting: asyncio.Task[None] | None = None
        """The task that prompts the model after the user has been silent for too long."""

    async def configure(self) -> None:
        """Apply the session's current audio settings."""
        detection = config.detection_of(self._config.current)
        if detection is not None:
            await LOADING.run(load_detector)
        noise = config.noise_of(self._config.current)
        if noise is not None:
            await LOADING.run(load_noise_filter)
        self._buffer.configure(self._config.input["format"]["type"], detection, noise)

    def forget_turn(self) -> None:
        """Forget the turn that has started, if any. No recording is made of it."""
        self._spoken_item = None
        self.stop_waiting()

    def close(self) -> None:
        """Stop waiting for speech."""
        self.stop_waiting()
        self._is_closed = True

    async def append(self, event: Mapping[str, Any]) -> None:
        """Add a piece of audio to the buffer. Raises `TooMany`."""
        text = event["audio"]
        is_long = (
            len(text) > MAX_INLINE_CHARS
        )  # while a thread decodes the audio, the session reads no further events
        data = await work_on(is_long, decode, text, self._buffer.kind)
        if len(self._buffer) + len(data) > MAX_BUFFER_BYTES or not self._memory.count(len(data)):
            self._memory.count()
            raise TooMany(
                f"The audio buffer is full: {len(self._buffer):,} bytes are waiting, and the limit is "
                f"{MAX_BUFFER_BYTES:,}, or less while other calls of this key use the memory. Send "
                "input_audio_buffer.commit or input_audio_buffer.clear.",
                code="input_audio_buffer_full",
                param="audio",
            )
        data = await work_on(is_long, self._buffer.clean, data)
        marks = await work_on(is_long, self._buffer.detect, data)
        self._buffer.add(data)
        for mark in marks:
            await (self._start_turn if mark.started else self._end_turn)(mark)
        self._buffer.trim()
        self._memory.count()

    async def clear(self, _event: Mapping[str, Any]) -> None:
        """Discard the buffered audio."""
        self._empty()
        await self._emit("input_audio_buffer.cleared")

    async def commit(self, _event: Mapping[str, Any]) -> None:
        """Make the buffered audio a recording. Raises `InvalidRequest` and `TooMany`."""
        length = self._buffer.length_ms
        if length < MIN_COMMIT_MS:
            raise InvalidRequest(
                f"The buffer contains {length} ms of audio; at least {MIN_COMMIT_MS} ms are needed.",
                code="input_audio_buffer_commit_empty",
            )
        if len(self._transcriber.tasks) >= MAX_LISTENING_COUNT:
            raise TooMany(
                f"{len(self._transcriber.tasks)} recordings of this session are being transcribed, which is "
                "the maximum. Wait for a transcription to finish.",
                code="too_many_at_once",
                retry_after=1.0,
            )
        await self._transcriber.require_model(self._config.transcription_model)
        item_id = new_id("item_") if self._spoken_item is None else self._spoken_item[0]
        item = self._transcriber.add_item(item_id)
        await self._transcriber.start(item, self._empty())

    def _empty(self) -> bytes:
        data = self._buffer.take()
        self._spoken_item = None
        self._memory.count()
        return data

    async def _start_turn(self, mark: TurnMark) -> None:
        self.stop_waiting()
        item_id, start_ms = self._spoken_item = new_id("item_"), self._buffer.start_ms(mark)
        await self._emit("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=item_id)
        if self._config.detection["interrupt_response"]:
            await self._turns.interrupt()

    async def _end_turn(self, mark: TurnMark) -> None:
        assert self._spoken_item is not None
        (item_id, start_ms), self._spoken_item = self._spoken_item, None
        data = self._buffer.take_turn(start_ms, mark.at_ms)
        await self._emit("input_audio_buffer.speech_stopped", audio_end_ms=mark.at_ms, item_id=item_id)
        await self._transcriber.wait_for_room()
        try:
            await self._transcriber.require_model(self._config.transcription_model)
            item = self._transcriber.add_item(item_id)
            listening = await self._transcriber.start(item, data)
            if self._config.detection["create_response"]:
                async with self._turns.beginning:
                    await self._turns.answer(listening)
        except PorticoError as error:
            await self._context.report(error)

    def await_speech(self, turn: RealtimeTurn) -> None:
        """After a response, start a timer for the user's silence. It fires when the response's audio has been played
        and the idle timeout has passed.
        """
        timeout_ms = self._config.detection["idle_timeout_ms"]
        if (
            turn.conversation is None
            or timeout_ms is None
            or self._spoken_item is not None
            or self._is_closed
        ):
            return
        self.stop_waiting()
        delay = (turn.spoken_ms + timeout_ms) / 1000
        since_ms = self._buffer.end_ms
        self._silence = asyncio.get_running_loop().call_later(delay, self._begin_prompt, since_ms)

    def stop_waiting(self) -> None:
        """Stop the timer for the user's silence."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _begin_prompt(self, since_ms: int) -> None:
        self._silence = None
        if self.prompting is None:
            self.prompting = asyncio.create_task(self._prompt(since_ms), name="realtime silence")
            self.prompting.add_done_callback(self._end_prompt)

    def _end_prompt(self, _task: object) -> None:
        self.prompting = None

    async def _prompt(self, since_ms: int) -> None:
        """Let the model speak because the user has been silent since ``since_ms``."""
        async with self._turns.beginning:
            if self._turns.active is not None or self._spoken_item is not None:
                return
            try:
                item = self._transcriber.add_item(new_id("item_"), "")
                end_ms = self._buffer.end_ms
                await self._emit(
                    "input_audio_buffer.timeout_triggered",
                    audio_start_ms=since_ms,
                    audio_end_ms=end_ms,
                    item_id=item["id"],
                )
                await self._transcriber.emit_committed(item)
                if self._config.input["transcription"] is not None:
                    await self._transcriber.emit_transcript(item, "", end_ms - since_ms)
                await self._turns.answer(None)
            except PorticoError as error:
                await self._context.report(error)
