"""Plans a model for this machine or a preset one: finds its headers and hands them to `choice`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.models.gguf import FILE_CUT_CODE, Gguf, read_header
from portico_server.models.hardware import METAL_SHARE, Gpu, Hardware, this_machine
from portico_server.models.plan import llamacpp, weights
from portico_server.models.plan.choice import (
    PlanOutcome,
    needs_gpu_server,
    plan_model,
    plan_other_engines,
    takes,
)
from portico_server.models.plan.llamacpp import CompanionFiles
from portico_server.models.plan.weights import (
    HEADER_BYTES,
    MAX_CONFIG_BYTES,
    ModelWeights,
    parse_config,
    pipeline_weights,
    weights_from_config,
)
from portico_server.models.protocol import Engine, MeasuresMemory, PlansGpus
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
    found = machine_presets().get(name) or _described(name)
    if found is None:
        raise InvalidRequest(
            f"There is no hardware '{name}' to plan for.{nearest(name, machine_presets())} There is "
            f"{', '.join(machine_presets())}; or describe it, such as '2 x A100 80GB, 512 GB, 64 cores'.",
            param="hardware",
        )
    return found


MAX_GPUS_COUNT = 64
MAX_MEMORY_GB = 65_536
DEFAULT_CORES_COUNT = 8
"""Of a machine that is described without them."""

_MEMORY = re.compile(r"(\d{1,15}(?:\.\d+)?) ?(?:gb?|gib)(?: (?:memory|ram))?", re.IGNORECASE)
_CORES = re.compile(r"(\d{1,4}) ?(?:cores?|cpus?)", re.IGNORECASE)
_COUNT = re.compile(r"(\d{1,2}) ?[x×*] ?", re.IGNORECASE)
_SIZE = re.compile(r"[\s-](\d{1,3}(?:\.\d+)?) ?(?:gb?|gib)\b", re.IGNORECASE)
_DECORATION = re.compile(r"nvidia|geforce|tesla|rtx|sxm\d?|pcie|hbm\d?e?|[^a-z0-9]")
"""What names of GPUs have beside the name that everybody says."""


@dataclass(frozen=True, slots=True)
class _KnownGpu:
    """``sizes``: what the driver shows of the memory, by what the data sheet says, in GB; the usual one first."""

    name: str
    sizes: Mapping[float, float]
    capability: float


@cache
def _known_gpus() -> Mapping[str, _KnownGpu]:
    rows = json.loads((files("portico_server.models.plan") / "gpus.json").read_text("utf-8"))["gpus"]
    return {
        _plain(row["name"]): _KnownGpu(
            row["name"],
            dict(zip(row["memory_gb"], row.get("usable_gb", row["memory_gb"]), strict=True)),
            row["capability"],
        )
        for row in rows
    }


def _plain(name: str) -> str:
    return _DECORATION.sub("", name.lower())


def _known(name: str) -> bool:
    return _plain(name) in _known_gpus()


def _described(text: str) -> Hardware | None:
    """A machine in words: GPUs, then its memory and cores, with commas between; ``None`` if it is none.

    Raises `InvalidRequest` for a GPU that is not known, or sizes that no machine has.
    """
    memory_gb, cores = 0.0, DEFAULT_CORES_COUNT
    gpus: tuple[Gpu, ...] = ()
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or (len(parts) == 1 and parts[0].islower() and parts[0].isalnum() and not _known(parts[0])):
        return None  # the name of a machine, with a typing error perhaps
    for part in parts:
        if found := _MEMORY.fullmatch(part):
            memory_gb = float(found[1])
        elif found := _CORES.fullmatch(part):
            cores = int(found[1])
        else:
            count, size = _COUNT.match(part), _SIZE.search(part)
            bare = _SIZE.sub("", part[count.end() if count else 0 :])
            gpus += _gpus(int(count[1]) if count else 1, bare, float(size[1]) if size else 0.0)
    memory_gb = memory_gb or max(16.0, 1.5 * sum(gpu.memory_bytes for gpu in gpus) / _GIB)
    if not cores >= 1 or memory_gb > MAX_MEMORY_GB or memory_gb < 1:
        raise InvalidRequest(
            f"'{text}' describes no machine: memory must be 1 to {MAX_MEMORY_GB:,} GB, and there must be a core.",
            param="hardware",
        )
    return Hardware(cores, int(memory_gb * _GIB), gpus)


def _gpus(count: int, name: str, size_gb: float) -> tuple[Gpu, ...]:
    known = _known_gpus().get(_plain(name))
    if known is None or not 1 <= count <= MAX_GPUS_COUNT:
        names = [one.name for one in _known_gpus().values()]
        close = nearest(name, names) if known is None else ""
        raise InvalidRequest(
            f"'{count} x {name[:80]}' is not a GPU to plan for.{close} 1 to {MAX_GPUS_COUNT} of these are: "
            f"{', '.join(names)}.",
            param="hardware",
        )
    if size_gb and size_gb not in known.sizes:
        raise InvalidRequest(
            f"An {known.name} has {' or '.join(f'{size:g}' for size in known.sizes)} GB, not {size_gb:g}.",
            param="hardware",
        )
    usable = known.sizes[size_gb or next(iter(known.sizes))]
    return (Gpu(f"NVIDIA {known.name}", int(usable * _GIB), capability=known.capability),) * count


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
    """Plans for models whose files are here or on a hub; ``choose`` says which engine takes one, ``gpu_engines`` which
    serve safetensors on GPUs.
    """

    def __init__(
        self,
        fetcher: ModelFetcher,
        settings: Settings,
        choose: Callable[[ModelSpec, Path | None], Engine],
        gpu_engines: Callable[[], Sequence[PlansGpus]],
    ) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._choose = choose
        self._gpu_engines = gpu_engines

    async def plan(
        self, spec: ModelSpec, hardware: str, parameters: Mapping[str, Any], budget: int | None
    ) -> PlanOutcome:
        """See `portico_server.models.service.ModelService.plan`."""
        machine = machine_preset(hardware) if hardware else await pools.MODELS.run(this_machine)
        source = parse_source(spec.source)
        spec = replace(spec, parameters=parameters)
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
        return await pools.MODELS.run(self._planned, model, spec, path, machine, budget)

    def _planned(
        self,
        model: Gguf | ModelWeights,
        spec: ModelSpec,
        path: Path | None,
        machine: Hardware,
        budget: int | None,
    ) -> PlanOutcome:
        """The plan for a model whose headers are known. Blocks. An engine refuses parameters that it does not have."""
        if isinstance(model, Gguf):
            self._choose(spec, path).describe(spec, None)
            loaded = CompanionFiles()
            if path is not None:
                loaded = llamacpp.find_companions(spec.name, spec.parameters, path, model)
            return plan_model(
                model, machine, spec.parameters, name=spec.name, budget=budget, beside=loaded, servers={}
            )
        engines = {engine.name: engine for engine in self._gpu_engines()}
        fitting = {name: engine for name, engine in engines.items() if takes(engine, spec, path)}
        if spec.engine == "auto" and fitting:
            engines = fitting
        elif spec.engine in (*engines, "auto"):
            wanted = next(iter(engines)) if needs_gpu_server(model, machine) else "transformers"
            chosen = wanted if spec.engine == "auto" else spec.engine
            self._choose(replace(spec, engine=chosen), path).describe(spec, None)
        made = plan_model(
            model,
            machine,
            spec.parameters,
            name=spec.name,
            budget=budget,
            engine=spec.engine,
            servers={name: engine.gpu_traits for name, engine in engines.items()},
        )
        self._choose(replace(spec, engine=made.engine), path).describe(spec, None)
        return made


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
