"""Converts an engine's responses in OpenAI's format into Portico's own values, for `Deployment.call`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import orjson

from portico.wire import Delta, ToolCalled, Usage
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.relay import Relay
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
from portico_server.models.embedding_wire import shorten, vector_of


class RelayingModel(Servable, Relays, Protocol):
    """The methods of a model that this module uses."""


async def read_reply(model: RelayingModel, request: Chat, context: Context) -> ChatReply:
    """Read a streamed answer. Send its events to ``context`` as they arrive, and return the whole answer at the end.

    If the answer has several choices, return the first.
    """
    body = {
        **request.options,
        "model": model.card.name,
        "messages": [dict(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    relay_response = await model.relay(Relay("chat/completions", body), context)
    reader = _ReplyReader()
    try:
        try:
            async for chunk in relay_response.chunks:
                for event in reader.read(chunk):
                    await context.emit(event)
        finally:
            await close_chunks(relay_response.chunks)
        for called_tool in reader.calls():
            await context.emit(ToolCalled(called_tool.id, called_tool.name, called_tool.arguments))
    finally:
        await context.emit(relay_response.usage)  # reports the usage also if the answer was interrupted
    return ChatReply(
        "".join(reader.text),
        reader.finish_reason,
        tuple(reader.calls()),
        (),
        relay_response.usage,
        relay_response.answered_by or model.card.name,
        stop_reason=reader.stop_reason,
    )


async def read_vectors(model: RelayingModel, request: Embed, context: Context) -> Vectors:
    """Return one vector for each text or span, in the order of the request."""
    if request.spans is not None and "spans" not in model.card.capabilities:
        raise InvalidRequest(
            f"'{model.card.name}' does not return vectors of parts of a text. Models with the capability "
            "'spans' do.",
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
    expected_count = len(request.input)
    if request.spans is not None:
        body["spans"] = request.spans
        expected_count = sum(map(len, request.spans))
    relay_response = await model.relay(Relay("embeddings", body), context)
    try:
        data = await relay_response.read()
    finally:
        await close_chunks(relay_response.chunks)
    try:
        rows = sorted(orjson.loads(data)["data"], key=lambda row: row["index"])
        vectors = tuple(shorten(vector_of(row["embedding"]), request.dimensions) for row in rows)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise EngineFailed(f"'{model.card.name}' did not return valid embeddings.") from error
    if len(vectors) != expected_count or len({len(vector) for vector in vectors}) != 1:
        raise EngineFailed(
            f"'{model.card.name}' returned {len(vectors)} vectors for {expected_count} texts, or vectors of "
            "different lengths."
        )
    return Vectors(vectors, len(vectors[0]) // 4, relay_response.usage, model.card.name)


async def read_ranking(model: RelayingModel, request: Rerank, context: Context) -> Ranked:
    """Return the documents ranked by how well they answer the question, best first, with scores in [0, 1]."""
    if not request.documents:
        return Ranked((), Usage(), model.card.name)
    body: dict[str, Any] = {
        "model": model.card.name,
        "query": request.query,
        "documents": list(request.documents),
    }
    if request.top_n is not None:
        body["top_n"] = request.top_n
    relay_response = await model.relay(Relay("rerank", body), context)
    try:
        data = await relay_response.read()
    finally:
        await close_chunks(relay_response.chunks)
    try:
        scored_indexes = [
            (int(row["index"]), float(row["relevance_score"])) for row in orjson.loads(data)["results"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise EngineFailed(f"'{model.card.name}' did not return a valid ranking.") from error
    if any(not 0 <= index < len(request.documents) for index, _ in scored_indexes):
        raise EngineFailed(f"'{model.card.name}' ranked a document that was not in the request.")
    scored_indexes.sort(key=lambda item: -item[1])
    return Ranked(tuple(scored_indexes[: request.top_n]), relay_response.usage, model.card.name)


async def read_moderation(model: RelayingModel, request: Moderate, context: Context) -> Moderated:
    """Return the result of a moderation model for texts, unchanged."""
    body = {"model": model.card.name, "input": request.input}
    data, _, usage = await whole_answer(model, Relay("moderations", body), context)
    try:
        results = tuple(orjson.loads(data)["results"])
        complete = all({"flagged", "categories", "category_scores"} <= result.keys() for result in results)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(f"'{model.card.name}' did not return a valid moderation result.") from error
    if not results or not complete:
        raise EngineFailed(f"'{model.card.name}' did not return a valid moderation result.")
    return Moderated(results, usage, model.card.name)


async def close_chunks(chunks: AsyncIterator[bytes]) -> None:
    """Close an iterator if it can be closed."""
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()


class _ReplyReader:
    """Reads the frames of a streamed chat answer. Only the first choice is read."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.finish_reason = "stop"
        self.stop_reason = ""
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
        self.stop_reason = str(choice.get("stop_reason") or self.stop_reason)
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


async def whole_answer(model: RelayingModel, request: Relay, context: Context) -> tuple[bytes, str, Usage]:
    """Return the bytes of a complete answer, its media type, and the usage of the call."""
    relay_response = await model.relay(request, context)
    try:
        data = await relay_response.read()
    finally:
        await close_chunks(relay_response.chunks)
    return data, relay_response.media_type, relay_response.usage
