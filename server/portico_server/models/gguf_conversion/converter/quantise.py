"""K-quants with NumPy, and the type of each tensor in a GGUF file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType, quants

BLOCK_SIZE = 256
"""Numbers in one block. Each row is divided into blocks."""

MAX_PASS_BLOCKS = 128
"""Number of blocks processed together. The blocks and their intermediate results fit in a core's cache."""

MIN_MAGNITUDE = 1e-15
"""A sub-block whose largest number is below this value is stored as zeros."""

Array = Any


def quantise(weights: Array, kind: GGMLQuantizationType) -> Array:
    """Return ``weights`` quantized to ``kind`` as bytes.

    The shape stays the same except for the last axis, which must be a multiple of `BLOCK_SIZE`.
    """
    encode, size = ENCODERS[kind]
    blocks = np.ascontiguousarray(weights, np.float32).reshape(-1, BLOCK_SIZE)
    out = np.empty((len(blocks), size), np.uint8)

    def work(begin: int) -> None:
        out[begin : begin + MAX_PASS_BLOCKS] = encode(blocks[begin : begin + MAX_PASS_BLOCKS])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(0, len(blocks), MAX_PASS_BLOCKS)))
    return out.reshape(*weights.shape[:-1], weights.shape[-1] // BLOCK_SIZE * size)


def _q4_k(blocks: Array) -> Array:
    """Return two 16-bit scales, twelve bytes with the scales and minima of eight sub-blocks, and 128 bytes of
    numbers.
    """
    head, levels = _with_minima(blocks, limit=15, lowest=-1.0, tries=20)
    return np.concatenate([head, _nibbles(levels)], axis=1)


def _q5_k(blocks: Array) -> Array:
    """Return the layout of `_q4_k`, with the fifth bits of all numbers in 32 bytes before the lower four bits."""
    head, levels = _with_minima(blocks, limit=31, lowest=-0.5, tries=15)
    fifth = np.bitwise_or.reduce((levels >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return np.concatenate([head, fifth, _nibbles(levels & 15)], axis=1)


def _nibbles(levels: Array) -> Array:
    """Pack sub-blocks in pairs: the first sub-block of each pair into the lower four bits of each byte."""
    packed_levels = levels[:, 0::2] | levels[:, 1::2] << 4
    return packed_levels.reshape(len(levels), -1)


def _with_minima(blocks: Array, *, limit: int, lowest: float, tries: int) -> tuple[Array, Array]:
    """Return the head bytes of each block, and each number as a level from 0 to ``limit``.

    In a sub-block of 32 numbers, x = scale · level - minimum.
    """
    count = len(blocks)
    # The numbers of a sub-block are along the first axis, so that sums over a sub-block add long rows.
    values = np.ascontiguousarray(blocks.reshape(count * 8, 32).T)
    scales, minima = (numbers.reshape(count, 8) for numbers in _affine(values, limit, lowest, tries))
    step, six_scales = _in_six_bits(scales)
    fall, six_minima = _in_six_bits(minima)
    scale = (step * six_scales).reshape(-1)
    minimum = (fall * six_minima).reshape(-1)
    levels = np.rint((values + minimum) * _inverse(scale)).clip(0, limit).astype(np.uint8)
    low = six_scales[:, :4] | (six_scales[:, 4:] >> 4) << 6
    middle = six_minima[:, :4] | (six_minima[:, 4:] >> 4) << 6
    high = (six_scales[:, 4:] & 15) | (six_minima[:, 4:] & 15) << 4
    head = np.concatenate([_half(step), _half(fall), low, middle, high], axis=1)
    return head, np.ascontiguousarray(levels.T).reshape(count, 8, 32)


def _in_six_bits(numbers: Array) -> tuple[Array, Array]:
    """Return a 16-bit step for each row of eight numbers, and the numbers as multiples of the step: 0 to 63."""
    largest = numbers.max(axis=1, keepdims=True)
    rounded_numbers = np.rint(numbers * (63 * _inverse(largest))).clip(0, 63).astype(np.uint8)
    return (largest / 63).astype(np.float16).astype(np.float32), rounded_numbers


def _affine(values: Array, limit: int, lowest: float, tries: int) -> tuple[Array, Array]:
    """Return the scale and the minimum (at least 0) of each column of ``values``, by weighted least squares over
    roundings.

    Each rounding of the numbers to levels yields a scale and a minimum. ``tries`` roundings are compared, each a tenth
    of a level finer than the previous; the rounding with the smallest error wins. Large numbers weigh more.
    """
    weights = np.sqrt(np.mean(values * values, axis=0)) + np.abs(values)
    weighted_values = weights * values
    sum_w, sum_x = weights.sum(axis=0), weighted_values.sum(axis=0)
    sum_x2 = (weighted_values * values).sum(axis=0)
    lower = np.minimum(values.min(axis=0), 0)
    span = values.max(axis=0) - lower
    above = values - lower
    scale, minimum = span / limit, lower
    ndarray = np.full(span.shape, np.inf, np.float32)
    for number in range(-1, tries + 1):
        # The first result comes from rounding alone, without least squares.
        finer = 0.0 if number < 0 else lowest + 0.1 * number
        levels = np.rint(above * ((limit + finer) * _inverse(span))).clip(0, limit)
        product = weights * levels
        sum_l = product.sum(axis=0)
        sum_l2 = (product * levels).sum(axis=0)
        sum_xl = (product * values).sum(axis=0)
        if number < 0:
            new_scale, base = scale, minimum
        else:
            determinant = sum_w * sum_l2 - sum_l * sum_l
            new_scale = (sum_w * sum_xl - sum_x * sum_l) * _inverse(determinant)
            base = (sum_l2 * sum_x - sum_l * sum_xl) * _inverse(determinant)
            positive = base > 0
            new_scale = np.where(positive, sum_xl * _inverse(sum_l2), new_scale)
            base = np.where(positive, 0, base)
        error = new_scale * new_scale * sum_l2 + base * base * sum_w + sum_x2
        error += 2 * (new_scale * base * sum_l - new_scale * sum_xl - base * sum_x)
        better = (error < ndarray) & (new_scale > 0)
        ndarray = np.where(better, error, ndarray)
        scale, minimum = np.where(better, new_scale, scale), np.where(better, base, minimum)
    return np.maximum(scale, 0), -minimum


def _q6_k(blocks: Array) -> Array:
    """Return 128 bytes of lower and 64 bytes of upper bits, sixteen 8-bit scales and a 16-bit scale: x = d · scale ·
    (level
    - 32).
    """
    count = len(blocks)
    values = np.ascontiguousarray(blocks.reshape(count * 16, 16).T)
    scales = _symmetric(values).reshape(count, 16)
    place = np.abs(scales).argmax(axis=1)[:, None]
    largest = np.take_along_axis(scales, place, axis=1)
    step = (largest / -128).astype(np.float16).astype(np.float32)
    rounded_scales = np.rint(scales * (-128 * _inverse(largest))).clip(-128, 127).astype(np.int8)
    scale = (step * rounded_scales).reshape(-1)
    levels = np.rint(values * _inverse(scale)).clip(-32, 31).astype(np.int8) + 32
    parts = np.ascontiguousarray(levels.T).view(np.uint8).reshape(count, 2, 4, 32)
    low = parts & 15
    lower = np.stack([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=2)
    high = parts >> 4
    upper = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    flat = [lower.reshape(count, -1), upper.reshape(count, -1), rounded_scales.view(np.uint8), _half(step)]
    return np.concatenate(flat, axis=1)


def _symmetric(values: Array) -> Array:
    """Return the scale of each column of ``values`` in levels from -32 to 31. Numbers are weighted by their squares."""
    place = np.abs(values).argmax(axis=0)[None]
    largest = np.take_along_axis(values, place, axis=0)[0]
    largest = np.where(np.abs(largest) < MIN_MAGNITUDE, 0, largest)
    weights = values * values
    weighted_values = weights * values
    scale = np.zeros_like(largest)
    best = np.zeros_like(largest)
    for number in (0, *range(-9, 0), *range(1, 10)):
        levels = np.rint(values * (-(32 + 0.1 * number) * _inverse(largest))).clip(-32, 31)
        sum_xl = (weighted_values * levels).sum(axis=0)
        sum_l2 = (weights * levels * levels).sum(axis=0)
        new_scale = sum_xl * _inverse(sum_l2)
        better = new_scale * sum_xl > best
        best = np.where(better, new_scale * sum_xl, best)
        scale = np.where(better, new_scale, scale)
    return scale


def _inverse(numbers: Array) -> Array:
    """Return 1 / x, and 0 for 0."""
    return np.divide(1, numbers, out=np.zeros_like(numbers), where=numbers != 0)


def _half(numbers: Array) -> Array:
    """Return one 16-bit number per row, as two bytes."""
    return numbers.astype("<f2").view(np.uint8).reshape(len(numbers), 2)


ENCODERS: Mapping[GGMLQuantizationType, tuple[Callable[[Array], Array], int]] = {
    GGMLQuantizationType.Q4_K: (_q4_k, 144),
    GGMLQuantizationType.Q5_K: (_q5_k, 176),
    GGMLQuantizationType.Q6_K: (_q6_k, 210),
}
"""Functions that encode blocks, and the number of bytes per block."""


# Chooses the type of each tensor in a GGUF file from the type of the whole file. The choices are those of
# llama.cpp's ``llama-quantize`` for dense models and models with experts: the most important tensors (the
# output layer, values, the down projections of certain layers) get more bits than the rest.


Kind: TypeAlias = GGMLQuantizationType


@dataclass(frozen=True)
class FileType:
    """The usual type of a file's matrices, and the type that the file's header declares.

    ``mixed``: `TensorTypes` can choose more bits for a matrix.
    """

    usual: Kind
    code: LlamaFileType
    mixed: bool = False


FILE_TYPES: Mapping[str, FileType] = {
    "f32": FileType(Kind.F32, LlamaFileType.ALL_F32),
    "f16": FileType(Kind.F16, LlamaFileType.MOSTLY_F16),
    "bf16": FileType(Kind.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": FileType(Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": FileType(Kind.Q6_K, LlamaFileType.MOSTLY_Q6_K, mixed=True),
    "q5_k_m": FileType(Kind.Q5_K, LlamaFileType.MOSTLY_Q5_K_M, mixed=True),
    "q5_k_s": FileType(Kind.Q5_K, LlamaFileType.MOSTLY_Q5_K_S, mixed=True),
    "q5_1": FileType(Kind.Q5_1, LlamaFileType.MOSTLY_Q5_1, mixed=True),
    "q5_0": FileType(Kind.Q5_0, LlamaFileType.MOSTLY_Q5_0, mixed=True),
    "q4_k_m": FileType(Kind.Q4_K, LlamaFileType.MOSTLY_Q4_K_M, mixed=True),
    "q4_k_s": FileType(Kind.Q4_K, LlamaFileType.MOSTLY_Q4_K_S, mixed=True),
    "q4_1": FileType(Kind.Q4_1, LlamaFileType.MOSTLY_Q4_1, mixed=True),
    "q4_0": FileType(Kind.Q4_0, LlamaFileType.MOSTLY_Q4_0, mixed=True),
}
"""Supported types of a file."""

COARSER_TYPES: Mapping[Kind, Kind] = {Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0}
"""Replacement types for tensors whose row length is not a multiple of 256."""

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"

_LAYER = re.compile(r"blk\.(\d+)\.(.+)\.weight")

_AS_IT_IS = re.compile(r".*(?:_norm|ffn_gate_inp)\.weight")
"""Small tensors that affect all later computations, and therefore keep their type."""


class TensorTypes:
    """The types of one model's tensors.

    ``names`` are the names of all tensors, ``layers`` is the number of blocks, ``group_size`` the number of query
    heads that share a key head, and ``experts`` the number of feed-forward networks in a block.
    """

    def __init__(
        self, file_type: str, names: Collection[str], layers: int, group_size: int = 1, experts: int = 0
    ) -> None:
        self._file_type = file_type
        self._type = FILE_TYPES[file_type]
        self._output = OUTPUT if OUTPUT in names else EMBEDDING
        self._layers = layers
        # In models with 70 billion parameters, eight query heads share a value matrix, so more bits for it
        # cost little.
        self._shares_values = layers == 80 and group_size == 8
        self._experts = experts

    def of(self, name: str, shape: tuple[int, ...], before: Kind) -> Kind:
        """Return the type of a tensor.

        ``shape`` ends with the row length; ``before`` is the tensor's present type, which small tensors keep.
        """
        if len(shape) < 2 or _AS_IT_IS.fullmatch(name):
            return before
        kind = self._type_of(name) if self._type.mixed else self._type.usual
        for _ in range(2):
            if shape[-1] % quants.GGML_QUANT_SIZES[kind][0] == 0:
                return kind
            kind = COARSER_TYPES.get(kind, Kind.F16)
        return kind if shape[-1] % quants.GGML_QUANT_SIZES[kind][0] == 0 else Kind.F16

    def _type_of(self, name: str) -> Kind:
        usual, medium = self._type.usual, self._file_type.endswith("_m")
        if name == self._output:
            return Kind.Q6_K
        match = _LAYER.fullmatch(name)
        if match is None:
            return usual
        layer, part = int(match[1]), match[2]
        if self._experts == 8 and part in ("attn_v", "attn_k"):
            return Kind.Q8_0  # small compared with the experts
        if self._experts == 8 and part == "attn_output" and usual == Kind.Q4_K:
            return Kind.Q5_K
        if part == "attn_qkv" and medium:
            return Kind.Q6_K if usual == Kind.Q5_K else Kind.Q5_K
        if part in ("attn_v", "ffn_down", "ffn_down_exps") and medium and self._needs_more_bits(layer):
            return Kind.Q6_K
        if part == "attn_v" and usual == Kind.Q4_K and self._shares_values:
            return Kind.Q5_K
        if self._file_type == "q4_k_s" and layer < (4 if part == "attn_v" else self._layers // 8):
            return Kind.Q5_K if part in ("attn_v", "ffn_down", "ffn_down_exps") else usual
        return usual

    def _needs_more_bits(self, layer: int) -> bool:
        """Return whether the layer is in the first or last eighth of the layers, or is every third layer between
        them.
        """
        eighth = self._layers // 8
        return layer < eighth or layer >= 7 * self._layers // 8 or (layer - eighth) % 3 == 2
