"""Plans a model for this machine or a preset one: finds its headers and hands them to `choice`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.models.gguf import FILE_CUT_CODE, Gguf, read_header
from portico_server.models.hardware import METAL_SHARE, Gpu, Hardware, this_machine
from portico_server.models.plan import llamacpp, weights
from portico_server.models.plan.choice import PlanOutcome, plan_model, plan_other_engines
from portico_server.models.plan.llamacpp import CompanionFiles
from portico_server.models.plan.weights import (
    HEADER_BYTES,
    MAX_CONFIG_BYTES,
    ModelWeights,
    parse_config,
    pipeline_weights,
    weights_from_config,
)
from portico_server.models.protocol import Engine, MeasuresMemory
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.models.sources.download import get_range
from portico_server.models.sources.file_choice import PIPELINE_INDEX
from portico_server.models.sources.hub import ListedFile, list_repository
from portico_server.models.sources.source import ModelSource
from portico_server.models.spec import ModelSpec
from portico_server.settings import MB_BYTES, Settings

# Machines to plan for that are not this one. They are data: ``presets.json``, memory in GiB.


_GIB = 1024**3


@cache
def machine_presets() -> Mapping[str, Hardware]:
    """Every machine by its name, small ones first."""
    rows = json.loads((files("portico_server.models.plan") / "presets.json").read_text("utf-8"))
    return {row["name"]: _hardware(row) for row in rows}


def machine_preset(name: str) -> Hardware:
    """One machine. Raises `InvalidRequest` with the names."""
    found = machine_presets().get(name)
    if found is None:
        raise InvalidRequest(
            f"There is no hardware '{name}' to plan for.{nearest(name, machine_presets())} There is "
            f"{', '.join(machine_presets())}.",
            param="hardware",
        )
    return found


def _hardware(row: Mapping[str, Any]) -> Hardware:
    memory = int(row["memory_gb"] * _GIB)
    gpu = row.get("gpu")
    if gpu is None:
        return Hardware(row["cores"], memory)
    if gpu.get("shared"):
        return Hardware(row["cores"], memory, (Gpu(gpu["name"], int(memory * METAL_SHARE), shared=True),))
    one = Gpu(gpu["name"], int(gpu["memory_gb"] * _GIB), capability=gpu["capability"])
    return Hardware(row["cores"], memory, (one,) * gpu.get("count", 1))


class Planner:
    """Plans for models whose files are here or on a hub; ``choose`` says which engine takes one."""

    def __init__(
        self, fetcher: ModelFetcher, settings: Settings, choose: Callable[[ModelSpec, Path | None], Engine]
    ) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._choose = choose

    async def plan(
        self, spec: ModelSpec, hardware: str, parameters: Mapping[str, Any], budget: int | None
    ) -> PlanOutcome:
        """See `portico_server.models.service.ModelService.plan`."""
        machine = machine_preset(hardware) if hardware else await pools.MODELS.run(this_machine)
        source = parse_source(spec.source)
        path = self._fetcher.cached(source) if source.fetchable else None
        engine = self._choose(spec, path)
        if not source.fetchable:
            memory = engine.memory(spec, None) if isinstance(engine, MeasuresMemory) else 0
            reason = (
                "It comes with Portico and takes a process of its own."
                if memory
                else "It answers from another process; nothing of it is held here."
            )
            return plan_other_engines(spec.name, engine.name, machine, reason, memory)
        engine.describe(replace(spec, parameters=parameters), None)  # refuses parameters it does not have
        if path is not None:
            model = await pools.MODELS.run(weights.read_weights, path, spec.name)
        elif source.scheme in ("hf", "modelscope") and not self._settings.offline:
            model = await read_remote_weights(source, spec.name, self._settings)
        else:
            raise NotFound(
                f"The files of '{spec.source}' are not on this machine, so nothing is known of it yet. Fetch them "
                f"first: portico pull {spec.source}",
                code="model_file_missing",
                param="model",
            )
        loaded = CompanionFiles()
        if isinstance(model, Gguf) and path is not None:
            loaded = await pools.MODELS.run(llamacpp.find_companions, spec.name, parameters, path, model)
        return plan_model(
            model, machine, parameters, name=spec.name, budget=budget, engine=spec.engine, beside=loaded
        )


# Reads the headers of a model that is still on its hub, without fetching the model. Imports aiohttp.


READ_STEPS_BYTES = (1 * MB_BYTES, 8 * MB_BYTES, 32 * MB_BYTES, 96 * MB_BYTES)
"""How much of a GGUF file is read until its header is whole: a large vocabulary takes some ten MB."""


async def read_remote_weights(source: ModelSource, name: str, settings: Settings) -> Gguf | ModelWeights:
    """What a repository's model says about itself. Raises as a fetch does."""
    async with list_repository(source, settings.models / source.folder, settings) as found:
        size = sum(item.size for item in found.expected.values())
        path = found.choice.path
        if path.endswith(".gguf"):
            whole = found.listing.files[path].size
            return replace(await _header(found, path, whole), file_size=size)
        weights = {file: item.size for file, item in found.expected.items() if file.endswith(".safetensors")}
        if PIPELINE_INDEX in found.expected:
            index = parse_config(await get_range(found.remote(PIPELINE_INDEX), 0, MAX_CONFIG_BYTES + 1), name)
            largest = max(weights, key=lambda file: weights[file])
            header = await get_range(found.remote(largest), 0, HEADER_BYTES)
            return pipeline_weights(name, index, sum(weights.values()), header)
        if "config.json" not in found.listing.files:
            raise InvalidRequest(f"'{source}' has no config.json beside its weights.", param="source")
        data = await get_range(found.remote("config.json"), 0, MAX_CONFIG_BYTES + 1)
        return weights_from_config(name, parse_config(data, name), sum(weights.values()))


async def _header(found: ListedFile, path: str, size: int) -> Gguf:
    data = b""
    for step in READ_STEPS_BYTES:
        data += await get_range(found.remote(path), len(data), step)
        try:
            return read_header(data, Path(path), size)
        except InvalidRequest as error:
            if error.code != FILE_CUT_CODE or len(data) >= size or step == READ_STEPS_BYTES[-1]:
                raise
    raise AssertionError("the last step returns or raises")
