"""A llama in NumPy, read from a GGUF file, as a reference for llama.cpp's answers.

It is independent of the code under test: it reads the file itself, reorders q and k as transformers has them, and
rotates as transformers does, so that a PEFT adapter can be added as PEFT adds it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Llama:
    """A llama model with dequantised weights in the layout of transformers."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._at = 24
        tensors, entries = struct.unpack_from("<QQ", self._data, 8)
        self.values = dict(self._entry() for _ in range(entries))
        words = self.values.get("tokenizer.ggml.tokens", ())
        self.tokens = {word.replace("Ġ", " ").replace("Ċ", "\n"): number for number, word in enumerate(words)}
        """Token ids by text, for tokens whose text is plain."""
        places = [self._place() for _ in range(tensors)]
        start = -(-self._at // 32) * 32
        self.heads = int(self.values.get("llama.attention.head_count", 0))
        self.kv_heads = int(self.values.get("llama.attention.head_count_kv", 0))
        self.blocks = int(self.values.get("llama.block_count", 0))
        self.weights: dict[str, Array] = {}
        for name, shape, kind, offset in places:
            weight = self._tensor(start + offset, shape, kind)
            if name.endswith("attn_q.weight"):
                weight = unpermuted(weight, self.heads)
            elif name.endswith("attn_k.weight"):
                weight = unpermuted(weight, self.kv_heads)
            self.weights[name] = weight

    def logprobs(
        self,
        tokens: Sequence[int],
        adapter: Mapping[str, tuple[Array, Array]] | None = None,
        scaling: float = 0.0,
    ) -> Array:
        """Return log-probabilities of the token after the last. ``adapter`` has A and B by PEFT's module names."""
        names = {
            "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        }  # fmt: skip

        def layer(block: int, module: str, x: Array) -> Array:
            y: Array = x @ self.weights[f"blk.{block}.{names[module]}.weight"].T
            if adapter is not None and (pair := adapter.get(f"model.layers.{block}.{module}")):
                y = y + np.float32(scaling) * ((x @ pair[0].T) @ pair[1].T)
            return y

        x = self.weights["token_embd.weight"][list(tokens)]
        for block in range(self.blocks):
            h = self._norm(x, f"blk.{block}.attn_norm.weight")
            q, k, v = (layer(block, f"self_attn.{part}_proj", h) for part in "qkv")
            x = x + layer(block, "self_attn.o_proj", self._attend(q, k, v))
            h = self._norm(x, f"blk.{block}.ffn_norm.weight")
            gate = layer(block, "mlp.gate_proj", h)
            up = layer(block, "mlp.up_proj", h)
            x = x + layer(block, "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
        last = self._norm(x[-1:], "output_norm.weight")
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        logits = (last @ head.T)[0].astype(np.float64)
        top = logits.max()
        log_probabilities: Array = logits - top - np.log(np.exp(logits - top).sum())
        return log_probabilities

    def _attend(self, q: Array, k: Array, v: Array) -> Array:
        count = q.shape[0]
        width = q.shape[1] // self.heads
        q = self._rotate(q.reshape(count, self.heads, width))
        k = self._rotate(k.reshape(count, self.kv_heads, width))
        v = v.reshape(count, self.kv_heads, width)
        share = self.heads // self.kv_heads
        k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(width)
        scores = np.where(np.tril(np.ones((count, count), bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        weights = scores / scores.sum(-1, keepdims=True)
        mixed: Array = np.einsum("hqk,khd->qhd", weights, v).reshape(count, -1).astype(np.float32)
        return mixed

    def _rotate(self, x: Array) -> Array:
        """Rotate as transformers does: the first half of a head with the second."""
        count, _, width = x.shape
        base = float(self.values["llama.rope.freq_base"])
        angles = np.outer(np.arange(count), base ** (-np.arange(0, width, 2) / width))[:, None, :]
        first_half, two = x[..., : width // 2], x[..., width // 2 :]
        rotated_array = np.concatenate(
            [
                first_half * np.cos(angles) - two * np.sin(angles),
                two * np.cos(angles) + first_half * np.sin(angles),
            ],
            -1,
        )
        return rotated_array.astype(np.float32)

    def _norm(self, x: Array, name: str) -> Array:
        epsilon = float(self.values["llama.attention.layer_norm_rms_epsilon"])
        scaled: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * self.weights[name]
        return scaled.astype(np.float32)

    # --- the file --------------------------------------------------------------------------------------------

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _string(self) -> str:
        length = self._number("Q")
        self._at += length
        return self._data[self._at - length : self._at].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == 8:
            return self._string()
        if kind == 9:
            inner, count = self._number("I"), self._number("Q")
            return [self._value(inner) for _ in range(count)]
        codes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
        return self._number(codes[kind])

    def _entry(self) -> tuple[str, Any]:
        return self._string(), self._value(self._number("I"))

    def _place(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        shape = tuple(self._number("Q") for _ in range(self._number("I")))
        return name, shape[::-1], self._number("I"), self._number("Q")

    def _tensor(self, start: int, shape: tuple[int, ...], kind: int) -> Array:
        count = int(np.prod(shape))
        if kind == 0:
            return np.frombuffer(self._data, "<f4", count, start).reshape(shape).astype(np.float32)
        if kind == 1:
            return np.frombuffer(self._data, "<f2", count, start).reshape(shape).astype(np.float32)
        block = {
            3: np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)]),
            8: np.dtype([("d", "<f2"), ("q", "i1", 32)]),
        }
        blocks = np.frombuffer(self._data, block[kind], count // 32, start)
        scale = blocks["d"].astype(np.float32)[:, None]
        if kind == 8:
            return (blocks["q"].astype(np.float32) * scale).reshape(shape)
        nibbles = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1).astype(np.float32)
        return (nibbles * scale + blocks["m"].astype(np.float32)[:, None]).reshape(shape)


def unpermuted(weight: Array, heads: int) -> Array:
    """Convert llama.cpp's order of rows to that of transformers."""
    width = weight.shape[0] // heads
    restored_weight: Array = weight.reshape(heads, width // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)
    return restored_weight
