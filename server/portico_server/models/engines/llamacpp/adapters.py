"""Adapters on llama.cpp, which are loaded with the model and whose scales are set by each call. Also reports the
progress of loading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale
from portico_server.models.adapters.gguf_adapter import GgufBase, prepare_gguf_adapter
from portico_server.models.exit_reason import ReportStage
from portico_server.models.gguf import parts
from portico_server.models.plan.llamacpp import LlamaCppPlan
from portico_server.models.protocol import LaunchContext
from portico_server.models.server_process import ServerProcess, WatchStart
from portico_server.models.spec import ModelSpec

# The progress of loading is measured from outside. llama.cpp's Python package has no callback for it, and the
# log does not report it. But llama.cpp memory-maps the files and reads them sequentially, and on Linux, the
# parts already read count as shared memory of the process.


POLL_INTERVAL_S = 0.2
"""Interval between measurements of the progress, in seconds."""


def report_load_progress(files: Iterable[str], report: ReportStage | None) -> WatchStart | None:
    """Report the stage ``load``, in percent of the bytes of ``files``, then the stage ``warm-up`` once all bytes are
    read.

    About ten MB of libraries are counted too, so the percentage of a small model is slightly too high.
    """
    if report is None:
        return None
    paths = [part for file in files if file for part in parts(Path(file))]

    async def watch(pid: int) -> None:
        before = shared_bytes(pid)
        size = await pools.MODELS.run(_size, paths)
        while before is not None and (now := shared_bytes(pid)) is not None:
            percent = 100 * max(0, now - before) // max(1, size)
            if percent >= 100:
                report("warm-up", None)
                return
            if percent:
                report("load", percent)
            # The system does not report when memory has been read.
            await asyncio.sleep(POLL_INTERVAL_S)

    return watch


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def shared_bytes(pid: int) -> int | None:
    """Return how many bytes of files and of shared memory are in a process's memory. Return ``None`` if the number is
    not available or the process has ended.
    """
    import psutil  # slow to import, and not needed at startup

    try:
        shared_memory = getattr(psutil.Process(pid).memory_info(), "shared", None)
    except psutil.Error:
        return None
    return int(shared_memory) if shared_memory is not None else None


logger = logging.getLogger(__name__)

WORKER_MODULE = "portico_server.models.engines.llamacpp.worker"

TRIAL_CONTEXT_TOKENS = 256
"""Context length, in tokens, of a process that only tests whether the model starts with an adapter."""


async def start_with(
    config: Mapping[str, Any], path: Path, name: str, site: LaunchContext
) -> tuple[ServerProcess, list[AdapterScale]]:
    """Start the worker. Return it with those of the site's adapters that it has loaded.

    If llama.cpp rejects an adapter, the model starts without it. Raises `PorticoError`.
    """
    usable = await pools.MODELS.run(_usable, name, path, site.adapters)
    if usable:
        # llama.cpp reuses a cached prompt without checking which adapter read it, so the base model could
        # answer from an adapter's cache. llama.cpp clears slots when the adapter changes, but not this cache.
        with_them = {
            **config,
            "plan": {**config["plan"], "prompts_mb": 0},
            "adapters": [str(new_path) for _, new_path in usable],
        }
        try:
            return await _start(with_them, name, site), [adapter for adapter, _ in usable]
        except EngineFailed as error:
            if error.code != "load_failed":
                raise
            logger.error("%s Retrying without its adapters.", error.message)
    return await _start({**config, "adapters": []}, name, site), []


async def try_adapters(spec: ModelSpec, path: Path, adapter: AdapterScale, site: LaunchContext) -> None:
    """Test an adapter in a separate process with a minimal context, because llama.cpp exits if it cannot load an
    adapter.

    Raises `InvalidRequest`.
    """
    if not await pools.MODELS.run(path.is_file):
        raise InvalidRequest(f"'{spec.source}' is not a single GGUF file.", code="not_gguf", param="base")
    new_path = await pools.MODELS.run(lambda: prepare_gguf_adapter(adapter.path, GgufBase.read(path)))
    plan = LlamaCppPlan(
        embedding=False, slots=1, context_length=TRIAL_CONTEXT_TOKENS, threads=1, gpu_layers=0
    )
    config = {
        "model": str(path),
        "name": spec.name,
        "plan": asdict(plan),
        "adapters": [str(new_path)],
        "warmup": False,  # a warm-up would read all the weights
    }
    try:
        child = await _start(config, spec.name, site)
    except EngineFailed as error:
        raise InvalidRequest(
            f"llama.cpp cannot load the adapter '{adapter.name}' with '{spec.name}'. See the model's log for "
            f"the reason: portico logs {spec.name}",
            code="adapter_invalid",
            param="path",
        ) from error
    await child.stop()


def adapter_scales(
    loaded_adapter_scales: Sequence[AdapterScale], adapter_scale: AdapterScale | None
) -> dict[str, Any]:
    """Return the adapter options of a call. They set the scale of every loaded adapter, because the engine keeps
    scales that are not set.

    Raises `ValueError` if the requested adapter is not loaded.
    """
    if not loaded_adapter_scales:
        if adapter_scale is not None:
            raise ValueError(adapter_scale.name)
        return {}
    chosen_adapter = -1
    if adapter_scale is not None:
        places = [
            number for number, scale in enumerate(loaded_adapter_scales) if is_same_file(scale, adapter_scale)
        ]
        if not places:
            raise ValueError(adapter_scale.name)
        chosen_adapter = places[0]
    return {
        "lora": [
            {
                "id": number,
                "scale": adapter_scale.scale
                if adapter_scale is not None and number == chosen_adapter
                else 0.0,
            }
            for number in range(len(loaded_adapter_scales))
        ]
    }


def is_same_file(adapter_scale: AdapterScale, other: AdapterScale) -> bool:
    """Return whether both are the same adapter. Their scales may differ."""
    return (adapter_scale.name, adapter_scale.path) == (other.name, other.path)


async def _start(config: Mapping[str, Any], name: str, site: LaunchContext) -> ServerProcess:
    plan = config["plan"]
    files = (config["model"], plan["projector"], plan["draft"])
    return await ServerProcess.start(
        WORKER_MODULE,
        config,
        site,
        name=name,
        watch=report_load_progress(files, site.report),
    )


def _usable(name: str, path: Path, adapters: Sequence[AdapterScale]) -> list[tuple[AdapterScale, Path]]:
    """Return each adapter with the file that llama.cpp loads for the adapter. Blocks."""
    usable_adapters: list[tuple[AdapterScale, Path]] = []
    base = GgufBase.read(path) if adapters else None
    for adapter in adapters:
        assert base is not None
        try:
            usable_adapters.append((adapter, prepare_gguf_adapter(adapter.path, base)))
        except PorticoError as error:
            logger.error("skipping the adapter %s of %s: %s", adapter.name, name, error.message)
    return usable_adapters
