"""Reads what a plan needs from a model's files: headers and configuration, never the weights. Blocks."""

from __future__ import annotations

from pathlib import Path

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.engines.gguf import Gguf, read_gguf
from portico_server.engines.planner import drawing
from portico_server.engines.planner.facts import Weights, from_config
from portico_server.engines.sources.choose import INDEX

CONFIG_LIMIT = 4 * 1024 * 1024
"""Bytes that a ``config.json`` may have."""


def read(path: Path, name: str) -> Gguf | Weights:
    """A GGUF file, or a folder with safetensors. Raises `InvalidRequest`, or `NotFound`."""
    if not path.is_dir():
        return read_gguf(path)
    index = path / INDEX
    if index.is_file():
        with index.open("rb") as file:
            return drawing.read(path, name, parse_config(file.read(CONFIG_LIMIT + 1), name))
    config = path / "config.json"
    if not config.is_file():
        raise InvalidRequest(
            f"'{name}' has no config.json beside its weights, so nothing is known of it.", param="source"
        )
    with config.open("rb") as file:
        document = parse_config(file.read(CONFIG_LIMIT + 1), name)
    return from_config(name, document, sum(item.stat().st_size for item in path.glob("*.safetensors")))


def parse_config(data: bytes, name: str) -> dict[str, object]:
    """A ``config.json``. Raises `InvalidRequest`."""
    try:
        document = orjson.loads(data) if len(data) <= CONFIG_LIMIT else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest(f"The config.json of '{name}' is not a JSON object.", param="source")
    return document
