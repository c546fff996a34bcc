"""A model on SGLang's OpenAI-compatible server. Statements about SGLang refer to version 0.5.23."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from portico.plugin import (
    AdapterScale,
    EngineClient,
    GpuServer,
    GpuTraits,
    InvalidRequest,
    LaunchContext,
    ModelDescription,
    ModelSpec,
    Relay,
    RelayResponse,
    RunningEngine,
    ServerOption,
    ServerProgram,
    scale_adapter,
)

PORTICO_PLUGIN_API = 1

SGLANG_OPTIONS = {
    "context_length": ServerOption("--context-length", "whole", "maximum tokens per call"),
    "tensor_parallel": ServerOption("--tp-size", "whole", "GPUs that share each layer"),
    "pipeline_parallel": ServerOption("--pp-size", "whole", "groups of GPUs that share the layers"),
    "data_parallel": ServerOption("--dp-size", "whole", "copies of the model"),
    "dtype": ServerOption("--dtype", "text", "auto, bfloat16, float16 or float32"),
    "quantization": ServerOption(
        "--quantization", "text", "quantization of the weights, if not given by the files"
    ),
    "kv_cache_dtype": ServerOption("--kv-cache-dtype", "text", "auto, fp8_e4m3 or fp8_e5m2"),
    "memory_share": ServerOption(
        "--mem-fraction-static", "share", "share of the GPU's memory for weights and cache"
    ),
    "max_sequences": ServerOption("--max-running-requests", "whole", "maximum number of concurrent calls"),
    "max_batched_tokens": ServerOption("--chunked-prefill-size", "whole", "prompt tokens per step"),
    "schedule_policy": ServerOption(
        "--schedule-policy", "text", "order of the calls: lpm, fcfs, lof, random or dfs-weight"
    ),
    "chat_template": ServerOption(
        "--chat-template", "template", "a Jinja file instead of the model's own template"
    ),
    "tool_call_parser": ServerOption(
        "--tool-call-parser",
        "text",
        "format of the model's tool calls, or none; needed only if its template does not show the format",
    ),
    "reasoning_parser": ServerOption(
        "--reasoning-parser",
        "text",
        "format of the model's thoughts, or none; needed only if its template does not show the format",
    ),
    "trust_remote_code": ServerOption(
        "--trust-remote-code", "flag", "run Python code included with the model"
    ),
    "adapters_at_once": ServerOption(
        "--max-loras-per-batch",
        "whole",
        "maximum number of concurrent adapters, including the model itself",
    ),
    "seed": ServerOption("--random-seed", "number", "for sampling"),
}
"""The parameters that a model on SGLang can set."""

TOOL_PARSERS: Mapping[str, str] = {
    "apertus": "apertus2509",
    "deepseek_v3": "deepseekv3",
    "deepseek_v31": "deepseekv31",
    "deepseek_v32": "deepseekv32",
    "deepseek_v4": "deepseekv4",
    "gemma4": "gemma4",
    "glm45": "glm45",
    "glm47": "glm47",
    "hermes": "qwen25",
    "hunyuan_a13b": "hunyuan",
    "kimi_k2": "kimi_k2",
    "lfm2": "lfm2",
    "llama3_json": "llama3",
    "llama4_pythonic": "pythonic",
    "minimax_m2": "minimax-m2",
    "mistral": "mistral",
    "openai": "gpt-oss",
    "pythonic": "pythonic",
    "qwen3_xml": "qwen3_coder",
    "step3": "step3",
    "step3p5": "step3p5",
}
"""SGLang's names for formats of tool calls (``sglang/srt/function_call/parser_names.py``), keyed by vLLM's name."""

THOUGHT_PARSERS: Mapping[str, str] = {
    "deepseek_r1": "deepseek-r1",
    "deepseek_v3": "deepseek-v3",
    "deepseek_v4": "deepseek-v4",
    "gemma4": "gemma4",
    "glm45": "glm45",
    "glm47": "glm45",
    "hunyuan_a13b": "hunyuan",
    "minimax_m2_append_think": "minimax-append-think",
    "mistral": "mistral",
    "openai_gptoss": "gpt-oss",
    "qwen3": "qwen3",
    "step3p5": "step3p5",
}
"""SGLang's names for formats of thoughts (``sglang/srt/parser/reasoning_parser_names.py``), keyed by vLLM's name."""

SGLANG_TRAITS = GpuTraits(
    title="SGLang",
    min_capability=8.0,
    weights={"awq": 8.0, "fp8": 8.0, "gptq": 8.0, "modelopt": 8.9, "mxfp4": 8.0},
    cache_parameter="kv_cache_dtype",
    cache_factors={"fp8_e4m3": 0.5, "fp8_e5m2": 0.5},
    cache_capability=8.9,
    online={"fp8": 0.55},
    share_covers="static",
)
"""Traits of SGLang. The minimum capabilities are those that ``get_min_capability`` returns in
``sglang/srt/layers/quantization``.
"""


class SgLang(GpuServer):
    """An engine for chat models in folders with safetensors. Parameters: `SGLANG_OPTIONS`."""

    name = "sglang"
    own_options = SGLANG_OPTIONS
    gpu_traits = SGLANG_TRAITS
    tool_parsers = TOOL_PARSERS
    thought_parsers = THOUGHT_PARSERS

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        model_description = super().describe(spec, path)
        if model_description.task != "chat":
            raise InvalidRequest(
                f"In Portico, the engine 'sglang' supports only chat: use 'vllm' for '{spec.name}'.",
                param="engine",
            )
        return model_description

    def check_adapter(self, spec: ModelSpec, path: Path | None, adapter: AdapterScale) -> None:
        """Raise `InvalidRequest` if SGLang cannot load an adapter at startup. Blocks."""
        if "=" in adapter.name:
            raise InvalidRequest("SGLang does not allow '=' in the name of an adapter.", param="name")
        super().check_adapter(spec, path, adapter)

    def program(
        self, spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale] = ()
    ) -> ServerProgram:
        """Return the server program. It gets its key only on the command line. Blocks if there are ``adapters``."""
        line = [
            *("-P", "-m", "sglang.launch_server"),
            *("--model-path", str(path), "--served-model-name", spec.name, "--api-key", "{key}"),
            *("--host", "{host}", "--port", "{port}", "--enable-cache-report"),
            *self.arguments(spec),
        ]
        if adapters:
            line += ["--lora-paths", *(f"{adapter.name}={scale_adapter(adapter)}" for adapter in adapters)]
        return ServerProgram(line, reports_lost_gpu=False)

    def complete(
        self, running: RunningEngine, spec: ModelSpec, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> RunningEngine:
        """Return the running engine, with a client that uses SGLang's names for adapters."""
        client = _AdapterNames(running.client, spec.name)
        return super().complete(replace(running, client=client), spec, site, adapters)


class _AdapterNames:
    """An `EngineClient` that translates the names of adapters. SGLang calls an adapter ``MODEL:ADAPTER``; for any
    other name, it answers with the base model.
    """

    def __init__(self, inner: EngineClient, name: str) -> None:
        self._inner = inner
        self._name = name

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """Send the request with the adapter's SGLang name."""
        adapter = request.adapter
        if adapter is not None:
            request = replace(request, adapter=replace(adapter, name=f"{self._name}:{adapter.name}"))
        return await self._inner.relay(request, deadline)
