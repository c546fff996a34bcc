"""Speaks to llama.cpp's server so that the outside sees OpenAI's API without its quirks. Imports aiohttp.

Each choice is a streamed call of its own: a client that leaves a stream frees the engine's slot at once, one
that leaves any other call does not; and the engine's own ``n`` miscounts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.core.relay import AdapterScale, Relay, RelayResponse
from portico_server.engines.accounting import usage_from_json
from portico_server.engines.answer import once
from portico_server.engines.child import Child
from portico_server.engines.embeddings import (
    dimensions_of,
    document,
    encoding_of,
    shorten,
    texts_of,
    vector_of,
)
from portico_server.engines.llamacpp.adapters import same, scales
from portico_server.engines.llamacpp.calls import Call, Calls
from portico_server.engines.llamacpp.fold import ChoiceReader, Envelope
from portico_server.engines.llamacpp.prepare import Prepared, chat, completion
from portico_server.engines.protocol import Description
from portico_server.engines.refusal import error_from_json, error_of, frame
from portico_server.engines.transport import CONNECTION_ERRORS, Route, Transport, late, read_all, read_frames

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the running server says about itself. ``context_length`` is for one slot; ``sees``: it takes images."""

    context_length: int | None
    template_has_tools: bool
    fingerprint: str | None
    sees: bool = False

    @classmethod
    def read(cls, props: Mapping[str, Any]) -> Facts:
        """From its ``/props``."""
        settings = props.get("default_generation_settings") or {}
        caps = props.get("chat_template_caps") or {}
        return cls(
            settings.get("n_ctx"),
            bool(caps.get("supports_tools")),
            props.get("build_info"),
            bool((props.get("modalities") or {}).get("vision")),
        )


class LlamaSpeaker:
    """A `Speaker` for one llama.cpp server."""

    def __init__(
        self,
        transport: Transport,
        child: Child,
        name: str,
        facts: Facts,
        description: Description,
        adapters: Sequence[AdapterScale] = (),
    ) -> None:
        self._transport = transport
        self._child = child
        self._name = name
        self._facts = facts
        self._dimensions = description.dimensions
        self._adapters = tuple(adapters)
        endpoint = child.endpoint(name)
        self._routes = {
            operation: Route(endpoint, operation)
            for operation in ("chat/completions", "completions", "embeddings", "rerank")
        }

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.engines.protocol.Speaker`."""
        if request.operation == "embeddings":
            return await self._embed(request.body, deadline)
        if request.operation == "rerank":
            return await self._rerank(request.body, deadline)
        is_chat = request.operation == "chat/completions"
        prepared = self._prepare(request)
        lora = self._lora(request)
        calls = Calls(
            [
                Call(
                    self,
                    request.operation,
                    {**body, **lora},
                    ChoiceReader(index, prepared, chat=is_chat),
                    deadline,
                )
                for index, body in enumerate(prepared.bodies)
            ]
        )
        name = request.adapter.name if request.adapter is not None else self._name
        envelope = Envelope(is_chat, name, self._facts.fingerprint)
        try:
            await calls.open()
            if not request.stream:
                pieces = [piece async for piece in calls.pieces()]
                usage = calls.usage(prepared)
                data = envelope.document(pieces, len(prepared.bodies), usage)
                return RelayResponse("application/json", once(data), usage)
        except BaseException:
            await calls.close()
            raise
        options = request.body.get("stream_options") or {}
        relayed = RelayResponse("text/event-stream", once(b""))
        relayed.chunks = self._frames(
            calls, prepared, envelope, relayed, wants_usage=options.get("include_usage") is True
        )
        return relayed

    def fits(self, adapter: AdapterScale) -> bool:
        """See `portico_server.engines.protocol.Attaches`. The scale is said with each call."""
        return any(same(one, adapter) for one in self._adapters)

    async def attach(self, adapter: AdapterScale) -> None:
        """What fits is there."""

    async def detach(self, name: str) -> bool:
        """llama.cpp loads adapters when it starts, and at no other time."""
        return all(one.name != name for one in self._adapters)

    def _prepare(self, request: Relay) -> Prepared:
        """What the server is asked for a chat or a completion."""
        if request.operation == "completions":
            prepared = completion(request.body)
        else:
            prepared = chat(
                request.body, template_has_tools=self._facts.template_has_tools, sees=self._facts.sees
            )
        for body in prepared.bodies:
            if body.get("stop"):
                body["verbose"] = True  # the last chunk then tells which stop it was
        return prepared

    def _lora(self, request: Relay) -> dict[str, Any]:
        if "lora" in request.body:
            raise InvalidRequest(
                "Adapters are models here: put the adapter's name into 'model' and leave 'lora' out.",
                param="lora",
            )
        try:
            return scales(self._adapters, request.adapter)
        except ValueError as error:
            raise Unavailable(
                f"The adapter '{error}' could not be loaded with '{self._name}'. The daemon's log says why.",
                code="adapter_not_loaded",
            ) from error

    async def _frames(
        self,
        calls: Calls,
        prepared: Prepared,
        envelope: Envelope,
        relayed: RelayResponse,
        *,
        wants_usage: bool,
    ) -> AsyncIterator[bytes]:
        try:
            if envelope.chat:
                for index in range(len(prepared.bodies)):
                    yield envelope.opening(index)
            async for piece in calls.pieces():
                yield envelope.chunk(piece)
            relayed.usage = calls.usage(prepared)
            if wants_usage:
                yield envelope.usage(relayed.usage)
            yield DONE
        except PorticoError as error:
            relayed.usage = calls.usage(prepared)
            yield frame(error)
            raise
        finally:
            await asyncio.shield(calls.close())

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Begin a streamed call: its frames. Raises `PorticoError`."""
        try:
            response = await self._transport.post(
                self._routes[operation], orjson.dumps(body), deadline=deadline, reuse=False
            )
            if response.status != 200:
                raise self._refusal(response.status, await read_all(response, deadline=deadline))
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        return read_frames(response, deadline=deadline)

    async def explain(self, error: BaseException) -> PorticoError:
        """What a broken connection means."""
        return late(self._name) if type(error) is TimeoutError else await self._child.explain(error)

    def failure(self, document: Mapping[str, Any]) -> PorticoError:
        """An error that came in the middle of a stream."""
        inner = document.get("error")
        code = inner.get("code") if isinstance(inner, Mapping) else None
        return error_from_json(code if isinstance(code, int) else 500, document, self._name)

    def _refusal(self, status: int, data: bytes) -> PorticoError:
        try:
            error: Any = orjson.loads(data)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            error = {}
        if isinstance(error, Mapping) and error.get("type") == "exceed_context_size_error":
            return InvalidRequest(
                f"The prompt has {error.get('n_prompt_tokens')} tokens, but the context of '{self._name}' "
                f"has "
                f"{error.get('n_ctx')}. Send less, or choose a model with a larger context.",
                code="context_length_exceeded",
                param="messages",
            )
        message = str(error.get("message", "")) if isinstance(error, Mapping) else ""
        if "too large to process" in message:
            return InvalidRequest(
                f"A text is longer than '{self._name}' can embed at once ({self._facts.context_length} "
                f"tokens): {message}.",
                code="context_length_exceeded",
                param="input",
            )
        return error_of(status, data, self._name)

    async def _embed(self, body: dict[str, Any], deadline: float | None) -> RelayResponse:
        texts = texts_of(body)
        dimensions = dimensions_of(body, self._dimensions)
        encoding = encoding_of(body)
        asked = {"input": texts, "encoding_format": "base64", **self._parts(body)}
        try:
            response = await self._transport.post(
                self._routes["embeddings"], orjson.dumps(asked), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        if response.status != 200:
            raise self._refusal(response.status, data)
        try:
            answered = orjson.loads(data)
            rows = sorted(answered["data"], key=lambda row: row["index"])
            vectors = [shorten(vector_of(row["embedding"]), dimensions) for row in rows]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"The engine of '{self._name}' answered something that is not embeddings."
            ) from error
        usage = usage_from_json(answered.get("usage") or {})
        return RelayResponse(
            "application/json", once(orjson.dumps(document(vectors, encoding, self._name, usage))), usage
        )

    def _parts(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What else is asked for than vectors of whole texts."""
        return {}

    async def _rerank(self, body: dict[str, Any], deadline: float | None) -> RelayResponse:
        asked = {name: body[name] for name in ("query", "documents", "top_n") if name in body}
        try:
            response = await self._transport.post(
                self._routes["rerank"], orjson.dumps(asked), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        if response.status != 200:
            raise self._refusal(response.status, data)
        try:
            answered = orjson.loads(data)
            rows = [(int(row["index"]), float(row["relevance_score"])) for row in answered["results"]]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"The engine of '{self._name}' answered something that is not a ranking."
            ) from error
        usage = usage_from_json(answered.get("usage") or {})
        return RelayResponse("application/json", once(orjson.dumps(ranking(rows, self._name, usage))), usage)


def ranking(rows: list[tuple[int, float]], name: str, usage: Usage) -> dict[str, Any]:
    """Scores as Jina and Cohere give them, in [0, 1] and best first. llama.cpp passes on what the model's last layer
    says, which for a cross-encoder is a logit: if one is outside [0, 1], all are.
    """
    if any(not 0 <= score <= 1 for _, score in rows):
        rows = [(index, 1 / (1 + math.exp(-max(-60.0, min(60.0, score))))) for index, score in rows]
    found = sorted(rows, key=lambda row: -row[1])
    return {
        "object": "list",
        "model": name,
        "results": [{"index": index, "relevance_score": score} for index, score in found],
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    }
