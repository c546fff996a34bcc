"""Transcribes recordings with a speech model."""

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
from portico_server.features.chunkers.document import Unreadable
from portico_server.features.readers.formats import is_recording
from portico_server.features.stores.model_calls import call_model

TRANSCRIBE_TIMEOUT_S = 3_600.0
"""Maximum time for one recording, in seconds."""


class RecordingTranscriber:
    """Transcribes recordings with the model ``model_name``. If ``model_name`` is empty, recordings in folders are
    skipped.
    """

    def __init__(self, registry: Registry, model_name: str = "") -> None:
        self._registry = registry
        self._model_name = model_name

    def readable(self) -> bool:
        """Return whether the transcription model is available."""
        servable = self._registry.get(self._model_name) if self._model_name else None
        return servable is not None and "transcription" in servable.card.capabilities

    async def write_down(self, path: Path, filename: str, context: Context) -> str | None:
        """Return the transcript of a recording as subtitles. Return ``None`` if the file is not a recording, or there
        is no model.

        Raises `Unreadable`, and `PorticoError` if the daemon shuts down.
        """
        if not is_recording(filename) or not self.readable():
            return None
        data = await pools.FILES.run(path.read_bytes)
        name = filename.rpartition("/")[2]
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        request = Transcribe(Attachment("file", name, kind, data), timestamps="segment")
        try:
            transcription = await call_model(
                context, self._model_name, request, timeout_s=TRANSCRIBE_TIMEOUT_S
            )
        except PorticoError as error:
            if error.code == "shutting_down":
                raise
            raise Unreadable(f"could not be transcribed by '{self._model_name}': {error.message}") from error
        if not isinstance(transcription, Transcription) or not transcription.text.strip():
            raise Unreadable("is a recording without speech.", "unsupported_file")
        return _subtitles(
            transcription.segments or [Stretch(0.0, transcription.duration or 0.0, transcription.text)]
        )


def _subtitles(segments: Sequence[Stretch]) -> str:
    """Return the transcript as SRT, which keeps the time of each sentence."""
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
