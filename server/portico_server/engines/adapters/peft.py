"""A PEFT folder: ``adapter_config.json`` and ``adapter_model.safetensors``, read and checked. LoRA only.

Source: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA), https://huggingface.co/docs/peft.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.engines.adapters import safetensors
from portico_server.engines.adapters.safetensors import Safetensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

CONFIG_LIMIT = 1024 * 1024
"""Bytes that an ``adapter_config.json`` may have."""

_KEY = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
_PATTERN = re.compile(r"\^?[A-Za-z0-9_.]+")

_UNSUPPORTED: Mapping[str, str] = {
    "use_dora": "DoRA",
    "lora_bias": "biases",
    "modules_to_save": "whole modules saved besides (modules_to_save)",
    "target_parameters": "adapted parameters (target_parameters)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "use_qalora": "QA-LoRA",
    "layer_replication": "replicated layers (layer_replication)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "megatron_config": "Megatron's layers",
}
"""What makes an adapter more than two matrices for each linear layer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two matrices of one linear layer: A has ``rank`` × ``inputs`` numbers, B ``outputs`` × ``rank``.

    What is added to the layer's weights is ``scaling`` · B · A.
    """

    module: str
    rank: int
    inputs: int
    outputs: int
    scaling: float
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Peft:
    """A LoRA adapter. ``base`` is what it says it was trained on; nobody checks that."""

    folder: Path
    base: str
    rank: int
    alpha: float
    rslora: bool
    patterned: bool
    """Whether some layers have another rank or alpha than the rest."""
    pairs: tuple[Pair, ...]
    file: Safetensors

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the adapted layers, without their places."""
        return tuple(sorted({pair.module.rpartition(".")[2] for pair in self.pairs}))

    @property
    def highest_rank(self) -> int:
        return max(pair.rank for pair in self.pairs)


def read(folder: Path) -> Peft:
    """Read the configuration and the header of the weights. Blocks. Raises `InvalidRequest`, or `NotFound`."""
    if not folder.is_dir():
        raise NotFound(
            f"There is no adapter at {folder}. Give the folder that PEFT wrote, with {CONFIG} and {WEIGHTS}, or a "
            ".gguf file.",
            code="adapter_not_found",
            param="path",
        )
    weights = folder / WEIGHTS
    if not weights.is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            raise _bad(
                folder,
                f"has its weights as a pickle, which can run code and is never opened. Save them as {WEIGHTS} "
                "(PEFT: safe_serialization=True)",
            )
        raise _bad(folder, f"has no {WEIGHTS}")
    config = _config(folder)
    _only_lora(folder, config)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _whole(rank) or not isinstance(alpha, int | float) or isinstance(alpha, bool) or alpha <= 0:
        raise _bad(folder, "needs 'r' (a whole number above 0) and 'lora_alpha' (a number above 0)")
    assert isinstance(rank, int)
    file = safetensors.read(weights)
    ranks = _patterns(folder, config, "rank_pattern")
    alphas = _patterns(folder, config, "alpha_pattern")
    rslora = config.get("use_rslora") is True
    pairs = []
    for module, sides in _modules(folder, file).items():
        own_rank = _own(ranks, module, rank)
        own_alpha = _own(alphas, module, alpha)
        scaling = own_alpha / (math.sqrt(own_rank) if rslora else own_rank)
        pairs.append(_pair(folder, file, module, sides, int(own_rank), scaling))
    return Peft(
        folder,
        str(config.get("base_model_name_or_path") or ""),
        rank,
        float(alpha),
        rslora,
        bool(ranks or alphas),
        tuple(pairs),
        file,
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise _bad(folder, f"has no {CONFIG}")
    with path.open("rb") as file:
        data = file.read(CONFIG_LIMIT + 1)
    try:
        document = orjson.loads(data) if len(data) <= CONFIG_LIMIT else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise _bad(folder, f"has a {CONFIG} that is not a JSON object")
    return document


def _only_lora(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _bad(folder, f"is of the kind {kind!r}; only LORA adapters are taken")
    for field, words in _UNSUPPORTED.items():
        if config.get(field):
            raise _bad(
                folder, f"uses {words}, which is not taken. Train with plain LoRA, or merge it into its model"
            )
    if config.get("bias") not in (None, "none"):
        raise _bad(folder, "trains biases, which is not taken. Train with bias='none'")


def _modules(folder: Path, file: Safetensors) -> dict[str, dict[str, str]]:
    """Adapted modules, each with the names of its two tensors."""
    found: dict[str, dict[str, str]] = {}
    for name in file.tensors:
        match = _KEY.fullmatch(name)
        if match is None:
            if "magnitude" in name:
                what = "of DoRA"
            elif "embedding" in name or "embed_tokens" in name:
                what = "of an adapted embedding, which is not taken"
            else:
                what = "that is not half of a LoRA pair"
            raise _bad(folder, f"has a tensor '{name[:120]}' {what}")
        found.setdefault(match["module"], {})[match["side"]] = name
    if not found:
        raise _bad(folder, "has no tensors")
    return found


def _pair(
    folder: Path, file: Safetensors, module: str, sides: Mapping[str, str], rank: int, scaling: float
) -> Pair:
    if set(sides) != {"A", "B"}:
        raise _bad(folder, f"has only one of the two matrices of '{module}'")
    a, b = file.tensors[sides["A"]], file.tensors[sides["B"]]
    if a.dtype not in safetensors.WIDTHS or b.dtype not in safetensors.WIDTHS:
        raise _bad(folder, f"has '{module}' as {a.dtype}; expected {', '.join(safetensors.WIDTHS)}")
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise _bad(folder, f"adapts '{module}', which is not a linear layer")
    if a.shape[0] != rank or b.shape[1] != rank:
        raise _bad(
            folder,
            f"has the matrices {list(a.shape)} and {list(b.shape)} for '{module}', but its configuration says rank "
            f"{rank}",
        )
    return Pair(module, rank, a.shape[1], b.shape[0], scaling, sides["A"], sides["B"])


def _patterns(folder: Path, config: Mapping[str, Any], field: str) -> dict[str, float]:
    given = config.get(field) or {}
    if not isinstance(given, dict):
        raise _bad(folder, f"has a '{field}' that is not a JSON object")
    for name, value in given.items():
        if not _PATTERN.fullmatch(name):
            raise _bad(folder, f"has the pattern '{name[:80]}' in '{field}': only names of layers are taken")
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise _bad(folder, f"has {value!r} for '{name[:80]}' in '{field}'; expected a number above 0")
    return given


def _own(patterns: Mapping[str, float], module: str, usual: float) -> float:
    """The first pattern that names the module: whole, or its last parts."""
    for name, value in patterns.items():
        bare = name.removeprefix("^")
        if module == bare or (bare == name and module.endswith(f".{bare}")):
            return value
    return usual


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _bad(folder: Path, what: str) -> InvalidRequest:
    return InvalidRequest(f"The adapter {folder} {what}.", code="adapter_invalid", param="path")
