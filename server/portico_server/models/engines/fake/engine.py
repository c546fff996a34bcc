"""A child process that answers from a script instead of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.models.engines.fake.script import VOICES, Script, load_script
from portico_server.models.engines.peft_adapters import usable_adapters
from portico_server.models.protocol import AdapterFormat, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.server_process import ServerProcess
from portico_server.models.sources import parse_source
from portico_server.models.spec import ModelSpec


class Fake:
    """The engine for fake models. ``fake://`` echoes the prompt.

    ``fake://PATH.yaml``, or the parameter ``script`` (a path or the script itself), defines the replies of a model.
    """

    name = "fake"
    fetches = False
    adapter_format: AdapterFormat = "script"
    tells_tokens = True

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        script = _script(spec)
        if spec.task == "embedding":
            return ModelDescription("embedding", script.context_length, script.dimensions)
        if spec.task == "rerank":
            return ModelDescription("rerank", script.context_length)
        if spec.task == "speech":
            return ModelDescription("speech", voices=VOICES)
        if spec.task == "transcription":
            return ModelDescription("transcription")
        if spec.task == "image":
            return ModelDescription("image", edits=spec.parameters.get("edits") is not False)
        # The author of a script determines its replies, so a self-test would say nothing about the model.
        sees = spec.parameters.get("vision") is True
        return ModelDescription("chat", script.context_length, vision=sees, answers="write")

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        # Imported here because it imports aiohttp, which must not be loaded before a model is used.
        from portico_server.models.engines.openai_client.adapter_clients import FixedAdapterClient
        from portico_server.models.engines.openai_client.passthrough import Passthrough
        from portico_server.models.engines.openai_client.tokenizers import VllmTokenizer
        from portico_server.models.transport import Upstream

        script = _script(spec)
        scripts: dict[str, Script] = {}
        adapters = usable_adapters(
            spec.name,
            site.adapters,
            lambda adapter: scripts.update({adapter.name: load_script(str(adapter.path))}),
        )
        child = await ServerProcess.start(
            "portico_server.models.engines.fake.worker",
            {
                "script": script.to_json(),
                "adapters": {name: own_value.to_json() for name, own_value in scripts.items()},
                "sees": spec.parameters.get("vision") is True,
            },
            site,
            name=spec.name,
        )
        client = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        model_description = self.describe(spec, path)
        tokenizer = VllmTokenizer(site.transport, child, spec.name, model_description.context_length)
        return RunningEngine(
            FixedAdapterClient(client, spec.name, adapters), model_description, child, tokenizer
        )

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
    ) -> None:
        """See `portico_server.models.protocol.TriesAdapters`. An adapter of a fake model is another script."""
        if adapter.path.suffix not in (".yaml", ".yml"):
            raise InvalidRequest(
                "An adapter of a fake model must be a YAML script.",
                code="adapter_invalid",
                param="path",
            )
        load_script(str(adapter.path))


def _script(spec: ModelSpec) -> Script:
    unknown = set(spec.parameters) - {"script", "context_length", "dimensions", "vision", "edits"}
    if unknown:
        raise InvalidRequest(
            f"The engine 'fake' has no parameter '{min(unknown)}'; valid parameters are script, "
            "context_length, dimensions, vision and edits.",
            param="parameters",
        )
    script_source: Any = spec.parameters.get("script") or parse_source(spec.source).location
    script = load_script(script_source)
    return script.with_limits(spec.parameters.get("context_length"), spec.parameters.get("dimensions"))
