"""A child process that answers by a script instead of by a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.engines.adapters.speakers import Given
from portico_server.engines.child import Child
from portico_server.engines.fake.script import Script, load
from portico_server.engines.fake.voices import VOICES
from portico_server.engines.guest.adapters import usable
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.sources import parse
from portico_server.engines.spec import ModelSpec


class Fake:
    """``fake://`` echoes.

    ``fake://PATH.yaml`` or the parameter ``script`` (a path or the script itself) tells it more.
    """

    name = "fake"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        script = _script(spec)
        if spec.task == "embedding":
            return Description("embedding", script.context_length, script.dimensions)
        if spec.task == "rerank":
            return Description("rerank", script.context_length)
        if spec.task == "speech":
            return Description("speech", voices=VOICES)
        if spec.task == "transcription":
            return Description("transcription")
        if spec.task == "image":
            return Description("image", edits=spec.parameters.get("edits") is not False)
        # A script says what its writer wants it to say: there is nothing to test.
        sees = spec.parameters.get("vision") is True
        return Description("chat", script.context_length, vision=sees, answers="write")

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        # aiohttp is imported by now; this module is imported before it.
        from portico_server.engines.passthrough import Passthrough
        from portico_server.engines.tokens import VllmTokenizer
        from portico_server.engines.upstream import Upstream

        script = _script(spec)
        scripts: dict[str, Script] = {}
        adapters = usable(
            spec.name, site.adapters, lambda one: scripts.update({one.name: load(str(one.path))})
        )
        child = await Child.start(
            "portico_server.engines.fake.worker",
            {
                "script": script.to_json(),
                "adapters": {name: own.to_json() for name, own in scripts.items()},
            },
            name=spec.name,
            log=site.log,
            timeout=site.load_timeout,
            report=site.report,
        )
        speaker = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        described = self.describe(spec, path)
        tokenizer = VllmTokenizer(site.transport, child, spec.name, described.context_length)
        return Running(Given(speaker, spec.name, adapters), described, child, tokenizer)

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: Site
    ) -> None:
        """See `portico_server.engines.protocol.Adapts`. An adapter of a fake model is a script of its own."""
        if adapter.path.suffix not in (".yaml", ".yml"):
            raise InvalidRequest(
                "An adapter of a fake model is a YAML script of its own.",
                code="adapter_invalid",
                param="path",
            )
        load(str(adapter.path))


def _script(spec: ModelSpec) -> Script:
    unknown = set(spec.parameters) - {"script", "context_length", "dimensions", "vision", "edits"}
    if unknown:
        raise InvalidRequest(
            f"The engine 'fake' has no parameter '{min(unknown)}'; it has script, context_length, "
            f"dimensions, vision and edits.",
            param="parameters",
        )
    given: Any = spec.parameters.get("script") or parse(spec.source).location
    script = load(given)
    return script.with_limits(spec.parameters.get("context_length"), spec.parameters.get("dimensions"))
