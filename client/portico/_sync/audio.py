# Made from portico/_async by scripts/twin: change it there.
"""Sounds in `portico.Client`. What each call sends and reads is in `portico._calls.audio`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portico._calls.audio import AudioFormat, Times, speech, subtitles, transcription, who
from portico._calls.models import models_list
from portico._sync.group import Group
from portico.audio import Transcript


class Audio(Group):
    """Texts said aloud, and speech written down."""

    def speak(
        self,
        text: str,
        model: str | None = None,
        *,
        voice: str | None = None,
        format: AudioFormat = "wav",
        speed: float = 1.0,
        **options: Any,
    ) -> bytes:
        """``text`` as a sound, by ``model`` or the first that speaks.

        Without ``voice`` it is the model's own. ``options`` are OpenAI's ``instructions`` and those of local models:
        ``seed``, and for music ``seconds``.
        """
        name = model or self._who("speech")
        return self._transport.send(speech(text, name, voice, format, speed, options))

    def speak_to(
        self,
        path: str | Path,
        text: str,
        model: str | None = None,
        *,
        voice: str | None = None,
        format: AudioFormat = "wav",
        speed: float = 1.0,
        **options: Any,
    ) -> int:
        """`speak` into a file, piece by piece; its size. A file that breaks off is removed."""
        name = model or self._who("speech")
        call = speech(text, name, voice, format, speed, options)
        return (self._transport.save(call, Path(path)))[0]

    def transcribe(
        self,
        recording: str | Path | bytes,
        model: str | None = None,
        *,
        language: str | None = None,
        prompt: str | None = None,
        times: Times | None = None,
        translate: bool = False,
        filename: str | None = None,
    ) -> Transcript:
        """What is said in a file or in bytes, by ``model`` or the first that listens.

        ``language`` as ISO 639-1; ``prompt``: names and words as they are spelled; ``times`` of each ``segment`` or
        ``word``; with ``translate`` in English. ``filename`` is for bytes.
        """
        name = model or self._who("transcription")
        source = Path(recording) if isinstance(recording, str) else recording
        return self._transport.send(
            transcription(source, name, language, prompt, times, translate=translate, filename=filename)
        )

    def subtitles(
        self,
        recording: str | Path | bytes,
        model: str | None = None,
        *,
        format: str = "srt",
        language: str | None = None,
        prompt: str | None = None,
        translate: bool = False,
        filename: str | None = None,
    ) -> str:
        """What is said, as the text of a file of subtitles: ``srt`` or ``vtt``. See `transcribe`."""
        name = model or self._who("transcription")
        source = Path(recording) if isinstance(recording, str) else recording
        return self._transport.send(
            subtitles(source, name, format, language, prompt, translate=translate, filename=filename)
        )

    def _who(self, capability: str) -> str:
        models = self._transport.send(models_list())
        return who(models, capability)
