"""Requests for sounds and for what is said in them, and how to read what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from portico._calls.call import Call, Upload, given
from portico.audio import Stretch, Transcript
from portico.errors import InvalidRequest, NotPortico
from portico.values import Model

AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
Times: TypeAlias = Literal["segment", "word"]

_SOURCES = {
    "speech": ("speaks", "portico models add voice --source hf://facebook/mms-tts-eng"),
    "transcription": ("transcribes", "portico models add ear --source hf://openai/whisper-small"),
}


def who(models: Sequence[Model], capability: str) -> str:
    """The first model that can. Raises `InvalidRequest` that says how to add one."""
    for model in models:
        if capability in model.capabilities:
            return model.id
    does, example = _SOURCES[capability]
    raise InvalidRequest(f"No model of this daemon {does}. Add one, such as: {example}", param="model")


def speech(
    text: str, model: str, voice: str | None, form: AudioFormat, speed: float, options: Mapping[str, Any]
) -> Call[bytes]:
    if "stream_format" in options:
        raise InvalidRequest("A sound comes whole here: leave 'stream_format' out.", param="stream_format")
    body = {"model": model, "input": text, "response_format": form, "speed": speed, **options}
    if voice is not None:
        body["voice"] = voice
    return Call("POST", "/v1/audio/speech", bytes, json=body, slow=True, raw=True)


def transcription(
    recording: Path | bytes,
    model: str,
    language: str | None,
    prompt: str | None,
    times: Times | None,
    *,
    translate: bool,
    filename: str | None,
) -> Call[Transcript]:
    form = "json" if times is None else "verbose_json"
    fields = _fields(model, language, prompt, form, times)
    return Call("POST", _path(translate), _transcript, upload=_upload(recording, filename, fields), slow=True)


def subtitles(
    recording: Path | bytes,
    model: str,
    form: str,
    language: str | None,
    prompt: str | None,
    *,
    translate: bool,
    filename: str | None,
) -> Call[str]:
    fields = _fields(model, language, prompt, form, None)
    upload = _upload(recording, filename, fields)
    return Call("POST", _path(translate), _text, upload=upload, slow=True, raw=True)


def _path(translate: bool) -> str:
    return "/v1/audio/translations" if translate else "/v1/audio/transcriptions"


def _fields(
    model: str, language: str | None, prompt: str | None, form: str, times: Times | None
) -> dict[str, str]:
    fields: dict[str, str] = given(model=model, response_format=form, language=language, prompt=prompt)
    if times is not None:
        fields["timestamp_granularities[]"] = times
    return fields


def _upload(recording: Path | bytes, filename: str | None, fields: Mapping[str, str]) -> Upload:
    name = filename or (recording.name if isinstance(recording, Path) else "recording.wav")
    return Upload(name, recording, fields)


def _transcript(value: Any) -> Transcript:
    try:
        return Transcript(
            value["text"],
            value.get("language") or "",
            None if value.get("duration") is None else float(value["duration"]),
            tuple(Stretch(one["start"], one["end"], one["text"]) for one in value.get("segments") or ()),
            tuple(Stretch(one["start"], one["end"], one["word"]) for one in value.get("words") or ()),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotPortico("The answer is not a transcript.") from error


def _text(data: bytes) -> str:
    """A text; some providers put it into JSON whatever they are asked for."""
    text = data.decode("utf-8", "replace")
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)["text"])
    except (ValueError, KeyError, TypeError):
        return text
