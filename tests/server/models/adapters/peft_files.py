"""PEFT adapters for tests: random, or invalid in the way that a test needs."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SMOLLM: Mapping[str, tuple[int, int]] = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (576, 192),
    "self_attn.v_proj": (576, 192),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (576, 1536),
    "mlp.up_proj": (576, 1536),
    "mlp.down_proj": (1536, 576),
}
"""Inputs and outputs of the linear layers of SmolLM2-135M, which has 30 blocks."""


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> bytes:
    """Return a safetensors file, given format, shape and bytes by name."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def pairs(
    blocks: int, layers: Mapping[str, tuple[int, int]], rank: int, *, seed: int = 1, size: float = 0.02
) -> dict[str, tuple[Array, Array]]:
    """Return random A and B by module; ``size`` is the spread of B's numbers."""
    random = np.random.default_rng(seed)
    return {
        f"model.layers.{block}.{layer}": (
            (random.standard_normal((rank, inputs)) / np.sqrt(inputs)).astype(np.float32),
            (random.standard_normal((outputs, rank)) * size).astype(np.float32),
        )
        for block in range(blocks)
        for layer, (inputs, outputs) in layers.items()
    }


def write(folder: Path, matrices: Mapping[str, tuple[Array, Array]], **config: Any) -> Path:
    """Write a PEFT folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = next(iter(matrices.values()))[0].shape[0]
    adapter_config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in matrices}),
        "bias": "none",
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config))
    tensors = {}
    for module, (a, b) in matrices.items():
        for side, array in (("A", a), ("B", b)):
            name = f"base_model.model.{module}.lora_{side}.weight"
            tensors[name] = ("F32", array.shape, array.astype("<f4").tobytes())
    (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    return folder


def smollm(folder: Path, *, seed: int = 1, size: float = 0.02, rank: int = 4, **config: Any) -> Path:
    """Write a random adapter for the bundled SmolLM2-135M and return its folder."""
    return write(folder, pairs(30, SMOLLM, rank, seed=seed, size=size), **config)
