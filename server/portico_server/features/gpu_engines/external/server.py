"""Starts a third-party server for a folder of safetensors, determines what the server offers, and watches the server's
GPU.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import orjson

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, Unavailable
from portico_server.features.gpu_engines.external.parsers import supports_thoughts
from portico_server.launchers.several_nodes import node_command
from portico_server.models import gpus
from portico_server.models.engines.openai_client.quirks import Quirks
from portico_server.models.environments.built_environment import find_interpreter, require_built
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.known_models import profile_of
from portico_server.models.protocol import EngineClient, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec, Task
from portico_server.subprocesses import OFFLINE_ENVIRONMENT

if TYPE_CHECKING:
    from portico_server.models.hardware import Gpu, Hardware
from portico_server.features.gpu_engines.external.error_translator import Advice, ErrorTranslator
from portico_server.features.gpu_engines.external.gpu_watchdog import GpuWatchdog


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """The command to run after the interpreter. ``{host}``, ``{port}`` and ``{key}`` in its arguments are replaced."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    """The number of nodes; with several, the arguments are those of `node_command`."""
    health: str = "/health"
    reports_lost_gpu: bool = True
    """True if the errors of the server report a lost GPU. If not, the health of the server is checked after each
    error.
    """


MakeClient: TypeAlias = Callable[[ServerProcess, ModelDescription], EngineClient]


def engine_interpreter(engine: str, spec: ModelSpec, site: LaunchContext) -> Path:
    """Return the interpreter in the parameter ``python``, or that of the engine's environment. Raises
    `InvalidRequest`, `Unavailable`.
    """
    python_path = spec.parameters.get("python")
    if python_path is None:
        recipe = RECIPES.get(engine)
        found_path = require_built(site.environments / engine, recipe) if recipe else find_interpreter(engine)
        if found_path is None:
            raise Unavailable(
                f"Portico has no environment for the engine '{engine}': set the parameter 'python' of "
                f"'{spec.name}' to the path of an interpreter that has the engine installed, or put the "
                "engine's command on the PATH of the daemon.",
                code="engine_not_installed",
            )
        return found_path
    path = Path(str(python_path)).expanduser()
    if not path.is_absolute() or not path.is_file() or not path.name.startswith("python"):
        raise InvalidRequest(
            f"The parameter 'python' of '{spec.name}' must be the absolute path of an interpreter; "
            f"{python_path} does not exist.",
            param="parameters.python",
        )
    return path


HOST_BYTES = 4 * 1024**3
"""Estimated memory of the machine, in bytes, that a server and its processes use before they have been measured.

vLLM 0.32 without a GPU and with a model of 0.3 GB used 4.55 GB, 4 GB of them for its cache.
"""


def host_memory(path: Path | None) -> int:
    """Return the bytes of the machine's memory that a model on a separate server needs. Blocks."""
    from portico_server.models.hardware import this_machine

    if path is None or any(not gpu.shared for gpu in this_machine().gpus):
        return HOST_BYTES
    return HOST_BYTES + sum(file.stat().st_size for file in path.glob("*.safetensors"))


MAX_CONFIG_BYTES = 1 << 20
"""Maximum size of a model's configuration, in bytes. Typical configurations have several kilobytes."""

MAX_COUNT = 1 << 31
"""Number of tokens, layers or dimensions above which a configuration is considered invalid."""


def describe_folder(spec: ModelSpec, path: Path | None) -> ModelDescription:
    """Return the description of a model, based on its profile and the configuration in its folder. Reads only small
    files.
    """
    model_profile = profile_of(spec.source)
    facts = _configuration(path)
    task: Task = "chat"
    if model_profile is not None:
        task = model_profile.task
    architectures = _architectures(path)
    if path is not None and (path / "modules.json").is_file():
        task = "embedding"  # a sentence-transformers folder
    elif "WhisperForConditionalGeneration" in architectures:
        task = "transcription"
    elif any(name.endswith("ForCausalLM") for name in architectures):
        task = "chat"
    if spec.task != "auto":
        task = cast("Task", spec.task) if spec.task in ("embedding", "transcription") else "chat"
    context = spec.parameters.get("context_length") or facts.get("max_position_embeddings")
    if context is None and model_profile is not None:
        context = model_profile.context_length
    dimensions = facts.get("hidden_size") or (model_profile.dimensions if model_profile else None)
    return ModelDescription(
        task,
        context,
        dimensions if task == "embedding" else None,
        long_prompts=task == "chat",
        thoughts=task == "chat" and supports_thoughts(path, spec.parameters),
    )


def _architectures(path: Path | None) -> list[str]:
    """Return the names of the classes that a model's configuration lists."""
    names = _document(path).get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _configuration(path: Path | None) -> dict[str, int]:
    """Return the counts in a model's configuration that are plausible."""
    document = _document(path)
    inner = document.get("text_config")
    return {
        key: value
        for key, value in (inner if isinstance(inner, dict) else document).items()
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT
    }


def _document(path: Path | None) -> dict[str, Any]:
    """Return the ``config.json`` of a folder, or an empty object if the file is unreadable.

    Starting the model reports the error. The list of models must not fail because of it.
    """
    if path is None:
        return {}
    try:
        with (path / "config.json").open("rb") as file:
            document = json.loads(file.read(MAX_CONFIG_BYTES + 1)[:MAX_CONFIG_BYTES])
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def check_free(
    spec: ModelSpec, machine: Hardware, numbers: Sequence[int], needed_bytes: Callable[[Gpu], float]
) -> None:
    """Raise `Unavailable` if other programs occupy GPU memory that the engine needs. Otherwise, its start would fail
    only after a minute.

    ``numbers`` are the GPUs that the engine may use. ``needed_bytes`` returns the bytes that it needs on a GPU.
    Blocks.
    """
    # Imported here because it imports psutil, which must not be loaded before a model is used.
    from portico_server.models.hardware import free_gpu_memory

    own_gpus = [gpu for gpu in machine.gpus if not gpu.shared]
    free = free_gpu_memory() if own_gpus else ()
    for number in numbers or range(min(1, len(own_gpus))):
        if number >= len(free) or number >= len(own_gpus) or free[number] >= needed_bytes(own_gpus[number]):
            continue
        free_gb, total_gb = free[number] / gpus.GB, own_gpus[number].memory_bytes / gpus.GB
        raise Unavailable(
            f"'{spec.name}' needs {needed_bytes(own_gpus[number]) / gpus.GB:.1f} GB of GPU {number} "
            f"({own_gpus[number].name}), but only {free_gb:.1f} of {total_gb:.1f} GB are free: other programs use "
            "the rest (nvidia-smi lists them). End them, or give the model a smaller 'memory_share'.",
            code="gpu_memory_in_use",
        )


async def start_server(
    engine: str,
    program: ServerProgram,
    spec: ModelSpec,
    path: Path | None,
    site: LaunchContext,
    *,
    advice: Advice,
    quirks: Quirks,
    enforces: bool = False,
    make_client: MakeClient | None = None,
) -> RunningEngine:
    """Start ``program``, and wait until the server responds.

    ``enforces`` means that the server parses the model's tool calls and enforces required tools. ``make_client``
    creates the client if the server's bytes cannot be passed on unchanged. Raises `PorticoError`. If the start fails
    or is cancelled, nothing is left behind.
    """
    # Imported here because it imports aiohttp, which must not be loaded before a model is used.
    from portico_server.models.engines.openai_client.client import ConstrainedTools
    from portico_server.models.engines.openai_client.passthrough import Passthrough
    from portico_server.models.engines.openai_client.quirks_client import QuirksClient
    from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute, Upstream

    assert path is not None
    if not await pools.MODELS.run(path.is_dir):
        raise InvalidRequest(
            f"'{spec.source}' is one file, but the engine '{engine}' requires a folder with safetensors. Use "
            "the engine 'llamacpp' for the file, or specify the repository of the original model.",
            code="model_file_invalid",
            param="source",
        )
    python = await pools.MODELS.run(engine_interpreter, engine, spec, site)
    child = await _child(python, program, spec, site, advice)
    try:
        deadline = asyncio.get_running_loop().time() + site.load_timeout
        listing = await site.transport.get(
            EngineRoute(child.endpoint(spec.name), "models"), deadline=deadline
        )
        description = _merge_listing(describe_folder(spec, path), orjson.loads(listing))
    except (*CONNECTION_ERRORS, orjson.JSONDecodeError) as error:
        await child.stop()
        raise EngineFailed(f"The engine of '{spec.name}' started but does not respond: {error}.") from error
    except BaseException:
        await child.stop()
        raise
    client: EngineClient
    if make_client is not None:
        client = make_client(child, description)
    else:
        client = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        if not enforces:
            client = ConstrainedTools(client, site.transport, child, spec.name, description)
    health = EngineRoute(child.endpoint(spec.name, base=""), program.health.lstrip("/"))
    client = GpuWatchdog(
        client, child, site.transport, health, spec.name, reports_lost_gpu=program.reports_lost_gpu
    )
    client = QuirksClient(ErrorTranslator(client, advice), quirks, spec.name)
    return RunningEngine(client, description, child)


async def _child(
    python: Path, program: ServerProgram, spec: ModelSpec, site: LaunchContext, advice: Advice
) -> ServerProcess:
    try:
        return await ServerProcess.start(
            "portico_server.features.gpu_engines.external.supervisor",
            {
                "command": [str(python), *program.arguments]
                if program.nodes == 1
                else node_command(python, program.nodes, program.arguments),
                "environment": {
                    **OFFLINE_ENVIRONMENT,
                    **program.environment,
                    **gpus.gpu_environment(site.gpus),
                },
                "health": program.health,
            },
            site,
            name=spec.name,
        )
    except EngineFailed as error:
        if not (wise := advice(error.message)):
            raise
        raise EngineFailed(f"{error.message} {wise}", code=error.code) from error


def _merge_listing(model_description: ModelDescription, listing: Any) -> ModelDescription:
    """Return the description, updated with the information that the server reports about its model. It overrides that
    from the model's files.
    """
    models = listing.get("data") if isinstance(listing, dict) else None
    length = models[0].get("max_model_len") if models else None
    if not isinstance(length, int):
        return model_description
    return replace(model_description, context_length=length)
