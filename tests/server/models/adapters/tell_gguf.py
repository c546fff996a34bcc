"""Checks numbers in GGUF files: runs in the environment `finetune`, as ``… BASE FOLDER OUT``; prints JSON.

``errors``: the loss of each K-quant on normal numbers (root mean square, relative). ``types``: the tensor types of
some tensors of a model of 32 layers, for each file type. ``refit``: BASE with the weights of FOLDER, which were made
from BASE, is written to OUT; the value is the largest difference between the two, relative.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from converter.export import numbers, refit
from converter.quantise import ENCODERS, FILE_TYPES, TensorTypes, quantise
from gguf import GGUFReader, quants

LAYERS = 32


def error(kind: Any, values: Any) -> float:
    back = quants.dequantize(quantise(values, kind), kind)
    assert back.shape == values.shape
    return float(np.sqrt(np.mean((back - values) ** 2) / np.mean(values**2)))


def errors() -> dict[str, float]:
    rows = np.random.default_rng(1).standard_normal((64, 3, 1024)).astype(np.float32)
    rows[0] = 0  # all zero
    rows[1, :, ::2] = 0
    rows[2] = 0.5  # all equal
    rows[3] = np.abs(rows[3]) + 1  # far from zero
    return {kind.name: error(kind, rows) for kind in ENCODERS}


def types(wished: str) -> dict[str, Any]:
    mix = TensorTypes(wished, ["token_embd.weight", "output.weight"], LAYERS)

    def of(name: str, row: int = 4096) -> str:
        return str(mix.of(name, (8, row), quants.GGMLQuantizationType.F32).name)

    return {
        "embedding": of("token_embd.weight"),
        "output": of("output.weight"),
        "shared": TensorTypes(wished, ["token_embd.weight"], LAYERS)
        .of("token_embd.weight", (8, 4096), 0)
        .name,
        "query": of("blk.8.attn_q.weight"),
        "value": [of(f"blk.{layer}.attn_v.weight") for layer in range(LAYERS)],
        "down": [of(f"blk.{layer}.ffn_down.weight") for layer in range(LAYERS)],
        "narrow": of("blk.8.attn_q.weight", 576),
        "odd": of("blk.8.attn_q.weight", 33),
        "norm": of("blk.8.attn_norm.weight"),
    }


def difference(base: Path, folder: Path, out: Path) -> float:
    refit(base, folder, out, "f16")
    worst = 0.0
    for base_tensor, output_tensor in zip(GGUFReader(base).tensors, GGUFReader(out).tensors, strict=True):
        assert base_tensor.name == output_tensor.name
        base_values, output_values = numbers(base_tensor), numbers(output_tensor)
        worst = max(worst, float(np.abs(output_values - base_values).max() / np.abs(base_values).max()))
    return worst


told = {
    "errors": errors(),
    "types": {wished: types(wished) for wished in FILE_TYPES},
    "refit": difference(*(Path(argument) for argument in sys.argv[1:4])),
}
print(json.dumps(told))
