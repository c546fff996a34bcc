"""Small model files for tests: valid GGUF with any header that a test needs."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Value = int | float | bool | str | list[str] | list[int]

LLAMA: dict[str, Value] = {
    "general.architecture": "llama",
    "general.name": "Small",
    "general.file_type": 15,
    "llama.context_length": 8192,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.chat_template": "{{ messages }}",
}


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, value: Value) -> bytes:
    if isinstance(value, bool):
        return string(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return string(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return string(key) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return string(key) + struct.pack("<I", 8) + string(value)
    if value and isinstance(value[0], str):
        items = b"".join(string(str(item)) for item in value)
        return string(key) + struct.pack("<IIQ", 9, 8, len(value)) + items
    return string(key) + struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)


def gguf(
    header: Mapping[str, Value] = LLAMA,
    tensors: Sequence[tuple[str, tuple[int, ...], int]] = (("token_embd.weight", (64, 4), 0),),
    *,
    filler: bytes = b"\x00",
) -> bytes:
    """Return a complete GGUF file. A tensor is its name, its dimensions and its ggml type (0: F32, 1: F16, 3: Q4_1)."""
    sizes = {0: (1, 4), 1: (1, 2), 3: (32, 20)}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(header))
    out += b"".join(entry(key, value) for key, value in header.items())
    offset = 0
    for name, dimensions, kind in tensors:
        out += string(name) + struct.pack("<I", len(dimensions))
        out += struct.pack(f"<{len(dimensions)}Q", *dimensions) + struct.pack("<IQ", kind, offset)
        elements = 1
        for dimension in dimensions:
            elements *= dimension
        block, size = sizes[kind]
        offset += -(-elements // block * size // 32) * 32
    out += b"\x00" * (-len(out) % 32)
    return out + (filler * offset)[:offset]


_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁ships", "▁harbour", "▁bread", "▁in", "▁the", "▁is"]

_BERT: dict[str, Value] = {
    "general.architecture": "bert",
    "general.name": "Tiny",
    "bert.context_length": 64,
    "bert.embedding_length": 32,
    "bert.feed_forward_length": 64,
    "bert.block_count": 1,
    "bert.attention.head_count": 2,
    "bert.attention.layer_norm_epsilon": 1e-12,
    "bert.attention.causal": False,
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.token_type_count": 2,
    "tokenizer.ggml.tokens": _WORDS,
    "tokenizer.ggml.unknown_token_id": 1,
    "tokenizer.ggml.bos_token_id": 2,
    "tokenizer.ggml.cls_token_id": 2,
    "tokenizer.ggml.eos_token_id": 3,
    "tokenizer.ggml.seperator_token_id": 3,  # GGUF spells it this way
    "tokenizer.ggml.padding_token_id": 0,
}


def tiny_bert(*, pooling: int, filler: bytes = b"\x00") -> bytes:
    """Return a BERT of one layer with a scoring head, which only rerankers (pooling 4) use. ``filler`` is repeated as
    the bytes of all weights, so that all its scores and vectors are equal.
    """
    layer = {
        "attn_q": (32, 32), "attn_k": (32, 32), "attn_v": (32, 32), "attn_output": (32, 32),
        "ffn_up": (32, 64), "ffn_down": (64, 32),
    }  # fmt: skip
    tensors: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (32, len(_WORDS)), 0),
        ("token_types.weight", (32, 2), 0),
        ("position_embd.weight", (32, 64), 0),
        ("token_embd_norm.weight", (32,), 0),
        ("token_embd_norm.bias", (32,), 0),
        ("cls.weight", (32, 32), 0),
        ("cls.bias", (32,), 0),
        ("cls.output.weight", (32, 1), 0),
        ("cls.output.bias", (1,), 0),
    ]
    for name, shape in layer.items():
        tensors.append((f"blk.0.{name}.weight", shape, 0))
        tensors.append((f"blk.0.{name}.bias", shape[1:], 0))
    for norm in ("attn_output_norm", "layer_output_norm"):
        tensors += [(f"blk.0.{norm}.weight", (32,), 0), (f"blk.0.{norm}.bias", (32,), 0)]
    return gguf({**_BERT, "bert.pooling_type": pooling}, tensors, filler=filler)
