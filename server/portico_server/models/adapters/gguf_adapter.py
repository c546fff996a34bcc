"""LoRA adapters for llama.cpp: converts PEFT folders to GGUF, and validates GGUF adapters. Blocks.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The names of tensors, and the order of the rows in q
and k, are those of llama.cpp's own conversion of the base model.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.models.adapters import peft
from portico_server.models.adapters.peft import PeftAdapter
from portico_server.models.gguf import Gguf, read_gguf, read_shapes

if TYPE_CHECKING:
    from portico_server.models.adapters.peft import Array

ALIGNMENT_BYTES = 32
"""Alignment of tensors in a GGUF file, in bytes."""

_SPLIT = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_JOINED = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

LAYERS: Mapping[str, Mapping[str, str]] = {
    "llama": _SPLIT,  # Mistral has the same architecture name
    "qwen2": _SPLIT,
    "qwen3": _SPLIT,
    "gemma2": _SPLIT,
    "gemma3": _SPLIT,
    "phi3": _JOINED,
}
"""llama.cpp's names for the linear layers of a block, by architecture."""

PERMUTED_ARCHITECTURES = frozenset({"llama"})
"""Architectures whose q and k rows llama.cpp stores in another order than transformers."""

_BLOCK = re.compile(r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?layers\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class GgufBase:
    """The base model of an adapter: the header of its file, and the dimensions of its tensors, innermost first."""

    path: Path
    file: Gguf
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, path: Path) -> GgufBase:
        """Read the header of a base model. Raises `InvalidRequest`, or `NotFound`."""
        return cls(path, read_gguf(path), read_shapes(path))

    @property
    def key(self) -> str:
        """A key that is equal for models for which a converted adapter is identical."""
        return f"{self.file.architecture}-{self.file.head_count}-{self.file.head_count_kv}"


def prepare_gguf_adapter(source: Path, base: GgufBase) -> Path:
    """Return the file that llama.cpp loads for an adapter: the adapter itself if it is a GGUF file, otherwise a file
    converted once from the PEFT folder.

    The converted file is stored next to the adapter's weights.

    Raises `InvalidRequest` if the adapter does not fit the model.
    """
    if source.is_file():
        check_gguf_adapter(source, base)
        return source
    path = source / f"{base.key}.gguf"
    adapter = peft.read_peft(source)
    _fits(source, _renamed(adapter, base), base)
    if not path.is_file():
        convert_peft(adapter, base, path)
    return path


def check_gguf_adapter(path: Path, base: GgufBase) -> None:
    """Raise `InvalidRequest` unless a GGUF file is a LoRA adapter for this model."""
    file = read_gguf(path)
    if file.kind != "adapter" or file.values.get("adapter.type") != "lora":
        raise _bad(path, f"is a {file.kind or 'file of unknown kind'}, not a LoRA adapter")
    if file.truncated:
        raise _bad(path, f"is truncated: it has {file.file_size} of {file.end_offset} bytes")
    if file.architecture != base.file.architecture:
        raise _bad(path, f"is for '{file.architecture}' models, but the base is '{base.file.architecture}'")
    shapes = read_shapes(path)
    for name, shape in shapes.items():
        target, _, side = name.rpartition(".lora_")
        if side not in ("a", "b") or not target:
            raise _bad(path, f"has a tensor '{name[:120]}' that is not half of a LoRA pair")
        other_shape = shapes.get(f"{target}.lora_{'b' if side == 'a' else 'a'}")
        if len(shape) != 2 or other_shape is None or len(other_shape) != 2:
            raise _bad(path, f"has only one of the two matrices of '{target}'")
    pairs = {
        name.removesuffix(".lora_a"): (shape[0], shapes[f"{name[:-1]}b"][1])
        for name, shape in shapes.items()
        if name.endswith(".lora_a")
    }
    if not pairs:
        raise _bad(path, "has no tensors")
    _fits(path, pairs, base)


def convert_peft(adapter: PeftAdapter, base: GgufBase, target: Path) -> None:
    """Write ``adapter`` as a GGUF file, completely or not at all.

    In GGUF, all pairs of matrices share one alpha, so other scales are multiplied into B. Raises `InvalidRequest` if a
    number is not finite.
    """
    import numpy as np

    alpha = adapter.alpha * (math.sqrt(adapter.rank) if adapter.rslora else 1.0)
    tensors: list[tuple[str, Array]] = []
    for pair in adapter.pairs:
        name = _name(adapter, pair.module, base)
        a, b = adapter.file.array(pair.a), adapter.file.array(pair.b)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise _bad(adapter.folder, f"has non-finite numbers in '{pair.module}': it is unusable")
        b = b * np.float32(pair.scaling * pair.rank / alpha)
        if base.file.architecture in PERMUTED_ARCHITECTURES:
            if name.endswith("attn_q.weight"):
                b = permute_rows(b, base.file.head_count)
            elif name.endswith("attn_k.weight"):
                b = permute_rows(b, base.file.head_count_kv)
        tensors += [(f"{name}.lora_a", a), (f"{name}.lora_b", b)]
    values: dict[str, str | float] = {
        "general.type": "adapter",
        "general.architecture": base.file.architecture,
        "general.name": adapter.folder.name,
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }
    draft = target.with_suffix(f".{os.getpid()}.new")
    try:
        write_gguf(draft, values, tensors)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def permute_rows(rows: Array, heads: int) -> Array:
    """Return the rows of q or k in llama.cpp's order. Its rotary embedding expects the two halves of each head
    interleaved.
    """
    count = rows.shape[0]
    return rows.reshape(heads, 2, count // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path: Path, values: Mapping[str, str | float], tensors: Sequence[tuple[str, Array]]) -> None:
    """Write a GGUF file of version 3. Tensors are stored in 16 bits, or in 32 bits if a number is too large for 16."""
    import numpy as np

    formats = ["F16" if np.abs(array).max(initial=0) < 65_504 else "F32" for _, array in tensors]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, value in values.items():
        head += _string(key) + (
            struct.pack("<I", 8) + _string(value) if isinstance(value, str) else struct.pack("<If", 6, value)
        )
    offset = 0
    for (name, array), dtype in zip(tensors, formats, strict=True):
        dimensions = array.shape[::-1]
        head += _string(name) + struct.pack("<I", len(dimensions))
        head += struct.pack(f"<{len(dimensions)}Q", *dimensions)
        head += struct.pack("<IQ", {"F32": 0, "F16": 1}[dtype], offset)
        offset += _padded_length(array.size * peft.FLOAT_WIDTHS[dtype])
    with path.open("wb") as file:
        file.write(head + b"\0" * (_padded_length(len(head)) - len(head)))
        for (_, array), dtype in zip(tensors, formats, strict=True):
            data = peft.pack_floats(array, dtype)
            file.write(data + b"\0" * (_padded_length(len(data)) - len(data)))
        file.flush()
        os.fsync(file.fileno())


def _renamed(adapter: PeftAdapter, base: GgufBase) -> dict[str, tuple[int, int]]:
    """Return the adapted tensors by llama.cpp's names, each with its number of inputs and outputs."""
    return {_name(adapter, pair.module, base): (pair.inputs, pair.outputs) for pair in adapter.pairs}


def _name(adapter: PeftAdapter, module: str, base: GgufBase) -> str:
    architecture = base.file.architecture
    layers = LAYERS.get(architecture)
    if layers is None:
        raise InvalidRequest(
            f"A PEFT adapter for a '{architecture}' model cannot be converted; supported are "
            f"{', '.join(LAYERS)}. Convert it with llama.cpp's convert_lora_to_gguf.py and use the .gguf "
            "file.",
            code="adapter_unsupported",
            param="path",
        )
    if module in ("lm_head", "language_model.lm_head"):
        return "output.weight"
    match = _BLOCK.fullmatch(module)
    name = layers.get(match[2]) if match else None
    if match is None or name is None:
        raise _bad(
            adapter.folder,
            f"adapts '{module}', which a '{architecture}' model does not have. It may be for another model: "
            f"its configuration says it was trained on '{adapter.base or 'nothing'}'",
        )
    return f"blk.{match[1]}.{name}.weight"


def _fits(source: Path, pairs: Mapping[str, tuple[int, int]], base: GgufBase) -> None:
    for name, (inputs, outputs) in pairs.items():
        shape = base.shapes.get(name)
        if shape is None and base.file.split_count > 1:
            continue  # the module belongs to another part of the model; llama.cpp searches all parts too
        if shape is None:
            tied_note = " The model uses its embedding instead." if name == "output.weight" else ""
            raise _bad(source, f"adapts '{name}', which the base model does not have.{tied_note}".rstrip("."))
        if shape[:2] != (inputs, outputs):
            raise _bad(
                source,
                f"does not fit: '{name}' has {inputs} inputs and {outputs} outputs in the adapter, but "
                f"{shape[0]} and {shape[1]} in the base model. It was trained on another model",
            )


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded_length(length: int) -> int:
    return -(-length // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _bad(source: Path, problem: str) -> InvalidRequest:
    return InvalidRequest(f"The adapter {source} {problem}.", code="adapter_invalid", param="path")
