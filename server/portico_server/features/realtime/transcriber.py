"""Transcription of the user's speech in a session, for the model and, on request, for the client."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from portico_server.core.errors import PorticoError
from portico_server.features.realtime.audio import duration_ms
from portico_server.features.realtime.context import SessionContext
from portico_server.features.realtime.items import Item

MAX_LISTENING_COUNT: Final = 4
"""Maximum number of recordings that are transcribed concurrently."""

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


class Transcriber:
    """Adds each recording to the conversation as an item, and transcribes it."""

    def __init__(self, context: SessionContext) -> None:
        self._config = context.config
        self._conversation = context.conversation
        self._memory = context.memory
        self._voices = context.voices
        self._emit = context.emit
        self._tasks: dict[str, asyncio.Task[str | None]] = {}
        """Tasks that transcribe items, keyed by item id."""

    @property
    def tasks(self) -> Collection[asyncio.Task[str | None]]:
        """The running transcription tasks."""
        return self._tasks.values()

    async def wait(self) -> None:
        """Wait until all received recordings are transcribed."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def wait_for_room(self) -> None:
        """Wait until another recording can be transcribed without exceeding the maximum."""
        while len(self._tasks) >= MAX_LISTENING_COUNT:
            await asyncio.wait(list(self._tasks.values()), return_when=asyncio.FIRST_COMPLETED)

    async def require_model(self, model: str | None) -> None:
        """Raise `PorticoError` unless ``model`` can transcribe speech. If ``model`` is ``None``, any model that can is
        sufficient.
        """
        await self._voices.able("transcription", model, "session.audio.input.transcription.model")

    def add_item(self, item_id: str, transcript: str | None = None) -> Item:
        """Add the user's speech to the conversation as an item. Its ``transcript`` may be added later."""
        item: Item = {
            "id": item_id,
            "type": "message",
            "object": "realtime.item",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": transcript}],
        }
        if self._config.only_transcribes:
            self._conversation.forget_oldest()
        self._conversation.add(item)
        return item

    async def start(self, item: Item, data: bytes) -> asyncio.Task[str | None]:
        """Transcribe the recording of an item. The task returns the text, or ``None`` if transcription failed."""
        await self.emit_committed(item)
        work = self._write_down(item, data, self._config.input)
        self._tasks[item["id"]] = task = asyncio.create_task(work, name=f"listen {item['id']}")
        self._memory.add(len(data))

        def end(_task: object) -> None:
            self._tasks.pop(item["id"])
            self._memory.release(len(data))

        task.add_done_callback(end)
        return task

    async def emit_committed(self, item: Item) -> None:
        """Send the client the id of the item that its audio has become."""
        previous = self._conversation.id_before(item["id"])
        await self._emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item["id"])
        await self._emit("conversation.item.added", previous_item_id=previous, item=item)
        await self._emit("conversation.item.done", previous_item_id=previous, item=item)

    async def emit_transcript(self, item: Item, text: str, length_ms: int) -> None:
        """Send the transcript of an item to the client."""
        usage = {"type": "duration", "seconds": length_ms / 1000}
        await self._emit(
            f"{_TRANSCRIPTION}.completed", item_id=item["id"], content_index=0, transcript=text, usage=usage
        )

    async def _write_down(self, item: Item, data: bytes, audio: Mapping[str, Any]) -> str | None:
        deltas: list[str] = []
        is_wanted = audio["transcription"] is not None or self._config.only_transcribes

        async def tell(delta: str) -> None:
            if is_wanted:
                deltas.append(delta)
                await self._emit_part(item, delta)

        try:
            transcript = await self._voices.transcribe(data, audio, tell)
            self._conversation.change(
                {**item, "content": [{"type": "input_audio", "transcript": transcript.text}]}
            )
        except PorticoError as error:
            failure = {
                "type": error.type,
                "code": error.code,
                "message": error.message,
                "param": error.param,
            }
            await self._emit(f"{_TRANSCRIPTION}.failed", item_id=item["id"], content_index=0, error=failure)
            return None
        if is_wanted:
            if transcript.text and not deltas:
                await self._emit_part(item, transcript.text)
            await self.emit_transcript(item, transcript.text, duration_ms(data, audio["format"]["type"]))
        return transcript.text

    async def _emit_part(self, item: Item, delta: str) -> None:
        await self._emit(f"{_TRANSCRIPTION}.delta", item_id=item["id"], content_index=0, delta=delta)
