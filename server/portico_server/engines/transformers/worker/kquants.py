"""K-quants written with NumPy: rows of numbers into blocks of 256, as llama.cpp lays them out.

The layout is that of llama.cpp's ``ggml-common.h``, and scales are found as its reference quantisers find them: several
are tried for each sub-block, and the one with the least weighted error wins. The package ``gguf`` reads these formats
and does not write them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

SUPER = 256
"""Numbers in one block; rows are cut into these."""

CHUNK = 128
"""Blocks that are worked on at once: they, and what is computed of them, stay in a core's cache."""

TINY = 1e-15
"""A sub-block whose largest number is below this is zero."""

Array = Any


def quantised(weights: Array, kind: GGMLQuantizationType) -> Array:
    """``weights`` as ``kind``: bytes, of the same shape but for the last axis, which must be a multiple of `SUPER`."""
    encode, size = ENCODERS[kind]
    blocks = np.ascontiguousarray(weights, np.float32).reshape(-1, SUPER)
    out = np.empty((len(blocks), size), np.uint8)

    def work(begin: int) -> None:
        out[begin : begin + CHUNK] = encode(blocks[begin : begin + CHUNK])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(0, len(blocks), CHUNK)))
    return out.reshape(*weights.shape[:-1], weights.shape[-1] // SUPER * size)


def _q4_k(blocks: Array) -> Array:
    """Two 16-bit scales, twelve bytes with the scales and minima of eight sub-blocks, 128 bytes with the numbers."""
    head, levels = _with_minima(blocks, most=15, lowest=-1.0, tries=20)
    return np.concatenate([head, _nibbles(levels)], axis=1)


def _q5_k(blocks: Array) -> Array:
    """As `_q4_k`, the fifth bit of each number in 32 bytes before the others."""
    head, levels = _with_minima(blocks, most=31, lowest=-0.5, tries=15)
    fifth = np.bitwise_or.reduce((levels >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return np.concatenate([head, fifth, _nibbles(levels & 15)], axis=1)


def _nibbles(levels: Array) -> Array:
    """Sub-blocks in pairs: the first of each in the lower halves of the bytes."""
    packed = levels[:, 0::2] | levels[:, 1::2] << 4
    return packed.reshape(len(levels), -1)


def _with_minima(blocks: Array, *, most: int, lowest: float, tries: int) -> tuple[Array, Array]:
    """Head bytes, and each number as a level (0 to ``most``) of its sub-block of 32: x = scale · level - minimum."""
    count = len(blocks)
    # Numbers of a sub-block along the first axis: sums over them are sums of long rows.
    values = np.ascontiguousarray(blocks.reshape(count * 8, 32).T)
    scales, minima = (found.reshape(count, 8) for found in _affine(values, most, lowest, tries))
    step, six_scales = _in_six_bits(scales)
    fall, six_minima = _in_six_bits(minima)
    scale = (step * six_scales).reshape(-1)
    minimum = (fall * six_minima).reshape(-1)
    levels = np.rint((values + minimum) * _inverse(scale)).clip(0, most).astype(np.uint8)
    low = six_scales[:, :4] | (six_scales[:, 4:] >> 4) << 6
    middle = six_minima[:, :4] | (six_minima[:, 4:] >> 4) << 6
    high = (six_scales[:, 4:] & 15) | (six_minima[:, 4:] & 15) << 4
    head = np.concatenate([_half(step), _half(fall), low, middle, high], axis=1)
    return head, np.ascontiguousarray(levels.T).reshape(count, 8, 32)


def _in_six_bits(numbers: Array) -> tuple[Array, Array]:
    """A 16-bit step for each row of eight, and its numbers in steps: 0 to 63."""
    largest = numbers.max(axis=1, keepdims=True)
    whole = np.rint(numbers * (63 * _inverse(largest))).clip(0, 63).astype(np.uint8)
    return (largest / 63).astype(np.float16).astype(np.float32), whole


def _affine(values: Array, most: int, lowest: float, tries: int) -> tuple[Array, Array]:
    """Scale and minimum (at least 0) for each column of ``values``, by weighted least squares over several roundings.

    A rounding of the numbers to levels gives a scale and a minimum; of ``tries`` roundings, each a tenth of a level
    finer than the last, that with the least error is kept. Large numbers weigh more.
    """
    weights = np.sqrt(np.mean(values * values, axis=0)) + np.abs(values)
    weighted = weights * values
    sum_w, sum_x = weights.sum(axis=0), weighted.sum(axis=0)
    sum_x2 = (weighted * values).sum(axis=0)
    lower = np.minimum(values.min(axis=0), 0)
    span = values.max(axis=0) - lower
    above = values - lower
    scale, minimum = span / most, lower
    least = np.full(span.shape, np.inf, np.float32)
    for number in range(-1, tries + 1):
        # The first is what rounding alone would give; it is kept as it is.
        finer = 0.0 if number < 0 else lowest + 0.1 * number
        levels = np.rint(above * ((most + finer) * _inverse(span))).clip(0, most)
        product = weights * levels
        sum_l = product.sum(axis=0)
        sum_l2 = (product * levels).sum(axis=0)
        sum_xl = (product * values).sum(axis=0)
        if number < 0:
            found, base = scale, minimum
        else:
            determinant = sum_w * sum_l2 - sum_l * sum_l
            found = (sum_w * sum_xl - sum_x * sum_l) * _inverse(determinant)
            base = (sum_l2 * sum_x - sum_l * sum_xl) * _inverse(determinant)
            positive = base > 0
            found = np.where(positive, sum_xl * _inverse(sum_l2), found)
            base = np.where(positive, 0, base)
        error = found * found * sum_l2 + base * base * sum_w + sum_x2
        error += 2 * (found * base * sum_l - found * sum_xl - base * sum_x)
        better = (error < least) & (found > 0)
        least = np.where(better, error, least)
        scale, minimum = np.where(better, found, scale), np.where(better, base, minimum)
    return np.maximum(scale, 0), -minimum


def _q6_k(blocks: Array) -> Array:
    """128 bytes of lower and 64 of upper bits, sixteen 8-bit scales, a 16-bit scale: x = d · scale · (level - 32)."""
    count = len(blocks)
    values = np.ascontiguousarray(blocks.reshape(count * 16, 16).T)
    scales = _symmetric(values).reshape(count, 16)
    place = np.abs(scales).argmax(axis=1)[:, None]
    largest = np.take_along_axis(scales, place, axis=1)
    step = (largest / -128).astype(np.float16).astype(np.float32)
    whole = np.rint(scales * (-128 * _inverse(largest))).clip(-128, 127).astype(np.int8)
    scale = (step * whole).reshape(-1)
    levels = np.rint(values * _inverse(scale)).clip(-32, 31).astype(np.int8) + 32
    parts = np.ascontiguousarray(levels.T).view(np.uint8).reshape(count, 2, 4, 32)
    low = parts & 15
    lower = np.stack([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=2)
    high = parts >> 4
    upper = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    flat = [lower.reshape(count, -1), upper.reshape(count, -1), whole.view(np.uint8), _half(step)]
    return np.concatenate(flat, axis=1)


def _symmetric(values: Array) -> Array:
    """The scale for each column of ``values`` in levels from -32 to 31; numbers weigh by their square."""
    place = np.abs(values).argmax(axis=0)[None]
    largest = np.take_along_axis(values, place, axis=0)[0]
    largest = np.where(np.abs(largest) < TINY, 0, largest)
    weights = values * values
    weighted = weights * values
    scale = np.zeros_like(largest)
    best = np.zeros_like(largest)
    for number in (0, *range(-9, 0), *range(1, 10)):
        levels = np.rint(values * (-(32 + 0.1 * number) * _inverse(largest))).clip(-32, 31)
        sum_xl = (weighted * levels).sum(axis=0)
        sum_l2 = (weights * levels * levels).sum(axis=0)
        found = sum_xl * _inverse(sum_l2)
        better = found * sum_xl > best
        best = np.where(better, found * sum_xl, best)
        scale = np.where(better, found, scale)
    return scale


def _inverse(numbers: Array) -> Array:
    """1 / x, and 0 for 0."""
    return np.divide(1, numbers, out=np.zeros_like(numbers), where=numbers != 0)


def _half(numbers: Array) -> Array:
    """One 16-bit number a row, as two bytes."""
    return numbers.astype("<f2").view(np.uint8).reshape(len(numbers), 2)


ENCODERS: Mapping[GGMLQuantizationType, tuple[Callable[[Array], Array], int]] = {
    GGMLQuantizationType.Q4_K: (_q4_k, 144),
    GGMLQuantizationType.Q5_K: (_q5_k, 176),
    GGMLQuantizationType.Q6_K: (_q6_k, 210),
}
"""What makes the bytes of some blocks, and how many one block has."""
