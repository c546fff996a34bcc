# Generated from portico._async by scripts/sdk: change it there.
"""Audio: text to speech, and speech to text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from portico._keywords import with_options
from portico._request import Upload, without_none
from portico._sync.group import Group
from portico._sync.models import Models
from portico.audio import SPEECH_OPTIONS, AudioFormat, SpeechOptions, Times, Transcript, subtitles_text
from portico.errors import InvalidRequest
from portico.model_options import flat_options

_SOURCES = {
    "speech": ("speaks", "portico models add voice --source hf://facebook/mms-tts-eng"),
    "transcription": ("transcribes", "portico models add ear --source hf://openai/whisper-small"),
}


class Audio(Group):
    """Text to speech, and speech to text."""

    @with_options(SPEECH_OPTIONS)
    def speak(
        self,
        text: str,
        model: str | None = None,
        *,
        voice: str | None = None,
        format: AudioFormat = "wav",
        speed: float = 1.0,
        **options: Unpack[SpeechOptions],
    ) -> bytes:
        """Return ``text`` as audio, spoken by ``model`` or the first model that can speak.

        Without ``voice``, the model's default voice is used. ``options`` are OpenAI's ``instructions``, and options of
        local models: ``seed``, and for music ``seconds``. Options that only some models support go into
        ``extra_body``.
        """
        body = self._speech(text, model, voice, format, speed, options)
        return self._transport.request("POST", "/v1/audio/speech", bytes, json=body, slow=True)

    @with_options(SPEECH_OPTIONS)
    def speak_to(
        self,
        path: str | Path,
        text: str,
        model: str | None = None,
        *,
        voice: str | None = None,
        format: AudioFormat = "wav",
        speed: float = 1.0,
        **options: Unpack[SpeechOptions],
    ) -> int:
        """Write the audio of `speak` to a file, piece by piece, and return the file's size. An incomplete file is
        removed.
        """
        body = self._speech(text, model, voice, format, speed, options)
        saved_file = self._transport.save("POST", "/v1/audio/speech", Path(path), json=body, slow=True)
        return saved_file[0]

    def _speech(
        self,
        text: str,
        model: str | None,
        voice: str | None,
        format: AudioFormat,
        speed: float,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        name = model or self._default_model("speech")
        body = {
            "model": name,
            "input": text,
            "response_format": format,
            "speed": speed,
            **flat_options(options),
        }
        return body if voice is None else {**body, "voice": voice}

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
        """Return the transcript of a file or of bytes, by ``model`` or the first model that can transcribe.

        ``language`` is an ISO 639-1 code. ``prompt`` contains names and words in their correct spelling. ``times``:
        return the times of each ``segment`` or ``word``. ``translate``: return the transcript in English. ``filename``
        is the name for bytes.
        """
        form = "json" if times is None else "verbose_json"
        upload = self._recording(recording, model, form, language, prompt, filename)
        if times is not None:
            upload = replace(upload, fields={**upload.fields, "timestamp_granularities[]": times})
        return self._transport.request("POST", _path(translate), Transcript, upload=upload, slow=True)

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
        """Return a transcript as the text of a subtitle file: ``srt`` or ``vtt``. See `transcribe`."""
        upload = self._recording(recording, model, format, language, prompt, filename)
        data = self._transport.request("POST", _path(translate), bytes, upload=upload, slow=True)
        return subtitles_text(data)

    def _recording(
        self,
        recording: str | Path | bytes,
        model: str | None,
        form: str,
        language: str | None,
        prompt: str | None,
        filename: str | None,
    ) -> Upload:
        name = model or self._default_model("transcription")
        content = Path(recording) if isinstance(recording, str) else recording
        filename = filename or (content.name if isinstance(content, Path) else "recording.wav")
        fields = without_none(model=name, response_format=form, language=language, prompt=prompt)
        return Upload(filename, content, fields)

    def _default_model(self, capability: str) -> str:
        """Return the first model with a capability. Raises `InvalidRequest` that explains how to add such a model."""
        for model in Models(self._transport).list():
            if capability in model.capabilities:
                return model.id
        does, example = _SOURCES[capability]
        raise InvalidRequest(
            f"No model of this daemon {does}. Add one, for example: {example}", param="model"
        )


def _path(translate: bool) -> str:
    return "/v1/audio/translations" if translate else "/v1/audio/transcriptions"
