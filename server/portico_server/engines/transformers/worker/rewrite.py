"""A GGUF file written anew: everything it says of itself as it was, its tensors changed and in the types wished."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

from . import kquants
from .mix import TYPES, Mix

Change: TypeAlias = Callable[[Any], Any]
"""A tensor as float32, rows first, into what takes its place."""

_FILE_TYPE = "general.file_type"

_PLAIN: Mapping[GGMLQuantizationType, Any] = {
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
}
"""Formats that NumPy has."""


def rewrite(model: GGUFReader, changes: Mapping[str, Change], path: Path, wished: str) -> None:
    """Write ``model`` to ``path`` as a file of the type ``wished`` (see `TYPES`); one tensor at a time is in memory."""
    architecture = _value(model, "general.architecture")
    writer = GGUFWriter(path, architecture)
    for name, field in model.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", _FILE_TYPE):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(TYPES[wished].said)
    mix = _mix(model, architecture, wished)
    kinds = []
    for tensor in model.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        kind = mix.of(tensor.name, shape, GGMLQuantizationType(tensor.tensor_type))
        block, size = quants.GGML_QUANT_SIZES[kind]
        # What is written is told before the numbers are, so that they need not be in memory together.
        writer.add_tensor_info(
            tensor.name,
            shape if kind in _PLAIN else quants.quant_shape_to_byte_shape(shape, kind),
            np.dtype(_PLAIN.get(kind, np.uint8)),
            math.prod(shape) // block * size,
            raw_dtype=kind,
        )
        kinds.append(kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, kind in zip(model.tensors, kinds, strict=True):
        change = changes.get(tensor.name)
        if change is None and kind == tensor.tensor_type:
            writer.write_tensor_data(np.ascontiguousarray(tensor.data))
            continue
        weights = numbers(tensor)
        writer.write_tensor_data(_written(weights if change is None else change(weights), kind))
    writer.close()


def numbers(tensor: Any) -> Any:
    """A tensor of a file as float32, its rows first."""
    return quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def _written(weights: Any, kind: GGMLQuantizationType) -> Any:
    if kind in _PLAIN:
        return np.ascontiguousarray(weights, _PLAIN[kind])
    if kind in kquants.ENCODERS:
        return kquants.quantised(weights, kind)
    return np.ascontiguousarray(quants.quantize(np.ascontiguousarray(weights, np.float32), kind))


def _mix(model: GGUFReader, architecture: str, wished: str) -> Mix:
    def number(name: str) -> int:
        found = _value(model, f"{architecture}.{name}")
        return int(found) if isinstance(found, int) else 0

    heads, keys = number("attention.head_count"), number("attention.head_count_kv")
    return Mix(
        wished,
        [tensor.name for tensor in model.tensors],
        number("block_count"),
        grouped=heads // keys if keys else 1,
        experts=number("expert_count"),
    )


def _value(model: GGUFReader, name: str) -> Any:
    field = model.get_field(name)
    return None if field is None else field.contents()
