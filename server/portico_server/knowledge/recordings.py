"""Recordings, written down by a model that transcribes."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path

from portico.audio import Stretch
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import (
    PorticoError,
)
from portico_server.core.media import Attachment, Transcribe, Transcription
from portico_server.core.registry import Registry
from portico_server.knowledge.document import Unreadable
from portico_server.knowledge.model_calls import call_model
from portico_server.knowledge.parse.formats import is_recording

TRANSCRIBE_TIMEOUT_S = 3_600.0
"""Seconds that one recording may take."""


class RecordingTranscriber:
    """``model_name`` is the model to ask; empty: nobody is asked, and recordings are left out of folders."""

    def __init__(self, registry: Registry, model_name: str = "") -> None:
        self._registry = registry
        self._wanted = model_name

    def readable(self) -> bool:
        """Whether the model is there."""
        servable = self._registry.get(self._wanted) if self._wanted else None
        return servable is not None and "transcription" in servable.card.capabilities

    async def write_down(self, path: Path, filename: str, context: Context) -> str | None:
        """What is said in a recording, as subtitles; ``None`` for another file, and where there is no model for it.

        Raises `Unreadable`, and `PorticoError` where the daemon ends.
        """
        if not is_recording(filename) or not self.readable():
            return None
        data = await pools.FILES.run(path.read_bytes)
        name = filename.rpartition("/")[2]
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        request = Transcribe(Attachment("file", name, kind, data), timestamps="segment")
        try:
            transcription = await call_model(context, self._wanted, request, timeout_s=TRANSCRIBE_TIMEOUT_S)
        except PorticoError as error:
            if error.code == "shutting_down":
                raise
            raise Unreadable(f"could not be written down by '{self._wanted}': {error.message}") from error
        if not isinstance(transcription, Transcription) or not transcription.text.strip():
            raise Unreadable("is a recording in which nothing is said.", "unsupported_file")
        return _subtitles(
            transcription.segments or [Stretch(0.0, transcription.duration or 0.0, transcription.text)]
        )


def _subtitles(segments: Sequence[Stretch]) -> str:
    """In the form of SRT, which keeps the second of each sentence."""
    cues = (
        f"{number}\n{_clock(stretch.start)} --> {_clock(stretch.end)}\n{' '.join(stretch.text.split())}\n"
        for number, stretch in enumerate(segments, 1)
        if stretch.text.strip()
    )
    return "\n".join(cues)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(max(seconds, 0.0) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
