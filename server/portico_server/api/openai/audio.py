"""``/v1/audio``: texts said aloud, speech written down and translated. Sounds are passed on as they come.

Source: https://platform.openai.com/docs/api-reference/audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.exchange import Exchange
from portico_server.api.openai import validate
from portico_server.api.openai.relay import pass_on
from portico_server.api.openai.validate import Check
from portico_server.api.parts import ApiServices
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.relay import Operation, Relay
from portico_server.settings import MB_BYTES

MAX_INPUT_CHARS: Final = 32_768
"""Characters of a text to be said. OpenAI's own models take 4,096 of them and say so."""

SOUNDS: Final = ("mp3", "opus", "aac", "flac", "wav", "pcm")
TEXTS: Final = ("json", "text", "srt", "verbose_json", "vtt")

_FORM: Final[Mapping[str, Any]] = {
    "temperature": "number",
    "stream": "boolean",
    "timestamp_granularities": "list",
    "include": "list",
    "known_speaker_names": "list",
    "known_speaker_references": "list",
}


async def speak(exchange: Exchange, parts: ApiServices) -> None:
    """``POST /v1/audio/speech``."""
    body = await exchange.json()
    validate.model(body)
    text = body.get("input")
    if text is None:
        missing("input")
    if not isinstance(text, str):
        wrong_type("input", "a string", text)
    if not text.strip():
        wrong("input", "must not be empty")
    if len(text) > MAX_INPUT_CHARS:
        wrong(
            "input",
            f"has {len(text):,} characters; at most {MAX_INPUT_CHARS:,} are taken in one request",
            code="string_above_max_length",
        )
    validate.known_fields(body, _SPEECH)
    await pass_on(exchange, parts, Relay("audio/speech", body))


async def transcribe(exchange: Exchange, parts: ApiServices) -> None:
    """``POST /v1/audio/transcriptions``."""
    await _written(exchange, parts, "audio/transcriptions", (*TEXTS, "diarized_json"))


async def translate(exchange: Exchange, parts: ApiServices) -> None:
    """``POST /v1/audio/translations``: into English."""
    await _written(exchange, parts, "audio/translations", TEXTS)


async def _written(
    exchange: Exchange, parts: ApiServices, operation: Operation, formats: tuple[str, ...]
) -> None:
    # Loaded with the first form: a start of the daemon does without its parser.
    from portico_server.api.openai import form

    found = await form.read(exchange, files=("file",), limit=parts.settings.max_media_mb * MB_BYTES)
    body = found.typed(_FORM)
    file = form.one_file(found, "file")
    validate.model(body)
    validate.known_fields(body, _TRANSCRIPTION)
    wanted = body.get("response_format") or "json"
    if wanted not in formats:
        not_one_of("response_format", wanted, formats)
    if body.get("stream") and wanted not in ("json", "text", "diarized_json"):
        wrong("stream", f"goes with the response_format json or text, not {wanted}")
    if body.get("timestamp_granularities") and wanted != "verbose_json":
        wrong("timestamp_granularities", "needs the response_format verbose_json")
    await pass_on(exchange, parts, Relay(operation, body, files=(file,)))


def _voice(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        if not isinstance(value.get("id"), str):
            wrong_type(f"{path}.id", "a string", value.get("id"))
    elif not isinstance(value, str):
        wrong_type(path, "a string, or an object with an 'id'", value)


def _each(*words: str) -> Check:
    def check(value: Any, path: str) -> None:
        for item in value:
            if item not in words:
                not_one_of(path, item, words)

    return check


_SPEECH: Mapping[str, Check] = {
    "voice": _voice,
    "response_format": validate.one_of(*SOUNDS),
    "speed": validate.number(0.25, 4),
    "instructions": validate.string,
    "stream_format": validate.one_of("audio", "sse"),
    "seed": validate.integer(),
}

_TRANSCRIPTION: Mapping[str, Check] = {
    "language": validate.string,
    "prompt": validate.string,
    "response_format": validate.string,
    "temperature": validate.number(0, 1),
    "stream": validate.boolean,
    "timestamp_granularities": _each("word", "segment"),
    "include": _each("logprobs"),
}
