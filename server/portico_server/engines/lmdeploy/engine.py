"""A model on LMDeploy's OpenAI server.

Source: https://lmdeploy.readthedocs.io/en/latest/llm/api_server.html.
"""

from __future__ import annotations

from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.engines.fallback import fallbacks
from portico_server.engines.guest import guest
from portico_server.engines.guest.options import Option, Options, arguments
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec

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

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        return await guest.start(
            self.name, program(spec, path), spec, path, site, advice=advice, quirks=DIALECT
        )


def program(spec: ModelSpec, path: Path | None) -> guest.Program:
    """LMDeploy's command line. It takes its key nowhere else."""
    line = [
        *("-m", "lmdeploy", "serve", "api_server", str(path), "--model-name", spec.name),
        *("--server-name", "127.0.0.1", "--server-port", "{port}", "--api-keys", "{key}"),
        *arguments(spec.name, "lmdeploy", spec.parameters, OPTIONS),
    ]
    return guest.Program(line)


def advice(message: str) -> str:
    """What to do here about a refusal of LMDeploy."""
    if "tool" in message.lower() and "parser" in message.lower():
        return "Give the model the parameter 'tool_call_parser'."
    return ""
