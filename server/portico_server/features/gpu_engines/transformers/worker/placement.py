"""The device and the number format of a model, chosen from the worker's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of the worker.

    ``device`` and ``dtype`` can be ``auto``. ``context_length`` 0 means the model's default, ``threads`` 0 the
    machine's. An empty ``pooling`` or ``chat_template`` means the model's own.
    """

    name: str
    device: str = "auto"
    dtype: str = "auto"
    context_length: int = 0
    threads: int = 0
    pooling: str = ""
    chat_template: Path | None = None
    queue: int = 64
    max_seconds: float = 0.0
    """Maximum seconds of an accepted recording, or of generated music; 0 for the task's default."""
    max_pixels: int = 0
    """Maximum pixels of a generated image; 0 for the task's default."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model computes: a torch device and a number format."""

    device: Any
    dtype: Any


def choose_placement(settings: WorkerSettings, *, generates: bool) -> Placement:
    """Choose a placement: CUDA if available, otherwise Metal, otherwise the CPU.

    On the CPU, only generating models can use 16-bit numbers.
    """
    import torch

    if settings.threads:
        torch.set_num_threads(settings.threads)
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if settings.dtype != "auto":
        return Placement(torch.device(name), getattr(torch, settings.dtype))
    if name.startswith("cuda"):
        return Placement(
            torch.device(name), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        )
    if name == "mps":
        return Placement(torch.device(name), torch.float16)
    return Placement(torch.device(name), "auto" if generates else torch.float32)
