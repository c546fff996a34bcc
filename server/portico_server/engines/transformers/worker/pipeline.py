"""A folder that diffusers loads: its ``model_index.json`` names the parts, a folder each. Reads small files only.

Source: https://huggingface.co/docs/diffusers/using-diffusers/loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .refusal import Unfit

INDEX = "model_index.json"

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CHANGES = (
    "StableDiffusion",
    "Flux",
    "QwenImage",
    "ZImage",
    "Kolors",
    "Kandinsky",
    "LatentConsistency",
    "IF",
)
"""What the classes of pipelines begin with that also change pictures; loading one tells for certain."""

_VARIANTS = ("fp16", "bf16")
"""Names of weights beside which the plain ones may be missing."""


def changes(index: Mapping[str, Any]) -> bool:
    """Whether such a model is likely to change pictures too."""
    return str(index.get("_class_name", "")).startswith(_CHANGES)


def parts(path: Path, index: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The parts that the index names: a folder's name and a class. Raises `Unfit` for one that brings code."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not name.endswith("Pipeline"):
        raise Unfit(
            f"{path / INDEX} asks for a pipeline of its own, which is code that is not run. Use a model whose pipeline "
            "diffusers knows."
        )
    for part, told in index.items():
        if part.startswith("_") or not isinstance(told, list):
            continue
        library, kind = (*told, None, None)[:2]
        if library is None or kind is None:
            continue
        if not all(isinstance(word, str) and _PLAIN.fullmatch(word) for word in (part, library, kind)):
            raise Unfit(f"{path / INDEX} names a part that cannot be: {part[:60]}.")
        if (path / part / f"{library}.py").exists():
            raise Unfit(
                f"The part '{part}' of {path} needs Python code of its own, which is not run. Use a model whose parts "
                "diffusers knows."
            )
        yield part, kind


def check(path: Path, index: Mapping[str, Any]) -> None:
    """Raise `Unfit` unless all weights are safetensors: a pickle can run anything when it is read."""
    weighed = 0
    for part, _kind in parts(path, index):
        folder = path / part
        if any(folder.glob("*.safetensors")):
            weighed += 1
            continue
        pickles = sorted(item.name for pattern in PICKLES for item in folder.glob(pattern))
        if pickles:
            raise Unfit(
                f"The weights in {folder} are a pickle ({pickles[0]}), which can run code when it is read. Use a "
                "version of the model with safetensors."
            )
    if not weighed:
        raise Unfit(f"There are no weights in {path}: its parts have no safetensors.")


def variant(path: Path, index: Mapping[str, Any]) -> str | None:
    """The name that the weights carry where there are none without, such as ``fp16``."""
    for word in _VARIANTS:
        for part, _kind in parts(path, index):
            names = [item.name for item in (path / part).glob("*.safetensors")]
            if names and all(f".{word}." in name or f".{word}-" in name for name in names):
                return word
    return None
