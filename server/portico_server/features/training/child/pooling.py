"""The pooling and prompt of an embedding model, read from sentence-transformers files in the same way as by the engine
that serves the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def pooling_of(folder: Path) -> str:
    """Return the pooling: ``mean``, ``cls``, ``last`` or ``max``. Raises `ValueError` for a model that cannot be
    trained.
    """
    modules = folder / "modules.json"
    if not modules.is_file():
        return "mean"
    pooling = "mean"
    for module in json.loads(modules.read_text(encoding="utf-8")):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            place = folder / Path(str(module.get("path", ""))).name / "config.json"
            config = json.loads(place.read_text(encoding="utf-8"))
            pooling_mode = config.get("pooling_mode")
            names = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last", "max_tokens": "max"}
            on = [
                pooling_name
                for mode_suffix, pooling_name in names.items()
                if config.get(f"pooling_mode_{mode_suffix}") is True
            ]
            pooling = pooling_mode if isinstance(pooling_mode, str) else on[0] if len(on) == 1 else ""
            pooling = "last" if pooling == "lasttoken" else pooling
        elif kind not in ("Transformer", "Normalize"):
            raise ValueError(f"the model has a module of type '{kind}', which training does not support")
    if pooling not in ("mean", "cls", "last", "max"):
        raise ValueError(f"training does not support the model's pooling {pooling!r}")
    return pooling


def prompt_of(folder: Path) -> str:
    """Return the prefix that the engine puts before each text."""
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    prompt = (config.get("prompts") or {}).get(config.get("default_prompt_name"))
    return prompt if isinstance(prompt, str) else ""


def pool(states: Any, mask: Any, pooling: str) -> Any:
    """Pool hidden states of shape [rows, tokens, width], with their mask, to [rows, width]; padding is on the right."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    wide = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return states.masked_fill(wide == 0, float("-inf")).amax(dim=1)
    return (states * wide).sum(dim=1) / wide.sum(dim=1).clamp(min=1e-9)
