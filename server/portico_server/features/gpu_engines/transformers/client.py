"""A client of the worker: llama.cpp's API, plus loading and unloading adapters while the worker runs. Imports
aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale, Relay, RelayResponse
from portico_server.models.engines.openai_client import media
from portico_server.models.engines.openai_client.client import ChoiceStreamClient, ServerFacts
from portico_server.models.openai_wire import error_of
from portico_server.models.protocol import ModelDescription
from portico_server.models.server_process import ServerProcess
from portico_server.models.transport import (
    CONNECTION_ERRORS,
    EngineRoute,
    EngineTransport,
    Upstream,
    read_all,
)

ATTACH_TIMEOUT_S = 120.0
"""Deadline for loading an adapter, in seconds, including the wait for earlier calls."""

logger = logging.getLogger(__name__)


class TransformersClient(ChoiceStreamClient):
    """An `EngineClient` that can attach adapters to a running worker."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        facts: ServerFacts,
        description: ModelDescription,
    ) -> None:
        super().__init__(transport, child, name, facts, description)
        endpoint = child.endpoint(name)
        self._adapter_routes = {
            word: EngineRoute(endpoint, f"{word}_lora_adapter") for word in ("load", "unload")
        }
        self._attached_paths: dict[str, Path] = {}
        self._attaching = asyncio.Lock()
        self._upstream = Upstream(transport, endpoint, name, child.explain)

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.operation in media.MEDIA_OPERATIONS:
            relay = media.embed_files(request)
            return await media.forward_media(self._upstream, relay, relay.body, deadline)
        if request.adapter is not None:
            await self.attach(request.adapter)
        return await super().relay(request, deadline)

    def fits(self, adapter: AdapterScale) -> bool:
        """See `portico_server.models.protocol.AttachesAdapters`."""
        return adapter.path.suffix != ".gguf"

    async def attach(self, adapter: AdapterScale) -> None:
        """See `portico_server.models.protocol.AttachesAdapters`."""
        if self._attached_paths.get(adapter.name) == adapter.path:
            return
        async with self._attaching:
            if self._attached_paths.get(adapter.name) == adapter.path:
                return
            await self._detach(adapter.name)
            await self._ask("load", {"lora_name": adapter.name, "lora_path": str(adapter.path)})
            self._attached_paths[adapter.name] = adapter.path

    async def detach(self, name: str) -> bool:
        """See `portico_server.models.protocol.AttachesAdapters`."""
        async with self._attaching:
            await self._detach(name)
        return True

    async def attach_or_log(self, adapter: AdapterScale) -> None:
        """Attach an adapter at the start, and only log a failure: the model itself must start without it."""
        try:
            await self.attach(adapter)
        except PorticoError as error:
            logger.error("skipping the adapter %s of %s: %s", adapter.name, self._name, error.message)

    async def _detach(self, name: str) -> None:
        if name in self._attached_paths:
            await self._ask("unload", {"lora_name": name})
            del self._attached_paths[name]

    def _embedding_fields(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"spans": body["spans"]} if body.get("spans") is not None else {}

    def _adapter_fields(self, request: Relay) -> dict[str, Any]:
        for field in ("lora", "adapter"):
            if field in request.body:
                raise InvalidRequest(
                    "Each adapter has its own model name: put the adapter's name into 'model' and leave out "
                    f"'{field}'.",
                    param=field,
                )
        adapter_scale = request.adapter
        return (
            {"adapter": {"name": adapter_scale.name, "scale": adapter_scale.scale}}
            if adapter_scale is not None
            else {}
        )

    async def _ask(self, word: str, body: Mapping[str, str]) -> None:
        deadline = asyncio.get_running_loop().time() + ATTACH_TIMEOUT_S
        try:
            response = await self._transport.post(
                self._adapter_routes[word], orjson.dumps(body), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        if response.status != 200:
            raise error_of(response.status, data, self._name)


def transformers_client(
    transport: EngineTransport,
    child: ServerProcess,
    name: str,
    props: Mapping[str, Any],
    description: ModelDescription,
) -> TransformersClient:
    """Return a client for a worker that reported ``props``."""
    return TransformersClient(transport, child, name, ServerFacts.read(props), description)
