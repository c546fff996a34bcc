"""A client that adapts requests to a server that differs from OpenAI, and the server's embeddings to OpenAI's
clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.models.answers import close_chunks
from portico_server.models.embedding_wire import document, encoding_of, vector_of
from portico_server.models.engines.openai_client.quirks import Quirks, fit_body, fit_image_request
from portico_server.models.protocol import EngineClient


class QuirksClient:
    """An `EngineClient` that wraps another client, whose server has the differences ``quirks``."""

    def __init__(self, inner: EngineClient, quirks: Quirks, name: str) -> None:
        self._inner = inner
        self._quirks = quirks
        self._name = name

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.operation.startswith("images/"):
            relay = fit_image_request(request, self._quirks.pictures, self._name)
            return await self._inner.relay(relay, deadline)
        body = fit_body(request.body, request.operation, self._quirks, self._name)
        if request.operation == "embeddings":
            texts = body.get("input")
            is_list = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
            limit = self._quirks.embedding_batch
            too_many = is_list and limit is not None and len(texts or ()) > limit
            if too_many or (not self._quirks.base64 and encoding_of(body) == "base64"):
                return await self._embed(request, body, deadline)
        return await self._inner.relay(replace(request, body=body), deadline)

    async def _embed(self, request: Relay, body: Mapping[str, Any], deadline: float | None) -> RelayResponse:
        """Embed the texts in batches, one after another because of the server's limits, and return one combined
        response.
        """
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        size = self._quirks.embedding_batch or len(texts)
        vectors: list[bytes] = []
        usage = Usage()
        for start in range(0, len(texts), size):
            part = {**body, "input": texts[start : start + size], "encoding_format": "float"}
            relay_response = await self._inner.relay(replace(request, body=part), deadline)
            try:
                data = await relay_response.read()
            finally:
                await close_chunks(relay_response.chunks)
            vectors += self._vectors(data, len(part["input"]))
            usage = Usage(usage.prompt_tokens + relay_response.usage.prompt_tokens)
        document_body = document(vectors, encoding_of(body), self._name, usage)
        return RelayResponse("application/json", single_chunk(orjson.dumps(document_body)), usage)

    def _vectors(self, data: bytes, expected_count: int) -> list[bytes]:
        try:
            rows = sorted(orjson.loads(data)["data"], key=lambda row: row["index"])
            vectors = [vector_of(row["embedding"]) for row in rows]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"The provider of '{self._name}' returned something other than embeddings."
            ) from error
        if len(vectors) != expected_count:
            raise EngineFailed(
                f"The provider of '{self._name}' returned {len(vectors)} vectors for {expected_count} texts."
            )
        return vectors
