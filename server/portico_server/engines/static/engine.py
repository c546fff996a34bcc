"""A child process that holds word vectors (wordllama) and answers embeddings."""

from __future__ import annotations

from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.engines.child import Child
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.sources import parse
from portico_server.engines.spec import ModelSpec

WEIGHTS = ("wordllama",)
"""Names after ``static://``: the weights are inside their package."""

DIMENSIONS = 256

MEMORY = 180 * 1024 * 1024
"""Bytes of the process with the vectors in it."""


class Static:
    """``static://wordllama``."""

    name = "static"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        name = parse(spec.source).location
        if name not in WEIGHTS:
            raise InvalidRequest(
                f"There are no static vectors '{name}'; there is static://{', static://'.join(WEIGHTS)}.",
                param="source",
            )
        if spec.task == "chat":
            raise InvalidRequest(f"'{spec.source}' only embeds; its task cannot be 'chat'.", param="task")
        return Description("embedding", dimensions=DIMENSIONS, words=True)

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        return MEMORY

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        # aiohttp is imported by now; this module is imported before it.
        from portico_server.engines.passthrough import Passthrough
        from portico_server.engines.upstream import Upstream

        child = await Child.start(
            "portico_server.engines.static.worker",
            {},
            name=spec.name,
            log=site.log,
            timeout=site.load_timeout,
        )
        speaker = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        return Running(speaker, self.describe(spec, path), child)
