"""The engine `vllm`: a model on vLLM's OpenAI server, with adapters that are loaded while it runs."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import orjson

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale
from portico_server.features.gpu_engines.external import server
from portico_server.features.gpu_engines.external.engine import GpuServer
from portico_server.features.gpu_engines.external.server_options import ServerOption, ServerOptions
from portico_server.launchers.node_task import FOLLOWER
from portico_server.launchers.protocol import Resources
from portico_server.models.adapters import peft
from portico_server.models.engines import peft_adapters as folders
from portico_server.models.gpus import GB
from portico_server.models.protocol import (
    EngineClient,
    GpuTraits,
    LaunchContext,
    RunningEngine,
)
from portico_server.models.spec import ModelSpec
from portico_server.subprocesses import module

# Adapters on vLLM: they are loaded while vLLM runs, up to the rank for which it was started. Source:
# https://docs.vllm.ai/en/latest/features/lora.html.


LORA_RANKS = (16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts as its maximum rank. The smallest is vLLM's default."""


def rank_of(adapter: AdapterScale, path: Path | None) -> int:
    """Return the highest rank in an adapter. Blocks.

    Raise `InvalidRequest` if vLLM cannot load the adapter for the model in ``path``.
    """
    rank = folders.check_adapter("vllm", adapter, path).highest_rank
    if rank > LORA_RANKS[-1]:
        raise InvalidRequest(
            f"The adapter '{adapter.name}' has rank {rank}; vLLM supports at most {LORA_RANKS[-1]}.",
            code="adapter_invalid",
            param="path",
        )
    return rank


def rank_for(spec: ModelSpec, adapters: Sequence[AdapterScale]) -> int:
    """Return the rank for which to start vLLM, or 0 if no rank is needed. Blocks.

    The rank is the smallest supported value that covers the parameter ``adapter_rank`` and all adapters.
    """
    requested_rank = spec.parameters.get("adapter_rank")
    ranks = [requested_rank] if isinstance(requested_rank, int) else []
    ranks += [_rank(adapter.path) for adapter in adapters]
    return next(rank for rank in LORA_RANKS if rank >= max(ranks)) if ranks else 0


@lru_cache(maxsize=256)
def _rank(path: Path) -> int:
    """Return the rank of an adapter that was checked before. If the adapter can no longer be read, return a rank above
    every limit.
    """
    try:
        return peft.read_peft(path).highest_rank
    except PorticoError:
        return LORA_RANKS[-1] + 1


def live_adapter_client(
    running: RunningEngine, spec: ModelSpec, site: LaunchContext, rank: int
) -> EngineClient:
    """Return the client of a vLLM server that was started for adapters up to ``rank``."""
    # Imported in the function, so that importing this module does not load aiohttp.
    from portico_server.models.engines.openai_client.adapter_clients import LiveAdapterClient
    from portico_server.models.openai_wire import error_of
    from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute, read_all

    assert running.process is not None
    child = running.process
    endpoint = child.endpoint(spec.name)

    async def ask(operation: str, body: dict[str, str]) -> None:
        deadline = asyncio.get_running_loop().time() + site.load_timeout
        try:
            response = await site.transport.post(
                EngineRoute(endpoint, operation), orjson.dumps(body), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await child.explain(error) from error
        if response.status != 200:
            raise error_of(response.status, data, spec.name)

    async def load(adapter: AdapterScale) -> None:
        folder = await pools.MODELS.run(folders.scale_adapter, adapter)
        await ask("load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(folder)})

    async def unload(name: str) -> None:
        await ask("unload_lora_adapter", {"lora_name": name})

    def fits(adapter: AdapterScale) -> bool:
        return bool(rank) and _rank(adapter.path) <= rank

    return LiveAdapterClient(running.client, load=load, unload=unload, fits=fits, name=spec.name)


DEFAULT_GPU_SHARE = 0.9
"""Share of a GPU's memory that vLLM uses by default."""

VLLM_OPTIONS: ServerOptions = {
    "context_length": ServerOption("--max-model-len", "whole", "maximum tokens of one call"),
    "tensor_parallel": ServerOption(
        "--tensor-parallel-size", "whole", "number of GPUs that share each layer"
    ),
    "pipeline_parallel": ServerOption(
        "--pipeline-parallel-size", "whole", "number of groups of GPUs among which the layers are divided"
    ),
    "data_parallel": ServerOption("--data-parallel-size", "whole", "copies of the model"),
    "dtype": ServerOption("--dtype", "text", "auto, bfloat16, float16 or float32"),
    "quantization": ServerOption(
        "--quantization", "text", "quantization of the weights, if the files do not specify it"
    ),
    "kv_cache_dtype": ServerOption("--kv-cache-dtype", "text", "auto or fp8"),
    "memory_share": ServerOption("--gpu-memory-utilization", "share", "share of the GPU's memory to use"),
    "max_sequences": ServerOption("--max-num-seqs", "whole", "maximum number of concurrent calls"),
    "max_batched_tokens": ServerOption("--max-num-batched-tokens", "whole", "maximum tokens of one step"),
    "chat_template": ServerOption(
        "--chat-template", "template", "a Jinja file instead of the model's own template"
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
    "eager": ServerOption("--enforce-eager", "flag", "start faster but run slower: no CUDA graphs"),
    "prefix_caching": ServerOption("--enable-prefix-caching", "flag", "cache common prefixes of prompts"),
    "kv_offload_gb": ServerOption(
        "--kv-offloading-size",
        "number",
        "GiB of the machine's memory for common prefixes that do not fit on the GPU",
    ),
    "trust_remote_code": ServerOption(
        "--trust-remote-code", "flag", "run Python code that comes with the model"
    ),
    "adapter_rank": ServerOption(
        "--max-lora-rank", "whole", "highest rank of adapters that load without a restart"
    ),
    "adapters_at_once": ServerOption(
        "--max-loras", "whole", "maximum number of adapters in use at the same time"
    ),
    "seed": ServerOption("--seed", "number", "for sampling"),
}
"""Parameters of a model on vLLM."""


VLLM_TRAITS = GpuTraits(
    title="vLLM",
    min_capability=7.5,
    weights={"awq": 7.5, "fbgemm_fp8": 8.0, "fp8": 7.5, "gptq": 7.5, "modelopt": 8.0, "mxfp4": 8.0},
    cache_parameter="kv_cache_dtype",
    cache_factors={"fp8": 0.5, "fp8_e4m3": 0.5, "fp8_e5m2": 0.5},
    cache_capability=8.9,
    online={"fp8": 0.55, "bitsandbytes": 0.35},  # embeddings stay unchanged
    cpu_build=True,
    spans_nodes=True,
)
"""Capabilities of the pinned build, from its installation page and ``get_min_capability`` of its classes."""


SERVER = tuple(module("vllm.entrypoints.openai.api_server"))

SEVERAL_NODES_COMMAND = ("vllm.entrypoints.cli.main", "serve")
"""The command that, unlike `SERVER`, can also start without a server of its own (``--headless``).

Source: https://docs.vllm.ai/en/latest/serving/parallelism_scaling/.
"""


class Vllm(GpuServer):
    """An engine for a folder with safetensors. Parameters: `VLLM_OPTIONS`."""

    name = "vllm"
    own_options = VLLM_OPTIONS
    gpu_traits = VLLM_TRAITS
    default_share = DEFAULT_GPU_SHARE
    tells_tokens = True

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        """See `portico_server.models.protocol.MeasuresMemory`."""
        return super().memory(spec, path) + int(spec.parameters.get("kv_offload_gb", 0) * GB)

    def check_adapter(self, spec: ModelSpec, path: Path | None, adapter: AdapterScale) -> None:
        """Raise `InvalidRequest` for an adapter that vLLM cannot load. Some problems appear only when vLLM loads the
        adapter.
        """
        rank_of(adapter, path)

    def advice(self, message: str) -> str:
        """Return advice for an error message of vLLM."""
        if match := re.search(r"invalid (tool call|reasoning) parser", message):
            key = "tool_call_parser" if match[1] == "tool call" else "reasoning_parser"
            return f"Set the model's parameter '{key}' to one of the listed values, or to none."
        if "--chat-template" in message or "chat template" in message.lower():
            return "Set the model's parameter 'chat_template' to the path of a Jinja file."
        return super().advice(message)

    def program(
        self, spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale] = ()
    ) -> server.ServerProgram:
        """Return the server program. The key is passed in the environment, because every user can see a command
        line.
        """
        line = [
            *SERVER,
            *("--model", str(path), "--served-model-name", spec.name),
            *("--host", "{host}", "--port", "{port}"),
            "--enable-prompt-tokens-details",
        ]
        if server.describe_folder(spec, path).task == "embedding":
            line += ["--runner", "pooling"]
        if spec.parameters.get("tool_call_parser"):
            line.append("--enable-auto-tool-choice")
        environment = {"VLLM_API_KEY": "{key}", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "{host}"}
        if rank := rank_for(spec, adapters):
            line.append("--enable-lora")
            spec = replace(spec, parameters={**spec.parameters, "adapter_rank": rank})
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        return server.ServerProgram([*line, *self.arguments(spec)], environment)

    def program_on(
        self, resources: Resources, spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale]
    ) -> server.ServerProgram:
        """Return the program; on several nodes, with one process on each node, of which the first serves.

        The GPUs of a node share each layer, and the nodes divide the layers, unless the model's parameters differ.
        """
        program = self.program(spec, path, adapters)
        if resources.nodes <= 1:
            return program
        sizes = {
            "tensor_parallel": max(1, resources.gpus),
            "pipeline_parallel": resources.nodes,
            "data_parallel": 1,
        }
        sizes |= {name: spec.parameters[name] for name in sizes if name in spec.parameters}
        if math.prod(sizes.values()) % resources.nodes:
            raise InvalidRequest(
                f"'{spec.name}' is set to use {math.prod(sizes.values())} GPUs, which {resources.nodes} nodes cannot "
                "divide evenly. Without 'tensor_parallel' and 'pipeline_parallel', each node has one group of GPUs.",
                param="parameters.pipeline_parallel",
            )
        line = [*SEVERAL_NODES_COMMAND, *program.arguments[len(SERVER) :]]
        for name in ("tensor_parallel", "pipeline_parallel"):
            if name not in spec.parameters:
                line += [VLLM_OPTIONS[name].flag, str(sizes[name])]
        line += ["--nnodes", str(resources.nodes), "--node-rank", "{rank}"]
        line += ["--master-addr", "{first_host}", "--master-port", "{first_port}", f"{FOLLOWER}--headless"]
        # Each node determines its own address.
        environment = {name: text for name, text in program.environment.items() if name != "VLLM_HOST_IP"}
        return replace(program, arguments=line, environment=environment, nodes=resources.nodes)

    def complete(
        self, running: RunningEngine, spec: ModelSpec, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> RunningEngine:
        """Return the engine with a tokenizer, and with a client that loads adapters while the server runs."""
        # Imported in the function, so that importing this module does not load aiohttp.
        from portico_server.models.engines.openai_client.tokenizers import VllmTokenizer

        assert running.process is not None
        tokenizer = VllmTokenizer(
            site.transport, running.process, spec.name, running.description.context_length
        )
        client = live_adapter_client(running, spec, site, rank_for(spec, adapters))
        return replace(running, client=client, tokenizer=tokenizer)
