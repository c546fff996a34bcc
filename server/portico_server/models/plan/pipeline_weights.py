"""Facts that decide how an image model can run: the sizes of its parts, and the number format of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico_server.models.plan.weights import ModelWeights
from portico_server.models.sources.file_choice import PIPELINE_INDEX, choose_files

HEADER_BYTES = 64 * 1024
"""Number of bytes at the beginning of a safetensors file that contain the format of its first tensors."""

_FORMAT = re.compile(rb'"dtype"\s*:\s*"(F32|F16|BF16|F8_[A-Z0-9]+)"')
_NAMES = {b"F32": "float32", b"F16": "float16", b"BF16": "bfloat16"}


def pipeline_weights(name: str, index: Mapping[str, Any], size: int, header: bytes) -> ModelWeights:
    """Return the weights described by ``model_index.json``, the total bytes, and the beginning of the largest file."""
    match = _FORMAT.search(header)
    return ModelWeights(
        name=name,
        architecture=str(index.get("_class_name", "")),
        size=size,
        context_length=0,
        heads=0,
        kv_heads=0,
        cache_per_token=0,
        dtype=_NAMES.get(match[1], "float8_e4m3fn") if match else "float32",
        draws=True,
    )


def read_pipeline(path: Path, name: str, index: Mapping[str, Any]) -> ModelWeights:
    """Return the weights of a folder. Raise `InvalidRequest` if it cannot be read. Blocks."""
    names = (item.relative_to(path).as_posix() for item in path.glob("*/*"))
    chosen_files = choose_files((PIPELINE_INDEX, *names), "", path).files
    files = {
        path / file: (path / file).stat().st_size for file in chosen_files if file.endswith(".safetensors")
    }
    with max(files, key=lambda item: files[item]).open("rb") as file:
        header = file.read(HEADER_BYTES)
    return pipeline_weights(name, index, sum(files.values()), header)
