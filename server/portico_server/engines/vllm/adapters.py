"""Adapters on vLLM: loaded while it runs, up to the rank that it was started for.

Source: https://docs.vllm.ai/en/latest/features/lora.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import orjson

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale
from portico_server.engines.adapters import peft
from portico_server.engines.adapters.speakers import Hot
from portico_server.engines.guest import adapters as folders
from portico_server.engines.protocol import Running, Site
from portico_server.engines.spec import ModelSpec

RANKS = (16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as its highest rank; the smallest is its own default."""


def rank_of(adapter: AdapterScale, path: Path | None) -> int:
    """The highest rank in an adapter. Blocks. Raises `InvalidRequest` if vLLM cannot load it for this model."""
    found = folders.check("vllm", adapter, path).highest_rank
    if found > RANKS[-1]:
        raise InvalidRequest(
            f"The adapter '{adapter.name}' has rank {found}, and vLLM takes {RANKS[-1]} at most.",
            code="adapter_invalid",
            param="path",
        )
    return found


def rank_for(spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale]) -> int:
    """The rank to start vLLM for: the parameter, or what its adapters need; 0 if there are none. Blocks."""
    wanted = spec.parameters.get("adapter_rank")
    ranks = [wanted] if isinstance(wanted, int) else []
    folders.usable(spec.name, adapters, lambda adapter: ranks.append(rank_of(adapter, path)))
    return next(rank for rank in RANKS if rank >= max(ranks)) if ranks else 0


@lru_cache(maxsize=256)
def _rank(path: Path) -> int:
    """The same once more, of what was checked before; more than any if it cannot be read any more."""
    try:
        return peft.read(path).highest_rank
    except PorticoError:
        return RANKS[-1] + 1


def hot(running: Running, spec: ModelSpec, site: Site, rank: int) -> Hot:
    """The speaker of a vLLM that was started for adapters up to ``rank``."""
    # aiohttp is imported by now; this module is imported before it.
    from portico_server.engines.refusal import error_of
    from portico_server.engines.transport import CONNECTION_ERRORS, Route, read_all

    assert running.child is not None
    child = running.child
    endpoint = child.endpoint(spec.name)

    async def ask(operation: str, body: dict[str, str]) -> None:
        deadline = asyncio.get_running_loop().time() + site.load_timeout
        try:
            response = await site.transport.post(
                Route(endpoint, operation), orjson.dumps(body), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await child.explain(error) from error
        if response.status != 200:
            raise error_of(response.status, data, spec.name)

    async def load(adapter: AdapterScale) -> None:
        folder = await pools.MODELS.run(folders.scaled, adapter)
        await ask("load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(folder)})

    async def unload(name: str) -> None:
        await ask("unload_lora_adapter", {"lora_name": name})

    def fits(adapter: AdapterScale) -> bool:
        return bool(rank) and _rank(adapter.path) <= rank

    return Hot(running.speaker, load=load, unload=unload, fits=fits, name=spec.name)
