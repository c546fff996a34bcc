"""The engine `transformers`: a folder of safetensors in Portico's own small worker, one call at a time, on CPU or GPU.

The worker has the API of llama.cpp's server, so that the shared client adds tools, schemas and several choices.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import orjson

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.features.gpu_engines.external import server
from portico_server.features.gpu_engines.external.parsers import supports_thoughts
from portico_server.features.gpu_engines.external.server_options import (
    COMMON_OPTIONS,
    ServerOption,
    ServerOptions,
    option_arguments,
)
from portico_server.features.gpu_engines.transformers import WORKER
from portico_server.features.gpu_engines.transformers.worker import folder as folders
from portico_server.features.gpu_engines.transformers.worker.errors import UnusableModel
from portico_server.models import gpus
from portico_server.models.engines import peft_adapters as folder_adapters
from portico_server.models.fallback import fallbacks
from portico_server.models.gpus import NO_GPU_SHARE, GpuShare
from portico_server.models.known_models import profile_of
from portico_server.models.protocol import AdapterFormat, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec, Task
from portico_server.subprocesses import OFFLINE_ENVIRONMENT, module

if TYPE_CHECKING:
    from portico_server.models.plan.transformers import TransformersPlan

TRANSFORMERS_OPTIONS: ServerOptions = {
    "context_length": ServerOption("--context-length", "whole", "maximum tokens of one call"),
    "device": ServerOption(
        "--device", "text", "cpu, cuda, cuda:1 or mps, instead of the best available device"
    ),
    "dtype": ServerOption("--dtype", "text", "float32, bfloat16 or float16"),
    "threads": ServerOption("--threads", "whole", "threads on the CPU"),
    "pooling": ServerOption(
        "--pooling", "text", "mean, cls, last or max, instead of the embedding model's own setting"
    ),
    "max_seconds": ServerOption(
        "--max-seconds",
        "number",
        "maximum seconds of an accepted recording (7200), or of generated music (30)",
    ),
    "max_pixels": ServerOption(
        "--max-pixels", "whole", "maximum width times height of a generated image, in pixels (4194304)"
    ),
    "chat_template": ServerOption(
        "--chat-template", "path", "a Jinja file instead of the model's own template"
    ),
}
"""Parameters of a model on the engine `transformers`."""


MAX_CANDIDATES_APART = 100
"""Number of search candidates for a ranking model that reads question and passages separately, which costs less than
reading them in pairs.
"""


class Transformers:
    """An engine for a folder with safetensors. Parameters: `TRANSFORMERS_OPTIONS`."""

    name = "transformers"
    fetches = True
    options: ServerOptions = MappingProxyType({**TRANSFORMERS_OPTIONS, **COMMON_OPTIONS})
    adapter_format: AdapterFormat = "weights"
    tells_tokens = True

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        option_arguments(spec.name, self.name, spec.parameters, TRANSFORMERS_OPTIONS)
        fallbacks(spec)
        model_profile = profile_of(spec.source)
        task, context, dimensions = (
            (model_profile.task, model_profile.context_length, model_profile.dimensions)
            if model_profile
            else (None,) * 3
        )
        mean = edits = apart = False
        if path is not None and path.is_dir():
            try:
                model_folder = folders.read_folder(path)
                mean = model_folder.task == "embedding" and folders.pools_by_mean(path)
                apart = folders.reranks_by(path, model_folder.config) in ("tokens", "words")
            except UnusableModel:
                # starting the model reports what is wrong with the folder; the list of models
                # must not fail because of it
                pass
            else:
                task, context = cast("Task", model_folder.task), model_folder.context_length or context
                edits = model_folder.changes
                dimensions = model_folder.hidden_size or dimensions
        task = cast("Task", spec.task) if spec.task != "auto" else task or "chat"
        context = spec.parameters.get("context_length") or context
        if task == "image":
            return ModelDescription(task, edits=edits)
        if task == "rerank" and apart:
            return ModelDescription(task, context, labels={"candidates": MAX_CANDIDATES_APART})
        if task != "embedding":
            thoughts = task == "chat" and supports_thoughts(path, spec.parameters)
            return ModelDescription(task, context, thoughts=thoughts)
        pooling = spec.parameters.get("pooling")
        return ModelDescription(task, context, dimensions, spans=pooling == "mean" if pooling else mean)

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        transformers_plan = _plan_for(spec, path)
        return transformers_plan.memory if transformers_plan is not None else 0

    def occupies(self, spec: ModelSpec, path: Path | None) -> GpuShare:
        """See `portico_server.models.protocol.OccupiesGpus`. Portico does not manage a GPU that the spec names by
        number.
        """
        transformers_plan = _plan_for(spec, path)
        if (
            transformers_plan is None
            or transformers_plan.device == "cpu"
            or transformers_plan.shared
            or ":" in _device(spec)
        ):
            return NO_GPU_SHARE
        return GpuShare(1, transformers_plan.total)

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        # Imported in the function, so that importing this module does not load aiohttp.
        from portico_server.features.gpu_engines.transformers.client import transformers_client
        from portico_server.models.engines.openai_client.tokenizers import VllmTokenizer
        from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute

        assert path is not None
        await pools.MODELS.run(_check, spec, path)
        python = await pools.MODELS.run(server.engine_interpreter, self.name, spec, site)
        transformers_plan = await pools.MODELS.run(_plan_for, spec, path)
        if transformers_plan is not None:
            spec = replace(spec, parameters={**transformers_plan.parameters, **spec.parameters})
        child = await ServerProcess.start(
            "portico_server.features.gpu_engines.external.supervisor",
            {
                "command": [str(python), *_command(spec, path)],
                "environment": {
                    **OFFLINE_ENVIRONMENT,
                    "PYTHONPATH": str(Path(__file__).parent),
                    "WORKER_KEY": "{key}",
                    **gpus.gpu_environment(site.gpus),
                },
                "health": "/health",
            },
            site,
            name=spec.name,
        )
        try:
            deadline = asyncio.get_running_loop().time() + site.load_timeout
            route = EngineRoute(child.endpoint(spec.name, base=""), "props")
            props = orjson.loads(await site.transport.get(route, deadline=deadline))
            description = replace(
                self.describe(spec, path),
                context_length=props["default_generation_settings"]["n_ctx"] or None,
                dimensions=props["dimensions"] or None,
                parameters=props["parameters"],
                edits=props["edits"],
                voices=tuple(props.get("voices") or ()),
            )
            client = transformers_client(site.transport, child, spec.name, props, description)
            for adapter in site.adapters:
                await client.attach_or_log(adapter)
        except (*CONNECTION_ERRORS, orjson.JSONDecodeError, KeyError) as error:
            await child.stop()
            raise EngineFailed(
                f"The engine of '{spec.name}' started but does not respond: {error}."
            ) from error
        except BaseException:
            await child.stop()
            raise
        tokenizer = VllmTokenizer(site.transport, child, spec.name, description.context_length)
        reads = description.task in ("chat", "embedding")
        return RunningEngine(client, description, child, tokenizer if reads else None)

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
    ) -> None:
        """See `portico_server.models.protocol.TriesAdapters`. Compares names and shapes without starting a process."""
        await pools.MODELS.run(folder_adapters.check_adapter, self.name, adapter, path, patterns=True)


def _device(spec: ModelSpec) -> str:
    return str(spec.parameters.get("device", ""))


def _command(spec: ModelSpec, path: Path) -> list[str]:
    return [
        *module(WORKER, "serve", "--model", str(path), "--name", spec.name),
        *("--host", "{host}", "--port", "{port}"),
        "--task",
        spec.task,
        *option_arguments(spec.name, "transformers", spec.parameters, TRANSFORMERS_OPTIONS),
    ]


def _check(spec: ModelSpec, path: Path) -> None:
    """Check a folder without loading it. Raise `InvalidRequest`. Blocks."""
    if not path.is_dir():
        raise InvalidRequest(
            f"'{spec.source}' is a single file, but the engine 'transformers' needs a folder with "
            "safetensors. Use the engine 'llamacpp' for it, or name the repository of the original model.",
            code="model_file_invalid",
            param="source",
        )
    try:
        folders.read_folder(path)
        folders.check_weights(path)
    except UnusableModel as error:
        raise InvalidRequest(str(error), code="model_file_invalid", param="source") from error


def _plan_for(spec: ModelSpec, path: Path | None) -> TransformersPlan | None:
    """Return the plan for this machine, or ``None`` if the files do not contain enough information. Blocks."""
    # Imported in the function, so that importing this module does not load psutil.
    from portico_server.models.hardware import this_machine
    from portico_server.models.plan.transformers import plan_transformers
    from portico_server.models.plan.weight_files import read_weights
    from portico_server.models.plan.weights import ModelWeights

    if path is None or not path.is_dir():
        return None
    try:
        model = read_weights(path, spec.name)
    except InvalidRequest:
        return (
            None  # the planner does not know the architecture; starting the model will show whether it works
        )
    return (
        plan_transformers(model, this_machine(), spec.parameters) if isinstance(model, ModelWeights) else None
    )
