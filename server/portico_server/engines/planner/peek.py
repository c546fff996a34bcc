"""Reads the headers of a model that is still on its hub, without fetching the model. Imports aiohttp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.engines.gguf import CUT, Gguf, read_header
from portico_server.engines.planner import drawing
from portico_server.engines.planner.facts import Weights, from_config
from portico_server.engines.planner.files import CONFIG_LIMIT, parse_config
from portico_server.engines.sources.choose import INDEX
from portico_server.engines.sources.download import get_range
from portico_server.engines.sources.hub import Listed, listed
from portico_server.engines.sources.source import Source
from portico_server.settings import MB_BYTES, Settings

STEPS = (1 * MB_BYTES, 8 * MB_BYTES, 32 * MB_BYTES, 96 * MB_BYTES)
"""How much of a GGUF file is read until its header is whole: a large vocabulary takes some ten MB."""


async def peek(source: Source, name: str, settings: Settings) -> Gguf | Weights:
    """What a repository's model says about itself. Raises as a fetch does."""
    async with listed(source, settings.models / source.folder, settings) as found:
        size = sum(item.size for item in found.expected.values())
        path = found.choice.path
        if path.endswith(".gguf"):
            whole = found.listing.files[path].size
            return replace(await _header(found, path, whole), file_size=size)
        weights = {file: item.size for file, item in found.expected.items() if file.endswith(".safetensors")}
        if INDEX in found.expected:
            index = parse_config(await get_range(found.remote(INDEX), 0, CONFIG_LIMIT + 1), name)
            largest = max(weights, key=lambda file: weights[file])
            header = await get_range(found.remote(largest), 0, drawing.HEADER)
            return drawing.facts(name, index, sum(weights.values()), header)
        if "config.json" not in found.listing.files:
            raise InvalidRequest(f"'{source}' has no config.json beside its weights.", param="source")
        data = await get_range(found.remote("config.json"), 0, CONFIG_LIMIT + 1)
        return from_config(name, parse_config(data, name), sum(weights.values()))


async def _header(found: Listed, path: str, size: int) -> Gguf:
    data = b""
    for step in STEPS:
        data += await get_range(found.remote(path), len(data), step)
        try:
            return read_header(data, Path(path), size)
        except InvalidRequest as error:
            if error.code != CUT or len(data) >= size or step == STEPS[-1]:
                raise
    raise AssertionError("the last step returns or raises")
