"""A model on vLLM's OpenAI server.

Source: https://docs.vllm.ai/en/latest/cli/serve.html.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from portico_server.core import pools
from portico_server.core.relay import AdapterScale
from portico_server.engines.fallback import fallbacks
from portico_server.engines.gpus import Share
from portico_server.engines.guest import guest, options
from portico_server.engines.guest.options import Option, Options, arguments
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec
from portico_server.engines.vllm.adapters import hot, rank_for, rank_of
from portico_server.subprocesses import module

OWN_SHARE = 0.9
"""What vLLM takes of a GPU unless told otherwise."""

OPTIONS: Options = {
    "context_length": Option("--max-model-len", "whole", "tokens that one call may have"),
    "tensor_parallel": Option("--tensor-parallel-size", "whole", "GPUs that share each layer"),
    "pipeline_parallel": Option("--pipeline-parallel-size", "whole", "groups of GPUs that share the layers"),
    "data_parallel": Option("--data-parallel-size", "whole", "copies of the model"),
    "dtype": Option("--dtype", "text", "auto, bfloat16, float16 or float32"),
    "quantization": Option(
        "--quantization", "text", "how the weights are quantised, if the files do not say"
    ),
    "kv_cache_dtype": Option("--kv-cache-dtype", "text", "auto or fp8"),
    "memory_share": Option("--gpu-memory-utilization", "share", "share of the GPU's memory to take"),
    "max_sequences": Option("--max-num-seqs", "whole", "calls that are computed at the same time"),
    "max_batched_tokens": Option("--max-num-batched-tokens", "whole", "tokens of one step"),
    "chat_template": Option("--chat-template", "path", "a Jinja file instead of the model's own template"),
    "tool_call_parser": Option(
        "--tool-call-parser", "text", "how the model writes tool calls, such as hermes"
    ),
    "reasoning_parser": Option(
        "--reasoning-parser", "text", "how the model writes its thoughts, such as qwen3"
    ),
    "eager": Option("--enforce-eager", "flag", "start sooner, run slower: no CUDA graphs"),
    "prefix_caching": Option("--enable-prefix-caching", "flag", "keep what prompts have in common"),
    "trust_remote_code": Option("--trust-remote-code", "flag", "run Python code that comes with the model"),
    "adapter_rank": Option(
        "--max-lora-rank", "whole", "highest rank of adapters that are taken without a new start"
    ),
    "adapters_at_once": Option("--max-loras", "whole", "adapters that answer at the same time"),
    "seed": Option("--seed", "number", "for sampling"),
}
"""Parameters of a model on vLLM."""


class Vllm:
    """A folder with safetensors. Parameters: `OPTIONS`."""

    name = "vllm"
    fetches = True

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        arguments(spec.name, self.name, spec.parameters, OPTIONS)
        fallbacks(spec)
        return guest.describe(spec, path)

    def occupies(self, spec: ModelSpec, path: Path | None) -> Share:
        """See `portico_server.engines.protocol.Occupies`."""
        from portico_server.engines.hardware import this_machine  # psutil: see `start`
        from portico_server.engines.planner.fill import filled

        machine = this_machine()
        given = filled(spec, path, machine).parameters
        sizes = [gpu.memory_bytes for gpu in machine.gpus if not gpu.shared]
        if not sizes:
            return Share()
        count = math.prod(given.get(f"{kind}_parallel", 1) for kind in ("tensor", "pipeline", "data"))
        return Share(count, int(given.get("memory_share", OWN_SHARE) * min(sizes)))

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        # psutil is imported by now or may be; this module is imported before it.
        from portico_server.engines.hardware import this_machine
        from portico_server.engines.planner.fill import filled

        spec = filled(spec, path, await pools.MODELS.run(this_machine))
        rank = await pools.MODELS.run(rank_for, spec, path, site.adapters)
        running = await guest.start(
            self.name,
            program(spec, path, rank),
            spec,
            path,
            site,
            advice=advice,
            quirks=Quirks(developer=False),
            enforces=bool(spec.parameters.get("tool_call_parser")),
        )
        # aiohttp is imported by now; this module is imported before it.
        from portico_server.engines.tokens import VllmTokenizer

        assert running.child is not None
        tokenizer = VllmTokenizer(
            site.transport, running.child, spec.name, running.description.context_length
        )
        return replace(running, speaker=hot(running, spec, site, rank), tokenizer=tokenizer)

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: Site
    ) -> None:
        """See `portico_server.engines.protocol.Adapts`. What only vLLM knows it says when it loads the adapter."""
        await pools.MODELS.run(rank_of, adapter, path)


def program(spec: ModelSpec, path: Path | None, rank: int = 0) -> guest.Program:
    """vLLM's command line, for adapters up to ``rank``. The key goes through the environment: a command line is seen by
    every user.
    """
    line = [
        *module("vllm.entrypoints.openai.api_server"),
        *("--model", str(path), "--served-model-name", spec.name),
        *("--host", "127.0.0.1", "--port", "{port}"),
        "--enable-prompt-tokens-details",
    ]
    if guest.describe(spec, path).task == "embedding":
        line += ["--runner", "pooling"]
    if spec.parameters.get("tool_call_parser"):
        line.append("--enable-auto-tool-choice")
    environment = {"VLLM_API_KEY": "{key}", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
    parameters = dict(spec.parameters)
    if rank:
        line.append("--enable-lora")
        parameters["adapter_rank"] = rank
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    line += arguments(spec.name, "vllm", parameters, OPTIONS)
    return guest.Program(line, environment)


def advice(message: str) -> str:
    """What to do here about what vLLM says."""
    if "--tool-call-parser" in message:
        return "Give the model the parameter 'tool_call_parser', such as hermes; or require a call, which needs none."
    if "--chat-template" in message or "chat template" in message.lower():
        return "Give the model the parameter 'chat_template' with the path of a Jinja file."
    return options.advice(message, OPTIONS)
