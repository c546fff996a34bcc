"""Reads the parts of a model's files that a plan needs: headers and configuration, never the weights. Blocks."""

from __future__ import annotations

from pathlib import Path

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.models.gguf import Gguf, read_gguf
from portico_server.models.plan.pipeline_weights import read_pipeline
from portico_server.models.plan.weights import ModelWeights, weights_from_config
from portico_server.models.sources.file_choice import PIPELINE_INDEX

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Maximum size of a ``config.json``, in bytes."""


def read_weights(path: Path, name: str) -> Gguf | ModelWeights:
    """Read the facts about a GGUF file, or a folder with safetensors. Raise `InvalidRequest`, or `NotFound`."""
    if not path.is_dir():
        return read_gguf(path)
    index = path / PIPELINE_INDEX
    if index.is_file():
        with index.open("rb") as file:
            return read_pipeline(path, name, parse_config(file.read(MAX_CONFIG_BYTES + 1), name))
    config = path / "config.json"
    if not config.is_file():
        raise InvalidRequest(
            f"'{name}' has no config.json next to its weights, so its requirements are unknown.",
            param="source",
        )
    with config.open("rb") as file:
        document = parse_config(file.read(MAX_CONFIG_BYTES + 1), name)
    return weights_from_config(
        name, document, sum(item.stat().st_size for item in path.glob("*.safetensors"))
    )


def parse_config(data: bytes, name: str) -> dict[str, object]:
    """Parse a ``config.json``. Raise `InvalidRequest`."""
    try:
        document = orjson.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest(f"The config.json of '{name}' is not a JSON object.", param="source")
    return document
