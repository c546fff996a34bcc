"""A model on LMDeploy's OpenAI server.

Source: https://lmdeploy.readthedocs.io/en/latest/llm/api_server.html.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.request import Adapter
from portico_server.engines.adapters.speakers import Given
from portico_server.engines.fallback import fallbacks
from portico_server.engines.gpus import Share
from portico_server.engines.guest import adapters as folders
from portico_server.engines.guest import guest, options
from portico_server.engines.guest.options import Option, Options, arguments
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec

logger = logging.getLogger(__name__)

OWN_SHARE = 0.8
"""What LMDeploy takes of a GPU's free memory for its cache unless told otherwise."""

OPTIONS: Options = {
    "backend": Option("--backend", "text", "turbomind or pytorch"),
    "context_length": Option("--session-len", "whole", "tokens that one call may have"),
    "tensor_parallel": Option("--tp", "whole", "GPUs that share each layer"),
    "data_parallel": Option("--dp", "whole", "copies of the model"),
    "dtype": Option("--dtype", "text", "auto, bfloat16 or float16"),
    "quantization": Option("--model-format", "text", "hf, awq, gptq, fp8 or mxfp4, if the files do not say"),
    "kv_cache_bits": Option("--quant-policy", "whole", "4 or 8 bits for the KV cache"),
    "memory_share": Option(
        "--cache-max-entry-count", "share", "share of the free GPU memory for the KV cache"
    ),
    "max_sequences": Option("--max-batch-size", "whole", "calls that are computed at the same time"),
    "chat_template": Option("--chat-template", "path", "a template file instead of the model's own"),
    "tool_call_parser": Option(
        "--tool-call-parser", "text", "how the model writes tool calls, such as qwen3"
    ),
    "reasoning_parser": Option("--reasoning-parser", "text", "how the model writes its thoughts"),
    "prefix_caching": Option("--enable-prefix-caching", "flag", "keep what prompts have in common"),
    "trust_remote_code": Option("--trust-remote-code", "flag", "run Python code that comes with the model"),
}
"""Parameters of a model on LMDeploy."""

DIALECT = Quirks(renamed={"max_completion_tokens": "max_tokens"}, developer=False, base64=False)


class LmDeploy:
    """A folder with safetensors. Parameters: `OPTIONS`."""

    name = "lmdeploy"
    fetches = True

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        arguments(spec.name, self.name, spec.parameters, OPTIONS)
        fallbacks(spec)
        found = guest.describe(spec, path)
        if found.task == "embedding":
            raise InvalidRequest(
                f"The engine 'lmdeploy' has no embeddings: use 'vllm' or 'llamacpp' for '{spec.name}'.",
                param="engine",
            )
        return found

    def occupies(self, spec: ModelSpec, path: Path | None) -> Share:
        """See `portico_server.engines.protocol.Occupies`."""
        from portico_server.engines.hardware import this_machine  # psutil: it is imported after this module

        sizes = [gpu.memory_bytes for gpu in this_machine().gpus if not gpu.shared]
        if not sizes or path is None:
            return Share()
        given = spec.parameters
        tensor = given.get("tensor_parallel", 1)
        weights = sum(file.stat().st_size for file in path.glob("*.safetensors")) // tensor
        # Its share is of what the weights leave free.
        cache = int(given.get("memory_share", OWN_SHARE) * max(0, min(sizes) - weights))
        return Share(tensor * given.get("data_parallel", 1), weights + cache)

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        adapters = await asyncio.to_thread(
            folders.usable, spec.name, site.adapters, lambda adapter: _check(spec, path, adapter)
        )
        if adapters:
            try:
                return await self._start(spec, path, site, adapters)
            except EngineFailed as error:
                if error.code != "load_failed":
                    raise
                logger.error("%s Trying without its adapters.", error.message)
        return await self._start(spec, path, site, [])

    async def _start(
        self, spec: ModelSpec, path: Path | None, site: Site, adapters: Sequence[Adapter]
    ) -> Running:
        line = await asyncio.to_thread(program, spec, path, adapters)
        running = await guest.start(self.name, line, spec, path, site, advice=advice, quirks=DIALECT)
        return replace(running, speaker=Given(running.speaker, spec.name, adapters))

    async def try_adapter(self, spec: ModelSpec, path: Path | None, adapter: Adapter, site: Site) -> None:
        """See `portico_server.engines.protocol.Adapts`. What only LMDeploy knows shows when it starts."""
        await asyncio.to_thread(_check, spec, path, adapter)


def _check(spec: ModelSpec, path: Path | None, adapter: Adapter) -> None:
    if spec.parameters.get("backend") == "turbomind":
        raise InvalidRequest(
            f"'{spec.name}' is set to LMDeploy's backend turbomind, which takes no adapters; pytorch does.",
            code="adapters_unsupported",
            param="parameters.backend",
        )
    if "=" in adapter.name:
        raise InvalidRequest("LMDeploy takes no '=' in the name of an adapter.", param="name")
    folders.check("lmdeploy", adapter, path)


def program(spec: ModelSpec, path: Path | None, adapters: Sequence[Adapter] = ()) -> guest.Program:
    """LMDeploy's command line. It takes its key nowhere else. Blocks if there are ``adapters``."""
    if adapters:
        spec = replace(spec, parameters={**spec.parameters, "backend": "pytorch"})
    line = [
        *("-m", "lmdeploy", "serve", "api_server", str(path), "--model-name", spec.name),
        *("--server-name", "127.0.0.1", "--server-port", "{port}", "--api-keys", "{key}"),
        *arguments(spec.name, "lmdeploy", spec.parameters, OPTIONS),
    ]
    if adapters:
        line += ["--adapters", *(f"{adapter.name}={folders.scaled(adapter)}" for adapter in adapters)]
    return guest.Program(line)


def advice(message: str) -> str:
    """What to do here about what LMDeploy says."""
    if "tool" in message.lower() and "parser" in message.lower():
        return "Give the model the parameter 'tool_call_parser'."
    return options.advice(message, OPTIONS)
