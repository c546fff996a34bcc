"""``/v1/audio``: speech synthesis, transcription and translation. Audio is passed on as it arrives.

Source: https://platform.openai.com/docs/api-reference/audio.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson

from portico.wire import Usage
from portico_server.api.exchange import Exchange, Message, Presence, close_source, ending_in_errors
from portico_server.api.openai import bodies
from portico_server.api.openai.relay import caller_of, content_type, fill_model, relaying
from portico_server.api.services import ApiServices
from portico_server.core import fields
from portico_server.core.errors import EngineFailed
from portico_server.core.fields import BodyField, RequestBody
from portico_server.core.invalid import not_one_of, wrong, wrong_type
from portico_server.core.relay import Operation, Relay, RelayResponse
from portico_server.settings import MB_BYTES

MAX_INPUT_CHARS: Final = 32_768
"""Maximum length of a text to synthesize, in characters. OpenAI's own models accept 4,096 and report longer texts."""

SOUNDS: Final = ("mp3", "opus", "aac", "flac", "wav", "pcm")
TEXTS: Final = ("json", "text", "srt", "verbose_json", "vtt")


async def speak(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/audio/speech``."""
    body = await exchange.json()
    await fill_model(services, body, "audio/speech", caller_of(exchange))
    SPEECH.check(body)
    await _pass_on(exchange, services, Relay("audio/speech", body))


async def transcribe(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/audio/transcriptions``."""
    await _transcribe(exchange, services, "audio/transcriptions", TRANSCRIPTION)


async def translate(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/audio/translations``: translate speech into English text."""
    await _transcribe(exchange, services, "audio/translations", TRANSLATION)


async def _transcribe(
    exchange: Exchange, services: ApiServices, operation: Operation, request_body: RequestBody
) -> None:
    # Imported with the first form, so that the daemon starts without the form parser.
    from portico_server.api.openai import form

    multipart_form = await form.read(
        exchange, files=("file",), limit=services.settings.max_media_mb * MB_BYTES
    )
    body = multipart_form.to_json(request_body)
    file = form.one_file(multipart_form, "file")
    await fill_model(services, body, operation, caller_of(exchange))
    request_body.check(body)
    await _pass_on(exchange, services, Relay(operation, body, files=(file,)))


async def _pass_on(exchange: Exchange, services: ApiServices, request: Relay) -> None:
    """Relay a request: pass events and bytes on as they arrive, documents when they are complete. Stop when the client
    disconnects.
    """
    name, caller = request.body["model"], caller_of(exchange)
    servable = await relaying(services, request, caller)
    if request.stream:

        async def begin(_head: Message) -> AsyncIterator[bytes]:
            relay_response = await services.runner.relay(servable, name, request, caller)
            if relay_response.media_type.startswith("text/event-stream"):
                return relay_response.chunks
            return ending_in_errors(_events(relay_response, request.operation), exchange)

        await exchange.stream(begin, tells_errors=True)
        return
    with Presence(exchange):
        relay_response = await services.runner.relay(servable, name, request, caller)
        is_whole = relay_response.media_type.startswith(("application/json", "text/"))
        data = await relay_response.read() if is_whole else b""
    if is_whole:
        await exchange.answer(200, data, content_type(relay_response.media_type))
    else:
        await exchange.pass_on(relay_response.chunks, content_type(relay_response.media_type))


async def _events(relay_response: RelayResponse, operation: Operation) -> AsyncIterator[bytes]:
    """Yield the events that a client requested, from a model that answers with bytes or with a whole document."""
    try:
        if operation == "audio/speech":
            async for data in relay_response.chunks:
                yield _event("speech.audio.delta", audio=base64.b64encode(data).decode())
            yield _event("speech.audio.done", usage=_token_counts(relay_response.usage))
            return
        data = await relay_response.read()
        is_document = relay_response.media_type.startswith("application/json")
        text = orjson.loads(data)["text"] if is_document else data.decode(errors="replace")
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise EngineFailed("The model returned no transcript.") from error
    finally:
        await close_source(relay_response.chunks)
    usage = {"type": "tokens", **_token_counts(relay_response.usage)}
    yield _event("transcript.text.delta", delta=text)
    yield _event("transcript.text.done", text=text, usage=usage)


def _event(kind: str, **fields: Any) -> bytes:
    return b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def _token_counts(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _voice(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        if not isinstance(value.get("id"), str):
            wrong_type(f"{path}.id", "a string", value.get("id"))
    elif not isinstance(value, str):
        wrong_type(path, "a string, or an object with an 'id'", value)


SPEECH: Final = RequestBody(
    {"model": bodies.MODEL, "input": fields.prose(MAX_INPUT_CHARS, "are allowed in one request")},
    {
        "voice": BodyField(_voice, {"oneOf": [{"type": "string"}, {"type": "object", "required": ["id"]}]}),
        "response_format": fields.choice(*SOUNDS).annotate(default="mp3"),
        "speed": fields.number(0.25, 4).annotate(default=1),
        "instructions": fields.text(),
        "stream_format": fields.choice("audio", "sse").annotate(default="audio"),
        "seed": fields.integer(),
    },
    example={"model": "voice", "input": "The door is open.", "voice": "default"},
)


def _list_of(*allowed_values: str) -> BodyField:
    def check(value: Any, path: str) -> None:
        for item in value:
            if item not in allowed_values:
                not_one_of(path, item, allowed_values)

    return BodyField(check, {"type": "array", "items": {"enum": [*allowed_values]}})


def _format(*allowed_values: str) -> BodyField:
    """Return a field that accepts one of ``allowed_values``. In a form, the value may also be empty."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            wrong_type(path, "a string", value)
        if value and value not in allowed_values:
            not_one_of(path, value, allowed_values)

    return BodyField(check, {"enum": [*allowed_values], "default": "json"})


def _suits_the_format(body: Mapping[str, Any]) -> None:
    response_format = body.get("response_format") or "json"
    if body.get("stream") and response_format not in ("json", "text", "diarized_json"):
        wrong("stream", f"requires the response_format json or text, not {response_format}")
    if body.get("timestamp_granularities") and response_format != "verbose_json":
        wrong("timestamp_granularities", "requires the response_format verbose_json")


def _recording(*formats: str) -> RequestBody:
    return RequestBody(
        {"model": bodies.MODEL},
        {
            "language": fields.text().annotate(
                description="ISO 639-1 code of the language; detected by default"
            ),
            "prompt": fields.text(),
            "response_format": _format(*formats),
            "temperature": fields.number(0, 1),
            "stream": bodies.STREAM,
            "timestamp_granularities": _list_of("word", "segment"),
            "include": _list_of("logprobs"),
            "keywords": _TEXTS.annotate(
                description="Words in the recording; a hint for models that use them"
            ),
            "languages": _TEXTS.annotate(
                description="ISO 639-1 codes of possible languages; a hint for models that use them"
            ),
            "known_speaker_names": _TEXTS,
            "known_speaker_references": _TEXTS,
        },
        rule=_suits_the_format,
        files={"file": {"type": "string", "format": "binary"}},
    )


_TEXTS: Final = fields.any_value(type="array", items={"type": "string"})

TRANSCRIPTION: Final = _recording(*TEXTS, "diarized_json")
TRANSLATION: Final = _recording(*TEXTS)
