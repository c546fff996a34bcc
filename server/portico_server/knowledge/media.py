"""Pictures described by a chat model that sees, and recordings transcribed, before they are indexed as text."""

from __future__ import annotations

import base64
import logging
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.media import Attachment, Transcribe, Transcript, TranscriptSegment
from portico_server.core.prompts import builtin
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, Reply
from portico_server.knowledge.chunk.prompts import answer_text
from portico_server.knowledge.document import Part, PartWriter, Unreadable
from portico_server.knowledge.model_calls import call_model
from portico_server.knowledge.parse.formats import is_picture, is_recording

logger = logging.getLogger(__name__)

MAX_PICTURE_BYTES = 20 * 1024 * 1024
"""Bytes of a picture that is sent to a model."""

MAX_DESCRIPTION_TOKENS = 800
"""Of a description."""

_PICTURE_TYPES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))
"""What models take, by the first bytes."""


class PictureDescriber:
    """``wanted`` is the model to ask; empty: the first shared one that sees; ``none``: nobody is asked.

    ``languages`` are those in which text is recognised where no model sees.
    """

    def __init__(self, registry: Registry, wanted: str = "", languages: str = "") -> None:
        self._registry = registry
        self._wanted = wanted
        self._languages = languages

    def readable(self) -> bool:
        """Whether there is anything here that can make text of a picture."""
        return self.model() is not None or (bool(self._languages) and which("tesseract") is not None)

    def model(self) -> str | None:
        """The model that is asked, if there is one."""
        if self._wanted == "none":
            return None
        if self._wanted:
            return self._wanted if self._registry.get(self._wanted) is not None else None
        names = sorted(
            servable.card.name
            for servable in self._registry
            if servable.card.owner is None and "vision" in servable.card.capabilities
        )
        return names[0] if names else None

    async def describe(self, path: Path, filename: str, context: Context) -> Part | None:
        """The description of a picture. ``None`` for another file, and where no model could see it: then its text may
        be recognised.
        """
        if not is_picture(filename) or (model := self.model()) is None:
            return None
        data = await pools.FILES.run(_head, path)
        kind = next((kind for beginning, kind in _PICTURE_TYPES if data.startswith(beginning)), None)
        if kind is None or len(data) > MAX_PICTURE_BYTES:
            return None
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        content = [
            {"type": "text", "text": builtin.text("describe-picture", file=filename)},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        chat = Chat(
            ({"role": "user", "content": content},), {"temperature": 0, "max_tokens": MAX_DESCRIPTION_TOKENS}
        )
        try:
            reply = await call_model(context, model, chat)
            if not isinstance(reply, Reply):
                raise EngineFailed(f"'{model}' did not answer as a chat model does.")
        except PorticoError as error:
            if error.code == "shutting_down":
                raise
            logger.warning("'%s' could not describe %s: %s", model, filename, error.message)
            return None
        text = answer_text(reply.content, cut=reply.finish_reason == "length")
        return PartWriter().part(text) if text else None


def _head(path: Path) -> bytes:
    """The bytes of a file, one more than `MAX_PICTURE_BYTES` at most."""
    with path.open("rb") as file:
        return file.read(MAX_PICTURE_BYTES + 1)


# Recordings, written down by a model that transcribes.


TRANSCRIBE_TIMEOUT_S = 3_600.0
"""Seconds that one recording may take."""


class RecordingTranscriber:
    """``wanted`` is the model to ask; empty: nobody is asked, and recordings are left out of folders."""

    def __init__(self, registry: Registry, wanted: str = "") -> None:
        self._registry = registry
        self._wanted = wanted

    def readable(self) -> bool:
        """Whether the model is there."""
        found = self._registry.get(self._wanted) if self._wanted else None
        return found is not None and "transcription" in found.card.capabilities

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
            found = await call_model(context, self._wanted, request, timeout_s=TRANSCRIBE_TIMEOUT_S)
        except PorticoError as error:
            if error.code == "shutting_down":
                raise
            raise Unreadable(f"could not be written down by '{self._wanted}': {error.message}") from error
        if not isinstance(found, Transcript) or not found.text.strip():
            raise Unreadable("is a recording in which nothing is said.", "unsupported_file")
        return _subtitles(found.segments or [TranscriptSegment(0.0, found.duration or 0.0, found.text)])


def _subtitles(segments: Sequence[TranscriptSegment]) -> str:
    """In the form of SRT, which keeps the second of each sentence."""
    cues = (
        f"{number}\n{_clock(one.start)} --> {_clock(one.end)}\n{' '.join(one.text.split())}\n"
        for number, one in enumerate(segments, 1)
        if one.text.strip()
    )
    return "\n".join(cues)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(max(seconds, 0.0) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
