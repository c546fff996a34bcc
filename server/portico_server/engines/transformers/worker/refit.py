"""A model that was trained as a whole, put back into the GGUF file that it came from.

Tokenizer, template and metadata stay what they are; every tensor is replaced. Names follow the tables of the package
``gguf``; the order of rows in q and k, and what is added to norms, are those of llama.cpp's own conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGUFReader, get_tensor_name_map
from safetensors import safe_open

from .refusal import Unfit
from .rewrite import Change, rewrite

PERMUTED = ("llama",)
"""Architectures whose q and k rows llama.cpp keeps in another order than transformers."""

SHIFTED = ("gemma", "gemma2", "gemma3")
"""Architectures whose norms are kept with 1 added."""

OUTPUT, EMBEDDING = "output.weight", "token_embd.weight"

CONSTANT = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that follow from the configuration and are not trained."""


def refit(model: Path, folder: Path, out: Path, kind: str) -> None:
    """Write ``model`` with the weights in ``folder`` (safetensors) to ``out``, whole or not at all. Raises `Unfit`."""
    if out.exists():
        raise Unfit(f"{out} is there already.")
    base = GGUFReader(model)
    trained = _Trained(folder, base)
    names = [tensor.name for tensor in base.tensors if tensor.name not in CONSTANT]
    missing = [name for name in names if not trained.has(name)]
    if missing:
        raise Unfit(f"the trained model has nothing for '{missing[0]}', so it cannot become a GGUF file.")
    draft = out.with_name(f".{out.name}.new")
    try:
        rewrite(base, {name: trained.change(name) for name in names}, draft, kind)
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)


class _Trained:
    """The tensors of a folder by the names of a GGUF file."""

    def __init__(self, folder: Path, base: GGUFReader) -> None:
        self._architecture = _text(base, "general.architecture")
        blocks = _number(base, f"{self._architecture}.block_count")
        self._heads = _number(base, f"{self._architecture}.attention.head_count")
        self._keys = _number(base, f"{self._architecture}.attention.head_count_kv") or self._heads
        known = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
        if self._architecture not in known:
            raise Unfit(f"the names of '{self._architecture}' models are not known.")
        table = get_tensor_name_map(known[self._architecture], blocks)
        self._found: dict[str, tuple[Path, str]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  # it is no dictionary
                    ours = table.get_name(name, try_suffixes=(".weight", ".bias"))
                    if ours is not None:
                        self._found[ours] = (path, name)
        if OUTPUT not in self._found and EMBEDDING in self._found:
            self._found[OUTPUT] = self._found[EMBEDDING]  # one matrix does for both

    def has(self, name: str) -> bool:
        return name in self._found

    def change(self, name: str) -> Change:
        """What puts the trained tensor in place of the base's."""

        def put(before: Any) -> Any:
            path, theirs = self._found[name]
            with safe_open(path, "pt") as file:
                weights = file.get_tensor(theirs).to(torch.float32).numpy()
            weights = self._ordered(name)(weights)
            if weights.shape != before.shape:
                raise Unfit(f"'{theirs}' is {list(weights.shape)}, and {list(before.shape)} in the base.")
            return weights

        return put

    def _ordered(self, name: str) -> Callable[[Any], Any]:
        if self._architecture in PERMUTED:
            for part, heads in (("attn_q", self._heads), ("attn_k", self._keys)):
                if name.endswith((f".{part}.weight", f".{part}.bias")):
                    return lambda rows: _permuted(rows, heads)
        if self._architecture in SHIFTED and name.endswith("norm.weight"):
            return lambda numbers: numbers + np.float32(1)
        return lambda numbers: numbers


def _permuted(rows: Any, heads: int) -> Any:
    """The two halves of each head interleaved, as llama.cpp's rotary embedding takes them."""
    count = rows.shape[0]
    return rows.reshape(heads, 2, count // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _text(model: GGUFReader, name: str) -> str:
    field = model.get_field(name)
    return "" if field is None else str(field.contents())


def _number(model: GGUFReader, name: str) -> int:
    field = model.get_field(name)
    return 0 if field is None else int(field.contents())
