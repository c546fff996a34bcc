"""Reads the headers of a model on its hub, without fetching the model. Imports aiohttp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.models.gguf import FILE_CUT_CODE, Gguf, read_header
from portico_server.models.plan.pipeline_weights import HEADER_BYTES, pipeline_weights
from portico_server.models.plan.weight_files import MAX_CONFIG_BYTES, parse_config
from portico_server.models.plan.weights import ModelWeights, weights_from_config
from portico_server.models.sources.download import get_range
from portico_server.models.sources.file_choice import PIPELINE_INDEX
from portico_server.models.sources.hub import ListedFile, list_repository
from portico_server.models.sources.source import ModelSource
from portico_server.settings import MB_BYTES, Settings

READ_STEPS_BYTES = (1 * MB_BYTES, 8 * MB_BYTES, 32 * MB_BYTES, 96 * MB_BYTES)
"""Numbers of bytes to read from a GGUF file, in order, until the header is complete. A large vocabulary takes about 10
MB.
"""


async def read_remote_weights(source: ModelSource, name: str, settings: Settings) -> Gguf | ModelWeights:
    """Read the headers or the configuration of a model in a repository. Raises the same errors as a fetch."""
    async with list_repository(source, settings.models / source.folder, settings) as listed_file:
        size = sum(item.size for item in listed_file.expected.values())
        path = listed_file.choice.path
        if path.endswith(".gguf"):
            file_bytes = listed_file.listing.files[path].size
            return replace(await _header(listed_file, path, file_bytes), file_size=size)
        weights = {
            file: item.size for file, item in listed_file.expected.items() if file.endswith(".safetensors")
        }
        if PIPELINE_INDEX in listed_file.expected:
            index = parse_config(
                await get_range(listed_file.remote(PIPELINE_INDEX), 0, MAX_CONFIG_BYTES + 1), name
            )
            largest = max(weights, key=lambda file: weights[file])
            header = await get_range(listed_file.remote(largest), 0, HEADER_BYTES)
            return pipeline_weights(name, index, sum(weights.values()), header)
        if "config.json" not in listed_file.listing.files:
            raise InvalidRequest(f"'{source}' has no config.json next to its weights.", param="source")
        data = await get_range(listed_file.remote("config.json"), 0, MAX_CONFIG_BYTES + 1)
        return weights_from_config(name, parse_config(data, name), sum(weights.values()))


async def _header(listed_file: ListedFile, path: str, size: int) -> Gguf:
    data = b""
    for step in READ_STEPS_BYTES:
        data += await get_range(listed_file.remote(path), len(data), step)
        try:
            return read_header(data, Path(path), size)
        except InvalidRequest as error:
            if error.code != FILE_CUT_CODE or len(data) >= size or step == READ_STEPS_BYTES[-1]:
                raise
    raise AssertionError("the last step returns or raises")
