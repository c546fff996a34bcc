"""Parses audio, transcripts and images from a model's response into Portico's own types."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from portico.audio import Stretch
from portico.wire import Delta, Usage
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.media import (
    Draw,
    GeneratedImage,
    GeneratedImages,
    Speak,
    Speech,
    Transcribe,
    Transcription,
    measure_image,
)
from portico_server.core.relay import Relay, event_data
from portico_server.models.answers import RelayingModel, close_chunks, whole_answer


async def read_speech(model: RelayingModel, request: Speak, context: Context) -> Speech:
    """Synthesize speech for a text."""
    body = {
        **request.options,
        "model": model.card.name,
        "input": request.input,
        "voice": request.voice,
        "response_format": request.response_format,
        "instructions": request.instructions,
    }
    body = {name: value for name, value in body.items() if value != ""}
    if request.speed != 1.0:
        body["speed"] = request.speed
    data, media_type, usage = await whole_answer(model, Relay("audio/speech", body), context)
    if not data:
        raise EngineFailed(f"'{model.card.name}' returned no audio.")
    return Speech(data, media_type, usage, model.card.name)


async def read_transcript(model: RelayingModel, request: Transcribe, context: Context) -> Transcription:
    """Transcribe speech."""
    body: dict[str, Any] = {"model": model.card.name, "response_format": "json"}
    if request.timestamps:
        body |= {"response_format": "verbose_json", "timestamp_granularities": [request.timestamps]}
    fields = {
        "language": request.language,
        "prompt": request.prompt,
        "temperature": request.temperature,
    }
    body |= {name: value for name, value in fields.items() if value}
    relay = Relay(
        "audio/translations" if request.translate else "audio/transcriptions", body, files=(request.file,)
    )
    if request.stream:
        try:
            return await _stream_transcript(model, replace(relay, body={**body, "stream": True}), context)
        except PorticoError as error:
            # Models that cannot stream reject the field 'stream' before they transcribe.
            if error.status not in (400, 422) or "stream" not in f"{error.param} {error.message}":
                raise
    data, _, usage = await whole_answer(model, relay, context)
    return _transcript_of(model, data, usage)


async def _stream_transcript(model: RelayingModel, relay: Relay, context: Context) -> Transcription:
    """Transcribe speech, with `Delta` events as they arrive."""
    relay_response = await model.relay(relay, context)
    full_text: str | None = None
    try:
        if not relay_response.media_type.startswith(
            "text/event-stream"
        ):  # the model ignores 'stream' and returns a whole document
            return _transcript_of(model, await relay_response.read(), relay_response.usage)
        async for chunk in relay_response.chunks:
            for data in map(event_data, chunk.split(b"\n\n")):
                event = orjson.loads(data) if data.startswith(b"{") else {}
                if event.get("type") == "transcript.text.delta" and event["delta"]:
                    await context.emit(Delta(event["delta"]))
                elif event.get("type") == "transcript.text.done":
                    full_text = event["text"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _no_transcript(model) from error
    finally:
        await close_chunks(relay_response.chunks)
    if full_text is None:
        raise _no_transcript(model)
    return Transcription(full_text, usage=relay_response.usage, model=model.card.name)


def _transcript_of(model: RelayingModel, data: bytes, usage: Usage) -> Transcription:
    try:
        document = orjson.loads(data)
        return Transcription(
            document["text"],
            document.get("language") or "",
            document.get("duration"),
            tuple(
                Stretch(item["start"], item["end"], item["text"]) for item in document.get("segments") or ()
            ),
            tuple(Stretch(item["start"], item["end"], item["word"]) for item in document.get("words") or ()),
            usage,
            model.card.name,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _no_transcript(model) from error


def _no_transcript(model: RelayingModel) -> EngineFailed:
    return EngineFailed(f"'{model.card.name}' returned something other than a transcript.")


async def read_images(model: RelayingModel, request: Draw, context: Context) -> GeneratedImages:
    """Generate images from text, or from other images."""
    body: dict[str, Any] = {**request.options, "model": model.card.name, "prompt": request.prompt}
    body["response_format"] = "b64_json"
    if request.n > 1:
        body["n"] = request.n
    if request.size != "auto":
        body["size"] = request.size
    files = request.images if request.mask is None else (*request.images, request.mask)
    relay = Relay("images/edits" if files else "images/generations", body, files=files)
    try:
        data, _, usage = await whole_answer(model, relay, context)
    except PorticoError as error:
        # Models with a single response format reject the field 'response_format'.
        if error.status not in (400, 422) or "response_format" not in f"{error.param} {error.message}":
            raise
        del body["response_format"]
        data, _, usage = await whole_answer(model, relay, context)
    try:
        generated_images = tuple(_picture(item) for item in orjson.loads(data)["data"])
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
        raise EngineFailed(f"'{model.card.name}' returned something other than images.") from error
    if not generated_images:
        raise EngineFailed(f"'{model.card.name}' returned no image.")
    return GeneratedImages(generated_images, usage, model.card.name)


def _picture(item: Mapping[str, Any]) -> GeneratedImage:
    revised_prompt = item.get("revised_prompt") or ""
    if not item.get("b64_json"):
        return GeneratedImage(b"", "", revised_prompt, item["url"])
    data = base64.b64decode(item["b64_json"])
    image_header = measure_image(data)
    return GeneratedImage(
        data, image_header.media_type if image_header else "application/octet-stream", revised_prompt
    )
