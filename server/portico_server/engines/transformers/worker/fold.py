"""A LoRA adapter folded into its GGUF model: a GGUF file that needs the adapter no more.

W = W₀ + scale · alpha / rank · B · A (Hu et al. 2021, section 4.1), with everything else of the model as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quants

from .refusal import Unfit

TYPES: Mapping[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q5_1": (GGMLQuantizationType.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "q5_0": (GGMLQuantizationType.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_1": (GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
"""What a matrix may be written as."""

_FILE_TYPE = "general.file_type"
_ALPHA = "adapter.lora.alpha"


def fold(model: Path, adapter: Path, out: Path, kind: str, scale: float) -> None:
    """Write ``model`` with the GGUF ``adapter`` in it to ``out``, whole or not at all. Raises `Unfit`."""
    if out.exists():
        raise Unfit(f"{out} is there already.")
    draft = out.with_name(f".{out.name}.new")
    try:
        _write(GGUFReader(model), _deltas(GGUFReader(adapter), scale), draft, kind)
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)


class _Delta:
    """What is added to one matrix."""

    def __init__(self, a: Any, b: Any, factor: float) -> None:
        self._a, self._b, self._factor = a, b, factor

    def added(self, weights: Any) -> Any:
        if weights.shape != (self._b.shape[0], self._a.shape[1]):
            raise Unfit(f"the adapter is for matrices of another shape than {list(weights.shape)}.")
        return weights + np.float32(self._factor) * (self._b @ self._a)


def _deltas(adapter: GGUFReader, scale: float) -> dict[str, _Delta]:
    field = adapter.get_field(_ALPHA)
    if field is None:
        raise Unfit("the adapter does not say its alpha.")
    alpha = float(field.contents())
    tensors = {tensor.name: _numbers(tensor) for tensor in adapter.tensors}
    return {
        name.removesuffix(".lora_a"): _Delta(a, tensors[f"{name[:-1]}b"], scale * alpha / a.shape[0])
        for name, a in tensors.items()
        if name.endswith(".lora_a")
    }


def _write(model: GGUFReader, deltas: dict[str, _Delta], path: Path, kind: str) -> None:
    wished, file_type = TYPES[kind]
    architecture = model.get_field("general.architecture")
    assert architecture is not None
    writer = GGUFWriter(path, architecture.contents())
    for name, field in model.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", _FILE_TYPE):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(file_type)
    left = set(deltas) - {tensor.name for tensor in model.tensors}
    if left:
        raise Unfit(f"the adapter is for another model: it has '{min(left)}'.")
    for tensor in model.tensors:
        # Sizes are written before the numbers, so that one matrix at a time is in memory.
        written = _written(tensor, wished)
        shape = [int(size) for size in reversed(tensor.shape)]
        nbytes = _bytes(shape, written)
        writer.add_tensor_info(
            tensor.name, _stored(shape, written), _dtype(written), nbytes, raw_dtype=written
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in model.tensors:
        written = _written(tensor, wished)
        delta = deltas.get(tensor.name)
        if delta is None and written == tensor.tensor_type:
            writer.write_tensor_data(np.ascontiguousarray(tensor.data))
            continue
        weights = _numbers(tensor)
        if delta is not None:
            weights = delta.added(weights)
        writer.write_tensor_data(_quantised(weights, written))
    writer.close()


def _numbers(tensor: Any) -> Any:
    """A tensor as float32, its rows first."""
    return quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def _written(tensor: Any, wished: GGMLQuantizationType) -> GGMLQuantizationType:
    """Matrices as wished where their rows can be cut into its blocks; what has one dimension stays as it is."""
    if len(tensor.shape) < 2:
        return GGMLQuantizationType(tensor.tensor_type)
    block = quants.GGML_QUANT_SIZES[wished][0]
    return wished if int(tensor.shape[0]) % block == 0 else GGMLQuantizationType.F16


def _quantised(weights: Any, kind: GGMLQuantizationType) -> Any:
    if kind == GGMLQuantizationType.F32:
        return np.ascontiguousarray(weights, np.float32)
    if kind == GGMLQuantizationType.F16:
        return np.ascontiguousarray(weights, np.float16)
    return np.ascontiguousarray(quants.quantize(weights, kind))


def _bytes(shape: list[int], kind: GGMLQuantizationType) -> int:
    block, size = quants.GGML_QUANT_SIZES[kind]
    return int(math.prod(shape) // block * size)


def _stored(shape: list[int], kind: GGMLQuantizationType) -> tuple[int, ...]:
    """The shape as the writer wants it: of bytes, for formats that NumPy does not have."""
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        return tuple(shape)
    found: tuple[int, ...] = quants.quant_shape_to_byte_shape(tuple(shape), kind)
    return found


def _dtype(kind: GGMLQuantizationType) -> Any:
    own = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
    return np.dtype(own.get(kind, np.uint8))
