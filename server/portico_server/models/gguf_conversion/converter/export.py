"""Rewrites a GGUF file with a merged LoRA adapter, or with weights from full training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from gguf import (
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFReader,
    GGUFValueType,
    GGUFWriter,
    get_tensor_name_map,
    quants,
)
from safetensors import safe_open

from . import quantise
from .errors import ConversionFailed
from .quantise import FILE_TYPES, TensorTypes

Change: TypeAlias = Callable[[Any], Any]
"""A function from a tensor as float32, rows first, to its replacement."""

_FILE_TYPE = "general.file_type"

_PLAIN: Mapping[GGMLQuantizationType, Any] = {
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
}
"""Formats that NumPy supports."""


def rewrite_gguf(model: GGUFReader, changes: Mapping[str, Change], path: Path, file_type: str) -> None:
    """Write ``model`` to ``path`` as a file of the type ``file_type`` (see `FILE_TYPES`), one tensor in memory at
    a time.
    """
    architecture = _value(model, "general.architecture")
    writer = GGUFWriter(path, architecture)
    for name, field in model.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", _FILE_TYPE):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(FILE_TYPES[file_type].code)
    mix = _mix(model, architecture, file_type)
    kinds = []
    for tensor in model.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        kind = mix.of(tensor.name, shape, GGMLQuantizationType(tensor.tensor_type))
        block, size = quants.GGML_QUANT_SIZES[kind]
        # The tensor headers are written before the data, so that the tensors need not be in memory at the
        # same time.
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
        writer.write_tensor_data(_quantise(weights if change is None else change(weights), kind))
    writer.close()


def numbers(tensor: Any) -> Any:
    """Return a tensor of a GGUF file as float32, rows first."""
    return quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def _quantise(weights: Any, kind: GGMLQuantizationType) -> Any:
    if kind in _PLAIN:
        return np.ascontiguousarray(weights, _PLAIN[kind])
    if kind in quantise.ENCODERS:
        return quantise.quantise(weights, kind)
    return np.ascontiguousarray(quants.quantize(np.ascontiguousarray(weights, np.float32), kind))


def _mix(model: GGUFReader, architecture: str, file_type: str) -> TensorTypes:
    def number(name: str) -> int:
        value = _value(model, f"{architecture}.{name}")
        return int(value) if isinstance(value, int) else 0

    heads, keys = number("attention.head_count"), number("attention.head_count_kv")
    return TensorTypes(
        file_type,
        [tensor.name for tensor in model.tensors],
        number("block_count"),
        group_size=heads // keys if keys else 1,
        experts=number("expert_count"),
    )


def _value(model: GGUFReader, name: str) -> Any:
    field = model.get_field(name)
    return None if field is None else field.contents()


# Merges a LoRA adapter into its GGUF model. The resulting GGUF file no longer needs the adapter. W = W₀ +
# scale · alpha / rank · B · A (Hu et al. 2021, section 4.1); everything else in the model stays unchanged.


_ALPHA = "adapter.lora.alpha"


def fold_adapter(model: Path, adapter: Path, out: Path, kind: str, scale: float) -> None:
    """Write ``model`` with the GGUF ``adapter`` merged into it to ``out``, atomically. Raise `ConversionFailed`."""
    if out.exists():
        raise ConversionFailed(f"{out} already exists.")
    base = GGUFReader(model)
    deltas = _deltas(GGUFReader(adapter), scale)
    remaining_names = set(deltas) - {tensor.name for tensor in base.tensors}
    if remaining_names:
        raise ConversionFailed(
            f"the adapter belongs to another model: it has weights for '{min(remaining_names)}', which the "
            "model does not contain."
        )
    draft = out.with_name(f".{out.name}.new")
    try:
        rewrite_gguf(base, {name: delta.add_to for name, delta in deltas.items()}, draft, kind)
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)


class _Delta:
    """An adapter's update of one matrix."""

    def __init__(self, a: Any, b: Any, factor: float) -> None:
        self._a, self._b, self._factor = a, b, factor

    def add_to(self, weights: Any) -> Any:
        if weights.shape != (self._b.shape[0], self._a.shape[1]):
            raise ConversionFailed(
                f"the adapter is for matrices of a shape other than {list(weights.shape)}."
            )
        return weights + np.float32(self._factor) * (self._b @ self._a)


def _deltas(adapter: GGUFReader, scale: float) -> dict[str, _Delta]:
    field = adapter.get_field(_ALPHA)
    if field is None:
        raise ConversionFailed("the adapter does not specify its alpha.")
    alpha = float(field.contents())
    tensors = {tensor.name: numbers(tensor) for tensor in adapter.tensors}
    return {
        name.removesuffix(".lora_a"): _Delta(a, tensors[f"{name[:-1]}b"], scale * alpha / a.shape[0])
        for name, a in tensors.items()
        if name.endswith(".lora_a")
    }


# Writes a fully trained model back into the GGUF file that it was trained from. Tokenizer, template and
# metadata stay unchanged; every tensor is replaced. Names follow the tables of the package ``gguf``; the
# order of rows in q and k, and the offsets of norms, are those of llama.cpp's own conversion.


PERMUTED_ARCHITECTURES = ("llama",)
"""Architectures whose q and k rows llama.cpp stores in a different order than transformers."""

SHIFTED_NORM_ARCHITECTURES = ("gemma", "gemma2", "gemma3")
"""Architectures whose norms are stored with 1 added."""

OUTPUT, EMBEDDING = "output.weight", "token_embd.weight"

UNTRAINED_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that derive from the configuration and are not trained."""


def refit(model: Path, folder: Path, out: Path, kind: str) -> None:
    """Write ``model`` with the weights in ``folder`` (safetensors) to ``out``, atomically.

    Raise `ConversionFailed` if the weights do not fit.
    """
    if out.exists():
        raise ConversionFailed(f"{out} already exists.")
    base = GGUFReader(model)
    trained_model = _Trained(folder, base)
    names = [tensor.name for tensor in base.tensors if tensor.name not in UNTRAINED_TENSORS]
    missing = [name for name in names if not trained_model.has(name)]
    if missing:
        raise ConversionFailed(
            f"the trained model has no tensor for '{missing[0]}', so it cannot be written as a GGUF file."
        )
    draft = out.with_name(f".{out.name}.new")
    try:
        rewrite_gguf(base, {name: trained_model.change(name) for name in names}, draft, kind)
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)


class _Trained:
    """The tensors of a folder, keyed by their names in a GGUF file."""

    def __init__(self, folder: Path, base: GGUFReader) -> None:
        self._architecture = _text(base, "general.architecture")
        blocks = _number(base, f"{self._architecture}.block_count")
        self._heads = _number(base, f"{self._architecture}.attention.head_count")
        self._keys = _number(base, f"{self._architecture}.attention.head_count_kv") or self._heads
        architectures = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
        if self._architecture not in architectures:
            raise ConversionFailed(f"the tensor names of '{self._architecture}' models are unknown.")
        table = get_tensor_name_map(architectures[self._architecture], blocks)
        self._tensors: dict[str, tuple[Path, str]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  # safetensors files are not iterable
                    gguf_name = table.get_name(name, try_suffixes=(".weight", ".bias"))
                    if gguf_name is not None:
                        self._tensors[gguf_name] = (path, name)
        if OUTPUT not in self._tensors and EMBEDDING in self._tensors:
            self._tensors[OUTPUT] = self._tensors[
                EMBEDDING
            ]  # the model uses one matrix for embedding and output

    def has(self, name: str) -> bool:
        return name in self._tensors

    def change(self, name: str) -> Change:
        """Return a function that replaces the base model's tensor with the trained tensor."""

        def put(before: Any) -> Any:
            path, tensor_name = self._tensors[name]
            with safe_open(path, "pt") as file:
                weights = file.get_tensor(tensor_name).to(torch.float32).numpy()
            weights = self._reorder_for(name)(weights)
            if weights.shape != before.shape:
                raise ConversionFailed(
                    f"'{tensor_name}' has the shape {list(weights.shape)}, but {list(before.shape)} in the "
                    "base model."
                )
            return weights

        return put

    def _reorder_for(self, name: str) -> Callable[[Any], Any]:
        if self._architecture in PERMUTED_ARCHITECTURES:
            for part, heads in (("attn_q", self._heads), ("attn_k", self._keys)):
                if name.endswith((f".{part}.weight", f".{part}.bias")):
                    return lambda rows: _permuted(rows, heads)
        if self._architecture in SHIFTED_NORM_ARCHITECTURES and name.endswith("norm.weight"):
            return lambda numbers: numbers + np.float32(1)
        return lambda numbers: numbers


def _permuted(rows: Any, heads: int) -> Any:
    """Interleave the two halves of each head's rows, as llama.cpp's rotary embedding expects them."""
    count = rows.shape[0]
    return rows.reshape(heads, 2, count // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _text(model: GGUFReader, name: str) -> str:
    field = model.get_field(name)
    return "" if field is None else str(field.contents())


def _number(model: GGUFReader, name: str) -> int:
    field = model.get_field(name)
    return 0 if field is None else int(field.contents())
