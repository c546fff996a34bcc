"""The engine `lmdeploy`: serves a model, with its adapters, through LMDeploy's OpenAI-compatible server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.features.gpu_engines.external import server
from portico_server.features.gpu_engines.external.engine import GpuServer
from portico_server.features.gpu_engines.external.server_options import ServerOption, ServerOptions
from portico_server.models.protocol import (
    EngineClient,
    GpuTraits,
    LaunchContext,
    ModelDescription,
    RunningEngine,
)
from portico_server.models.spec import ModelSpec
from portico_server.subprocesses import module

if TYPE_CHECKING:
    from portico_server.models.server_process import ServerProcess
from portico_server.features.gpu_engines.lmdeploy.adapters import check_adapter, plain_adapter

logger = logging.getLogger(__name__)


DEFAULT_CACHE_SHARE = 0.8
"""Share of a GPU's free memory that LMDeploy uses for its cache by default."""

LMDEPLOY_OPTIONS: ServerOptions = {
    "backend": ServerOption("--backend", "text", "turbomind or pytorch"),
    "context_length": ServerOption("--session-len", "whole", "maximum tokens of one call"),
    "tensor_parallel": ServerOption("--tp", "whole", "GPUs that share each layer"),
    "data_parallel": ServerOption("--dp", "whole", "copies of the model; turbomind only"),
    "dtype": ServerOption("--dtype", "text", "auto, bfloat16 or float16"),
    "quantization": ServerOption(
        "--model-format",
        "text",
        "hf, awq, gptq, compressed-tensors, fp8 or mxfp4, if the files do not specify it",
    ),
    "kv_cache_bits": ServerOption("--quant-policy", "whole", "4 or 8 bits for the KV cache"),
    "memory_share": ServerOption(
        "--cache-max-entry-count", "share", "share of the free GPU memory for the KV cache"
    ),
    "max_sequences": ServerOption("--max-batch-size", "whole", "maximum number of concurrent calls"),
    "chat_template": ServerOption(
        "--chat-template", "path", "the name of one of LMDeploy's templates, or a JSON file with a template"
    ),
    "tool_call_parser": ServerOption(
        "--tool-call-parser",
        "text",
        "the format of the model's tool calls if it differs from its template, or none",
    ),
    "reasoning_parser": ServerOption(
        "--reasoning-parser",
        "text",
        "the format of the model's reasoning if it differs from its template, or none",
    ),
    "prefix_caching": ServerOption("--enable-prefix-caching", "flag", "cache common prefixes of prompts"),
    "trust_remote_code": ServerOption(
        "--trust-remote-code", "flag", "run Python code that comes with the model"
    ),
}
"""The parameters that a model on LMDeploy can have."""

LMDEPLOY_TRAITS = GpuTraits(
    title="LMDeploy",
    min_capability=7.5,
    weights={"awq": 7.5, "fp8": 8.9, "gptq": 7.5, "mxfp4": 7.5},
    cache_parameter="kv_cache_bits",
    cache_factors={8: 0.5, 4: 0.25},
    cache_capability=7.5,
    # Source: ``lmdeploy/turbomind/supported_models.py``, which lists the architectures that LMDeploy's fast
    # backend supports.
    architectures=frozenset(
        {
            "Glm4MoeLiteForCausalLM",
            "GptOssForCausalLM",
            "InternLM2ForCausalLM",
            "InternLM3ForCausalLM",
            "LlamaForCausalLM",
            "MixtralForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen2MoeForCausalLM",
            "Qwen3ForCausalLM",
            "Qwen3MoeForCausalLM",
        }
    ),
    frees_windows=False,
    share_covers="free",
)
"""Traits of LMDeploy 0.18 on the pinned CUDA 13. According to its README, caches of 8 and 4 bits and MXFP4 also work
on older GPUs.
"""

TOOL_PARSERS: Mapping[str, str] = {
    "deepseek_v32": "deepseek-v32",
    "deepseek_v4": "deepseek-v4",
    "glm47": "glm47",
    "hermes": "qwen3",
    "internlm": "internlm",
    "kimi_k2": "kimi_k2",
    "llama3_json": "llama3",
    "qwen3_xml": "qwen3coder",
}
"""LMDeploy 0.18's names for tool call formats (``lmdeploy/serve/parsers/tool_parser``), by vLLM's names."""

THOUGHT_PARSERS: Mapping[str, str] = {
    "deepseek_r1": "default",
    "deepseek_v3": "deepseek-v3",
    "deepseek_v4": "deepseek-v4",
    "glm45": "default",
    "glm47": "default",
    "qwen3": "default",
}
"""LMDeploy 0.18's names for reasoning formats (``lmdeploy/serve/parsers/reasoning_parser``), by vLLM's names."""

HEALTH_ENVIRONMENT = {"LMDEPLOY_HEALTH_POLL_INTERVAL": "5", "LMDEPLOY_HEALTH_PROBE_TIMEOUT": "4"}
"""Environment variables that shorten LMDeploy's health checks, in seconds. ``/health`` reports the result of the last
check, and by default LMDeploy checks only every twelve seconds.
"""


class LmDeploy(GpuServer):
    """An engine for a folder with safetensors. For the parameters, see `LMDEPLOY_OPTIONS`."""

    name = "lmdeploy"
    own_options = LMDEPLOY_OPTIONS
    gpu_traits = LMDEPLOY_TRAITS
    default_share = DEFAULT_CACHE_SHARE
    tool_parsers = TOOL_PARSERS
    thought_parsers = THOUGHT_PARSERS

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        _possible(spec)
        model_description = super().describe(spec, path)
        if model_description.task == "embedding":
            raise InvalidRequest(
                "The engine 'lmdeploy' does not support embeddings: use 'vllm' or 'llamacpp' for "
                f"'{spec.name}'.",
                param="engine",
            )
        return model_description

    def advice(self, message: str) -> str:
        """Return advice for an error message of LMDeploy, or "" if there is none."""
        if "tool-call" in message and "parser" in message:
            return "Set the parameter 'tool_call_parser' of the model."
        return super().advice(message)

    def start_bytes(self, spec: ModelSpec, path: Path | None, gpu_bytes: int) -> int:
        """Return the bytes of the weights on each GPU that shares the layers. The cache uses a part of the remaining
        memory. Blocks.
        """
        if path is None:
            return 0
        weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return int(weights // spec.parameters.get("tensor_parallel", 1))

    def held_bytes(self, spec: ModelSpec, path: Path | None, gpu_bytes: int) -> int:
        """Return the bytes that the weights and the cache occupy on a GPU. Blocks."""
        weights = self.start_bytes(spec, path, gpu_bytes)
        share = spec.parameters.get("memory_share", self.default_share)
        return weights + int(share * max(0, gpu_bytes - weights)) if weights else 0

    def check_adapter(self, spec: ModelSpec, path: Path | None, adapter: AdapterScale) -> None:
        """Raise `InvalidRequest` if LMDeploy cannot be started with the adapter. Blocks."""
        for field, setting in (("backend", "backend turbomind"), ("data_parallel", "copies of one model")):
            if spec.parameters.get(field) in (None, "pytorch", 1):
                continue
            raise InvalidRequest(
                f"'{spec.name}' is set to LMDeploy's {setting}, which does not support adapters; its backend "
                "pytorch does.",
                code="adapters_unsupported",
                param=f"parameters.{field}",
            )
        check_adapter(adapter, path)

    def program(
        self, spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale] = ()
    ) -> server.ServerProgram:
        """Return the command line of the server. It contains the key, because LMDeploy accepts a key only there.
        Blocks if ``adapters`` is not empty.
        """
        if adapters:
            spec = replace(spec, parameters={**spec.parameters, "backend": "pytorch"})
        line = [
            *module("lmdeploy", "serve", "api_server", str(path), "--api-keys", "{key}"),
            *("--model-name", spec.name, "--server-name", "{host}", "--server-port", "{port}"),
            # The backend pytorch returns log-probabilities only in this mode. Abort handling allows calls to
            # be ended early by session number.
            *("--logprobs-mode", "raw_logprobs", "--enable-abort-handling"),
            *self.arguments(spec),
        ]
        if adapters:
            line += [
                "--adapters",
                *(f"{adapter.name}={plain_adapter(adapter, path)}" for adapter in adapters),
            ]
        return server.ServerProgram(line, HEALTH_ENVIRONMENT, reports_lost_gpu=False)

    async def launch(
        self, spec: ModelSpec, path: Path | None, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> RunningEngine:
        """Start the server with these adapters. If that fails, start it without adapters."""
        try:
            return await super().launch(spec, path, site, adapters)
        except EngineFailed as error:
            if not adapters or error.code != "load_failed":
                raise
            logger.error("%s Trying without its adapters.", error.message)
        return await super().launch(spec, path, site, [])

    def client_maker(
        self, spec: ModelSpec, path: Path | None, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> server.MakeClient:
        """Return a factory for clients that handle LMDeploy's tokens, log-probabilities and choices. Blocks."""
        # Imported here because it imports aiohttp, which must not be loaded before a model is used.
        from portico_server.features.gpu_engines.lmdeploy.client import LmDeployClient
        from portico_server.features.gpu_engines.lmdeploy.token_spelling import TokenSpelling

        assert path is not None
        spelling = TokenSpelling.of(path)

        def make_client(child: ServerProcess, description: ModelDescription) -> EngineClient:
            return LmDeployClient(
                site.transport,
                child,
                spec.name,
                description,
                template_has_tools=bool(spec.parameters.get("tool_call_parser")),
                biases=bool(adapters) or spec.parameters.get("backend") == "pytorch",
                spelling=spelling,
            )

        return make_client


def _possible(spec: ModelSpec) -> None:
    """Raise `InvalidRequest` for settings with which LMDeploy would fail while starting."""
    parameters = spec.parameters
    if parameters.get("kv_offload_gb") is not None:
        raise InvalidRequest(
            f"LMDeploy keeps prompts only in the GPU's memory: '{spec.name}' cannot have 'kv_offload_gb'; "
            "vllm supports it. (LMDeploy 0.18 has a connector to a Mooncake Store, which is a service with "
            "open ports of its own.) Set 'kv_cache_bits' to 8 or 4 for a larger cache, and 'prefix_caching' "
            "to reuse it.",
            param="parameters.kv_offload_gb",
        )
    if parameters.get("kv_cache_bits") not in (None, 4, 8):
        raise InvalidRequest(
            f"The parameter 'kv_cache_bits' of '{spec.name}' must be 4 or 8.",
            param="parameters.kv_cache_bits",
        )
    template = str(parameters.get("chat_template", ""))
    if template.endswith((".jinja", ".jinja2", ".j2")) or (
        "/" in template and not template.endswith(".json")
    ):
        raise InvalidRequest(
            f"The parameter 'chat_template' of '{spec.name}' is a file, but not a JSON file. LMDeploy reads "
            "Jinja only from the model's own folder (chat_template.jinja). Give the name of one of "
            "LMDeploy's templates, or a JSON file with a template.",
            param="parameters.chat_template",
        )
    if parameters.get("data_parallel", 1) > 1 and parameters.get("backend") == "pytorch":
        raise InvalidRequest(
            f"'{spec.name}' is set to LMDeploy's backend pytorch, which starts a separate server for each "
            "copy. Use turbomind, or set 'replicas' of the model.",
            param="parameters.data_parallel",
        )
