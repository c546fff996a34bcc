"""A LoRA adapter folded into its GGUF model: a GGUF file that needs the adapter no more.

W = W₀ + scale · alpha / rank · B · A (Hu et al. 2021, section 4.1), with everything else of the model as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from .refusal import Unfit
from .rewrite import numbers, rewrite

_ALPHA = "adapter.lora.alpha"


def fold(model: Path, adapter: Path, out: Path, kind: str, scale: float) -> None:
    """Write ``model`` with the GGUF ``adapter`` in it to ``out``, whole or not at all. Raises `Unfit`."""
    if out.exists():
        raise Unfit(f"{out} is there already.")
    base = GGUFReader(model)
    deltas = _deltas(GGUFReader(adapter), scale)
    left = set(deltas) - {tensor.name for tensor in base.tensors}
    if left:
        raise Unfit(f"the adapter is for another model: it has '{min(left)}'.")
    draft = out.with_name(f".{out.name}.new")
    try:
        rewrite(base, {name: delta.added for name, delta in deltas.items()}, draft, kind)
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
    tensors = {tensor.name: numbers(tensor) for tensor in adapter.tensors}
    return {
        name.removesuffix(".lora_a"): _Delta(a, tensors[f"{name[:-1]}b"], scale * alpha / a.shape[0])
        for name, a in tensors.items()
        if name.endswith(".lora_a")
    }
