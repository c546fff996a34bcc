"""Reads an engine's OpenAI bytes back into our own values: the inside of `Deployment.call`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from portico.wire import Delta, ToolCalled, Usage
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.media import (
    Draw,
    GeneratedImage,
    GeneratedImages,
    Speak,
    Speech,
    Transcribe,
    Transcription,
    TranscriptSegment,
    measure_image,
)
from portico_server.core.relay import Relay, event_data
from portico_server.core.request import (
    CalledTool,
    Chat,
    ChatReply,
    Embed,
    Moderate,
    Moderated,
    Ranked,
    Rerank,
    Vectors,
)
from portico_server.core.servable import Relays, Servable
from portico_server.models.openai_wire import shorten, vector_of


class RelayingModel(Servable, Relays, Protocol):
    """A model as this module sees it."""


async def read_reply(model: RelayingModel, request: Chat, context: Context) -> ChatReply:
    """Stream the answer: events to ``context`` as it comes, the whole at the end.

    Of several choices, the first.
    """
    body = {
        **request.options,
        "model": model.card.name,
        "messages": [dict(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    relayed = await model.relay(Relay("chat/completions", body), context)
    reader = _ReplyReader()
    try:
        try:
            async for chunk in relayed.chunks:
                for event in reader.read(chunk):
                    await context.emit(event)
        finally:
            await close_chunks(relayed.chunks)
        for called in reader.calls():
            await context.emit(ToolCalled(called.id, called.name, called.arguments))
    finally:
        await context.emit(relayed.usage)  # also of an answer that was left
    return ChatReply(
        "".join(reader.text),
        reader.finish_reason,
        tuple(reader.calls()),
        (),
        relayed.usage,
        relayed.answered_by or model.card.name,
    )


async def read_vectors(model: RelayingModel, request: Embed, context: Context) -> Vectors:
    """One vector per text or span, in order."""
    if request.spans is not None and "spans" not in model.card.capabilities:
        raise InvalidRequest(
            f"'{model.card.name}' returns no vectors of parts of a text. Models with the capability 'spans' do.",
            code="spans_unsupported",
            param="spans",
        )
    if not request.input:
        return Vectors((), request.dimensions or 0, Usage(), model.card.name)
    body: dict[str, Any] = {
        "model": model.card.name,
        "input": list(request.input),
        "encoding_format": "base64",
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    wanted = len(request.input)
    if request.spans is not None:
        body["spans"] = request.spans
        wanted = sum(map(len, request.spans))
    relayed = await model.relay(Relay("embeddings", body), context)
    try:
        data = b"".join([chunk async for chunk in relayed.chunks])
    finally:
        await close_chunks(relayed.chunks)
    try:
        rows = sorted(orjson.loads(data)["data"], key=lambda row: row["index"])
        found = tuple(shorten(vector_of(row["embedding"]), request.dimensions) for row in rows)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise EngineFailed(f"'{model.card.name}' answered something that is not embeddings.") from error
    if len(found) != wanted or len({len(vector) for vector in found}) != 1:
        raise EngineFailed(
            f"'{model.card.name}' answered {len(found)} vectors for {wanted} texts, or of several lengths."
        )
    return Vectors(found, len(found[0]) // 4, relayed.usage, model.card.name)


async def read_ranking(model: RelayingModel, request: Rerank, context: Context) -> Ranked:
    """The documents in the order in which they answer the question, best first; scores in [0, 1]."""
    if not request.documents:
        return Ranked((), Usage(), model.card.name)
    body: dict[str, Any] = {
        "model": model.card.name,
        "query": request.query,
        "documents": list(request.documents),
    }
    if request.top_n is not None:
        body["top_n"] = request.top_n
    relayed = await model.relay(Relay("rerank", body), context)
    try:
        data = b"".join([chunk async for chunk in relayed.chunks])
    finally:
        await close_chunks(relayed.chunks)
    try:
        found = [(int(row["index"]), float(row["relevance_score"])) for row in orjson.loads(data)["results"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise EngineFailed(f"'{model.card.name}' answered something that is not a ranking.") from error
    if any(not 0 <= index < len(request.documents) for index, _ in found):
        raise EngineFailed(f"'{model.card.name}' ranked a document that it was not given.")
    found.sort(key=lambda item: -item[1])
    return Ranked(tuple(found[: request.top_n]), relayed.usage, model.card.name)


async def read_moderation(model: RelayingModel, request: Moderate, context: Context) -> Moderated:
    """What a model made for it says of texts, as it says it."""
    body = {"model": model.card.name, "input": request.input}
    data, _, usage = await _whole(model, Relay("moderations", body), context)
    try:
        results = tuple(orjson.loads(data)["results"])
        complete = all({"flagged", "categories", "category_scores"} <= result.keys() for result in results)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(f"'{model.card.name}' answered something that is not a moderation.") from error
    if not results or not complete:
        raise EngineFailed(f"'{model.card.name}' answered something that is not a moderation.")
    return Moderated(results, usage, model.card.name)


async def single_chunk(data: bytes) -> AsyncIterator[bytes]:
    """An iterator over one value."""
    yield data


async def close_chunks(chunks: AsyncIterator[bytes]) -> None:
    """Close an iterator that can be closed."""
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()


class _ReplyReader:
    """Frames of a chat stream, the first choice of them."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.finish_reason = "stop"
        self._calls: dict[int, dict[str, str]] = {}

    def read(self, chunk: bytes) -> list[Delta]:
        deltas = []
        for line in chunk.split(b"\n"):
            if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                continue
            document = orjson.loads(line[5:])
            for choice in document.get("choices") or ():
                if choice.get("index", 0) == 0:
                    deltas += self._choice(choice)
        return deltas

    def _choice(self, choice: dict[str, Any]) -> list[Delta]:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        for part in delta.get("tool_calls") or ():
            call = self._calls.setdefault(part.get("index", 0), {"id": "", "name": "", "arguments": ""})
            function = part.get("function") or {}
            call["id"] = part.get("id") or call["id"]
            call["name"] = function.get("name") or call["name"]
            call["arguments"] += function.get("arguments") or ""
        content = delta.get("content")
        if not content:
            return []
        self.text.append(content)
        return [Delta(content)]

    def calls(self) -> list[CalledTool]:
        return [CalledTool(**call) for _, call in sorted(self._calls.items())]


# Reads sounds, transcripts and pictures that a model answered back into our own values: see `answer`.


async def read_speech(model: RelayingModel, request: Speak, context: Context) -> Speech:
    """A text said aloud."""
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
    data, media_type, usage = await _whole(model, Relay("audio/speech", body), context)
    if not data:
        raise EngineFailed(f"'{model.card.name}' answered no sound.")
    return Speech(data, media_type, usage, model.card.name)


async def read_transcript(model: RelayingModel, request: Transcribe, context: Context) -> Transcription:
    """Speech written down."""
    body: dict[str, Any] = {"model": model.card.name, "response_format": "json"}
    if request.timestamps:
        body |= {"response_format": "verbose_json", "timestamp_granularities": [request.timestamps]}
    given = {
        "language": request.language,
        "prompt": request.prompt,
        "temperature": request.temperature,
    }
    body |= {name: value for name, value in given.items() if value}
    relay = Relay(
        "audio/translations" if request.translate else "audio/transcriptions", body, files=(request.file,)
    )
    if request.stream:
        try:
            return await _stream_transcript(model, replace(relay, body={**body, "stream": True}), context)
        except PorticoError as error:
            # Models that answer in one piece alone refuse to be asked for several, before they listen.
            if error.status not in (400, 422) or "stream" not in f"{error.param} {error.message}":
                raise
    data, _, usage = await _whole(model, relay, context)
    return _transcript_of(model, data, usage)


async def _stream_transcript(model: RelayingModel, relay: Relay, context: Context) -> Transcription:
    """Speech written down, in `Delta` events while it is heard."""
    relayed = await model.relay(relay, context)
    whole: str | None = None
    try:
        if not relayed.media_type.startswith("text/event-stream"):  # it does not stream, and does not say so
            return _transcript_of(model, b"".join([chunk async for chunk in relayed.chunks]), relayed.usage)
        async for chunk in relayed.chunks:
            for data in map(event_data, chunk.split(b"\n\n")):
                event = orjson.loads(data) if data.startswith(b"{") else {}
                if event.get("type") == "transcript.text.delta" and event["delta"]:
                    await context.emit(Delta(event["delta"]))
                elif event.get("type") == "transcript.text.done":
                    whole = event["text"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _no_transcript(model) from error
    finally:
        await close_chunks(relayed.chunks)
    if whole is None:
        raise _no_transcript(model)
    return Transcription(whole, usage=relayed.usage, model=model.card.name)


def _transcript_of(model: RelayingModel, data: bytes, usage: Usage) -> Transcription:
    try:
        document = orjson.loads(data)
        return Transcription(
            document["text"],
            document.get("language") or "",
            document.get("duration"),
            tuple(
                TranscriptSegment(item["start"], item["end"], item["text"])
                for item in document.get("segments") or ()
            ),
            tuple(
                TranscriptSegment(item["start"], item["end"], item["word"])
                for item in document.get("words") or ()
            ),
            usage,
            model.card.name,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _no_transcript(model) from error


def _no_transcript(model: RelayingModel) -> EngineFailed:
    return EngineFailed(f"'{model.card.name}' answered something that is not a transcript.")


async def read_images(model: RelayingModel, request: Draw, context: Context) -> GeneratedImages:
    """Pictures made of words, or of other pictures."""
    body: dict[str, Any] = {**request.options, "model": model.card.name, "prompt": request.prompt}
    body["response_format"] = "b64_json"
    if request.n > 1:
        body["n"] = request.n
    if request.size != "auto":
        body["size"] = request.size
    files = request.images if request.mask is None else (*request.images, request.mask)
    relay = Relay("images/edits" if files else "images/generations", body, files=files)
    try:
        data, _, usage = await _whole(model, relay, context)
    except PorticoError as error:
        # Models that know one way to answer alone refuse to be asked for it.
        if error.status not in (400, 422) or "response_format" not in f"{error.param} {error.message}":
            raise
        del body["response_format"]
        data, _, usage = await _whole(model, relay, context)
    try:
        found = tuple(_picture(item) for item in orjson.loads(data)["data"])
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
        raise EngineFailed(f"'{model.card.name}' answered something that is not pictures.") from error
    if not found:
        raise EngineFailed(f"'{model.card.name}' answered no picture.")
    return GeneratedImages(found, usage, model.card.name)


def _picture(item: Mapping[str, Any]) -> GeneratedImage:
    revised = item.get("revised_prompt") or ""
    if not item.get("b64_json"):
        return GeneratedImage(b"", "", revised, item["url"])
    data = base64.b64decode(item["b64_json"])
    known = measure_image(data)
    return GeneratedImage(data, known.media_type if known else "application/octet-stream", revised)


async def _whole(model: RelayingModel, request: Relay, context: Context) -> tuple[bytes, str, Usage]:
    relayed = await model.relay(request, context)
    try:
        data = b"".join([chunk async for chunk in relayed.chunks])
    finally:
        await close_chunks(relayed.chunks)
    return data, relayed.media_type, relayed.usage
