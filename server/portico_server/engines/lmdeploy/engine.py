"""A model on LMDeploy's OpenAI server.

Source: https://lmdeploy.readthedocs.io/en/latest/llm/api_server.html.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.engines.adapters.speakers import Given
from portico_server.engines.fallback import fallbacks
from portico_server.engines.gpus import Share
from portico_server.engines.guest import adapters as folders
from portico_server.engines.guest import guest, options
from portico_server.engines.guest.options import Option, Options, arguments
from portico_server.engines.lmdeploy.adapters import check, plain
from portico_server.engines.protocol import Description, Running, Site, Speaker
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec
from portico_server.subprocesses import module

if TYPE_CHECKING:
    from portico_server.engines.child import Child

logger = logging.getLogger(__name__)

OWN_SHARE = 0.8
"""What LMDeploy takes of a GPU's free memory for its cache unless told otherwise."""

OPTIONS: Options = {
    "backend": Option("--backend", "text", "turbomind or pytorch"),
    "context_length": Option("--session-len", "whole", "tokens that one call may have"),
    "tensor_parallel": Option("--tp", "whole", "GPUs that share each layer"),
    "data_parallel": Option("--dp", "whole", "copies of the model; turbomind alone"),
    "dtype": Option("--dtype", "text", "auto, bfloat16 or float16"),
    "quantization": Option(
        "--model-format", "text", "hf, awq, gptq, compressed-tensors, fp8 or mxfp4, if the files do not say"
    ),
    "kv_cache_bits": Option("--quant-policy", "whole", "4 or 8 bits for the KV cache"),
    "memory_share": Option(
        "--cache-max-entry-count", "share", "share of the free GPU memory for the KV cache"
    ),
    "max_sequences": Option("--max-batch-size", "whole", "calls that are computed at the same time"),
    "chat_template": Option(
        "--chat-template", "path", "the name of a template of LMDeploy's, or a JSON file with one"
    ),
    "tool_call_parser": Option(
        "--tool-call-parser", "text", "how the model writes tool calls, such as qwen3"
    ),
    "reasoning_parser": Option("--reasoning-parser", "text", "how the model writes its thoughts"),
    "prefix_caching": Option("--enable-prefix-caching", "flag", "keep what prompts have in common"),
    "trust_remote_code": Option("--trust-remote-code", "flag", "run Python code that comes with the model"),
}
"""Parameters of a model on LMDeploy."""

DIALECT = Quirks(developer=False)

HEALTH = {"LMDEPLOY_HEALTH_POLL_INTERVAL": "5", "LMDEPLOY_HEALTH_PROBE_TIMEOUT": "4"}
"""Seconds: ``/health`` says what was found when LMDeploy last looked, by itself every twelve."""


class LmDeploy:
    """A folder with safetensors. Parameters: `OPTIONS`."""

    name = "lmdeploy"
    fetches = True

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        arguments(spec.name, self.name, spec.parameters, OPTIONS)
        _possible(spec)
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
        adapters = await pools.MODELS.run(
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
        self, spec: ModelSpec, path: Path | None, site: Site, adapters: Sequence[AdapterScale]
    ) -> Running:
        line = await pools.MODELS.run(program, spec, path, adapters)
        has_tools = await pools.MODELS.run(_template_has_tools, spec, path)
        speaks = await pools.MODELS.run(_speaks, spec, path, site, has_tools, bool(adapters))
        running = await guest.start(
            self.name, line, spec, path, site, advice=advice, quirks=DIALECT, speaks=speaks
        )
        return replace(running, speaker=Given(running.speaker, spec.name, adapters))

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: Site
    ) -> None:
        """See `portico_server.engines.protocol.Adapts`. What only LMDeploy knows shows when it starts."""
        await pools.MODELS.run(_check, spec, path, adapter)


def _possible(spec: ModelSpec) -> None:
    """Raises `InvalidRequest` for what LMDeploy would only fail with while it starts."""
    given = spec.parameters
    if given.get("kv_cache_bits") not in (None, 4, 8):
        raise InvalidRequest(
            f"The parameter 'kv_cache_bits' of '{spec.name}' must be 4 or 8.",
            param="parameters.kv_cache_bits",
        )
    if str(given.get("chat_template", "")).endswith((".jinja", ".jinja2", ".j2")):
        raise InvalidRequest(
            f"The parameter 'chat_template' of '{spec.name}' is a Jinja file, which LMDeploy takes from the "
            "model's own folder alone (chat_template.jinja). Give the name of one of LMDeploy's templates, or a JSON "
            "file with one.",
            param="parameters.chat_template",
        )
    if given.get("data_parallel", 1) > 1 and given.get("backend") == "pytorch":
        raise InvalidRequest(
            f"'{spec.name}' is set to LMDeploy's backend pytorch, which makes a server of its own of each copy. Use "
            "turbomind, or 'replicas' of the model.",
            param="parameters.data_parallel",
        )


def _check(spec: ModelSpec, path: Path | None, adapter: AdapterScale) -> None:
    for field, told in (("backend", "backend turbomind"), ("data_parallel", "copies of one model")):
        if spec.parameters.get(field) in (None, "pytorch", 1):
            continue
        raise InvalidRequest(
            f"'{spec.name}' is set to LMDeploy's {told}, which takes no adapters; its backend pytorch does.",
            code="adapters_unsupported",
            param=f"parameters.{field}",
        )
    check(adapter, path)


def _template_has_tools(spec: ModelSpec, path: Path | None) -> bool:
    """Whether the prompt can tell the model of tools. Blocks."""
    if spec.parameters.get("tool_call_parser"):
        return True
    if path is None or spec.parameters.get("chat_template"):
        return False
    try:
        own = path / "chat_template.jinja"
        if own.is_file():
            return "tool" in own.read_text(encoding="utf-8")
        settings = orjson.loads((path / "tokenizer_config.json").read_bytes())
        return "tool" in str(settings.get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False  # starting it will say what is wrong


def _speaks(spec: ModelSpec, path: Path | None, site: Site, has_tools: bool, adapted: bool) -> guest.Speaks:
    # aiohttp is imported by now or may be; this module is imported before it.
    from portico_server.engines.lmdeploy.speaker import LmSpeaker
    from portico_server.engines.lmdeploy.spelling import Spelling

    assert path is not None
    spelling = Spelling.of(path)

    def speaks(child: Child, description: Description) -> Speaker:
        return LmSpeaker(
            site.transport,
            child,
            spec.name,
            description,
            template_has_tools=has_tools,
            biases=adapted or spec.parameters.get("backend") == "pytorch",
            spelling=spelling,
        )

    return speaks


def program(spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale] = ()) -> guest.Program:
    """LMDeploy's command line. It takes its key nowhere else. Blocks if there are ``adapters``."""
    if adapters:
        spec = replace(spec, parameters={**spec.parameters, "backend": "pytorch"})
    line = [
        *module("lmdeploy", "serve", "api_server", str(path), "--api-keys", "{key}"),
        *("--model-name", spec.name, "--server-name", "127.0.0.1", "--server-port", "{port}"),
        # The backend pytorch tells log-probabilities only so; calls are ended early by their number.
        *("--logprobs-mode", "raw_logprobs", "--enable-abort-handling"),
        *arguments(spec.name, "lmdeploy", spec.parameters, OPTIONS),
    ]
    if adapters:
        line += ["--adapters", *(f"{adapter.name}={plain(adapter, path)}" for adapter in adapters)]
    return guest.Program(line, HEALTH, tells=False)


def advice(message: str) -> str:
    """What to do here about what LMDeploy says."""
    if "tool-call" in message and "parser" in message:
        return "Give the model the parameter 'tool_call_parser'."
    return options.advice(message, OPTIONS)
