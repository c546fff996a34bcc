"""Adapters on llama.cpp: loaded with the model, all without a say, and one given its scale by each call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale
from portico_server.engines.adapters.gguf_adapter import Base, for_llamacpp
from portico_server.engines.child import Child
from portico_server.engines.llamacpp.plan import Plan
from portico_server.engines.llamacpp.progress import watching
from portico_server.engines.protocol import Site
from portico_server.engines.spec import ModelSpec

logger = logging.getLogger(__name__)

WORKER = "portico_server.engines.llamacpp.worker"

TRIAL_CONTEXT = 256
"""Tokens of context of a process that only has to show that it starts."""


async def start_with(
    config: Mapping[str, Any], path: Path, name: str, site: Site
) -> tuple[Child, list[AdapterScale]]:
    """Start the worker, and say which of the site's adapters it has. One that llama.cpp does not take must not keep the
    model from starting. Raises `PorticoError`.
    """
    usable = await pools.MODELS.run(_usable, name, path, site.adapters)
    if usable:
        # llama.cpp does not ask which adapter a prompt was read with before it takes it up again: a base model then
        # answers from an adapter's memory. Slots are cleared when the adapter changes, this cache is not.
        with_them = {
            **config,
            "plan": {**config["plan"], "prompts_mb": 0},
            "adapters": [str(made) for _, made in usable],
        }
        try:
            return await _start(with_them, name, site), [adapter for adapter, _ in usable]
        except EngineFailed as error:
            if error.code != "load_failed":
                raise
            logger.error("%s Trying without its adapters.", error.message)
    return await _start({**config, "adapters": []}, name, site), []


async def attempt(spec: ModelSpec, path: Path, adapter: AdapterScale, site: Site) -> None:
    """Load it beside whatever runs, in a process with a context of next to nothing: llama.cpp ends when it cannot load
    an adapter. Raises `InvalidRequest`.
    """
    if not await pools.MODELS.run(path.is_file):
        raise InvalidRequest(f"'{spec.source}' is not one GGUF file.", code="not_gguf", param="base")
    made = await pools.MODELS.run(lambda: for_llamacpp(adapter.path, Base.read(path)))
    plan = Plan(embedding=False, slots=1, context_length=TRIAL_CONTEXT, threads=1, gpu_layers=0)
    config = {
        "model": str(path),
        "name": spec.name,
        "plan": asdict(plan),
        "adapters": [str(made)],
        "warmup": False,  # it would read all the weights
    }
    try:
        child = await _start(config, spec.name, site)
    except EngineFailed as error:
        raise InvalidRequest(
            f"llama.cpp does not take the adapter '{adapter.name}' with '{spec.name}'. The model's log says why: "
            f"portico logs {spec.name}",
            code="adapter_invalid",
            param="path",
        ) from error
    await child.stop()


def scales(loaded: Sequence[AdapterScale], wanted: AdapterScale | None) -> dict[str, Any]:
    """What a call says of adapters: the scale of each that is loaded, since the engine keeps those that are not named.

    Raises `ValueError` if the wanted one is not loaded.
    """
    if not loaded:
        if wanted is not None:
            raise ValueError(wanted.name)
        return {}
    chosen = -1
    if wanted is not None:
        places = [number for number, one in enumerate(loaded) if same(one, wanted)]
        if not places:
            raise ValueError(wanted.name)
        chosen = places[0]
    return {
        "lora": [
            {"id": number, "scale": wanted.scale if wanted is not None and number == chosen else 0.0}
            for number in range(len(loaded))
        ]
    }


def same(one: AdapterScale, other: AdapterScale) -> bool:
    """Whether they are one adapter, at whatever scale."""
    return (one.name, one.path) == (other.name, other.path)


async def _start(config: Mapping[str, Any], name: str, site: Site) -> Child:
    plan = config["plan"]
    files = (config["model"], plan["projector"], plan["draft"])
    return await Child.start(
        WORKER,
        config,
        name=name,
        log=site.log,
        timeout=site.load_timeout,
        watch=watching(files, site.report),
    )


def _usable(name: str, path: Path, adapters: Sequence[AdapterScale]) -> list[tuple[AdapterScale, Path]]:
    """Each adapter with the file that llama.cpp loads for it. Blocks."""
    found: list[tuple[AdapterScale, Path]] = []
    base = Base.read(path) if adapters else None
    for adapter in adapters:
        assert base is not None
        try:
            found.append((adapter, for_llamacpp(adapter.path, base)))
        except PorticoError as error:
            logger.error("the adapter %s of %s is left out: %s", adapter.name, name, error.message)
    return found
