"""A model on vLLM's OpenAI server.

Source: https://docs.vllm.ai/en/latest/cli/serve.html.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from portico_server.engines.fallback import fallbacks
from portico_server.engines.guest import guest
from portico_server.engines.guest.options import Option, Options, arguments
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec

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

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        # psutil is imported by now or may be; this module is imported before it.
        from portico_server.engines.hardware import this_machine
        from portico_server.engines.planner.fill import filled

        spec = filled(spec, path, await asyncio.to_thread(this_machine))
        return await guest.start(
            self.name, program(spec, path), spec, path, site, advice=advice, quirks=Quirks(developer=False)
        )


def program(spec: ModelSpec, path: Path | None) -> guest.Program:
    """vLLM's command line. The key goes through the environment: a command line is seen by every user."""
    line = [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(path), "--served-model-name", spec.name),
        *("--host", "127.0.0.1", "--port", "{port}"),
        "--enable-prompt-tokens-details",
    ]
    if guest.describe(spec, path).task == "embedding":
        line += ["--runner", "pooling"]
    if spec.parameters.get("tool_call_parser"):
        line.append("--enable-auto-tool-choice")
    line += arguments(spec.name, "vllm", spec.parameters, OPTIONS)
    environment = {"VLLM_API_KEY": "{key}", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
    return guest.Program(line, environment)


def advice(message: str) -> str:
    """What to do here about a refusal of vLLM."""
    if "--tool-call-parser" in message:
        return "Give the model the parameter 'tool_call_parser', such as hermes; or name the tool, which needs none."
    if "--chat-template" in message or "chat template" in message.lower():
        return "Give the model the parameter 'chat_template' with the path of a Jinja file."
    return ""
