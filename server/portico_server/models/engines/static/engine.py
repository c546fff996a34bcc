"""The engine `static`: a child process with word vectors (wordllama) that serves embeddings."""

from __future__ import annotations

from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.models.protocol import LaunchContext, ModelDescription, RunningEngine
from portico_server.models.server_process import ServerProcess
from portico_server.models.sources import parse_source
from portico_server.models.spec import ModelSpec

WEIGHT_NAMES = ("wordllama",)
"""Valid names after ``static://``. The wordllama package contains their weights."""

DIMENSIONS = 256

MEMORY_BYTES = 180 * 1024 * 1024
"""Memory of the process including the vectors, in bytes."""


class Static:
    """An engine for ``static://wordllama``."""

    name = "static"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        name = parse_source(spec.source).location
        if name not in WEIGHT_NAMES:
            raise InvalidRequest(
                f"Static vectors '{name}' do not exist; use static://{', static://'.join(WEIGHT_NAMES)}.",
                param="source",
            )
        if spec.task == "chat":
            raise InvalidRequest(
                f"'{spec.source}' only creates embeddings; its task cannot be 'chat'.", param="task"
            )
        return ModelDescription("embedding", dimensions=DIMENSIONS, words=True)

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        return MEMORY_BYTES

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        # Imported in the function, so that importing this module does not load aiohttp.
        from portico_server.models.engines.openai_client.passthrough import Passthrough
        from portico_server.models.transport import Upstream

        child = await ServerProcess.start(
            "portico_server.models.engines.static.worker",
            {},
            site,
            name=spec.name,
        )
        client = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        return RunningEngine(client, self.describe(spec, path), child)
