"""What a model takes on transformers: where it computes, in which number format, and how much memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico_server.engines.hardware import Hardware
from portico_server.engines.planner.facts import Weights
from portico_server.engines.protocol import MEMORY_SHARE

MB = 1024**2

PROCESS = 600 * MB
"""Bytes of memory that PyTorch and transformers take before there is a model."""

ON_GPU = 1_500 * MB
"""Bytes of a GPU for its driver and intermediate values."""

WORK = 0.15
"""Intermediate values on the CPU, as a part of the weights."""

SOUND = 500 * MB
"""A recording of two hours and the intermediate values of one window."""

PICTURE = 2_000 * MB
"""Intermediate values of a picture of 1024 × 1024, where the weights are not smaller still."""

CONTEXT = 8_192
"""Tokens for which a cache is counted, where the model takes as many."""

_WIDTHS: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Settled:
    """How a model will run. Sizes in bytes; ``memory`` is what it takes of the machine's own."""

    device: Literal["cpu", "gpu"]
    dtype: str
    threads: int
    context_length: int
    weights: int
    cache: int
    other: int
    available: int
    shared: bool = False
    draws: bool = False
    sound: bool = False

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.other

    @property
    def memory(self) -> int:
        """On a GPU of its own, the machine holds the process alone."""
        return self.total if self.device == "cpu" or self.shared else PROCESS + ON_GPU

    @property
    def parameters(self) -> dict[str, Any]:
        """As the engine takes them."""
        read = {} if self.draws or self.sound else {"context_length": self.context_length}
        return {"dtype": self.dtype, "threads": self.threads, **read}


def settle(
    model: Weights, hardware: Hardware, parameters: Mapping[str, Any], budget: int | None = None
) -> Settled:
    """Plan: the first GPU if there is one. On the CPU in 32 bits, which it computes fastest, where they fit; what
    generates may keep its 16 bits to fit at all.
    """
    gpu = hardware.gpus[0] if hardware.gpus and parameters.get("device") != "cpu" else None
    share = int(hardware.memory_bytes * MEMORY_SHARE) if budget is None else budget
    available = share if gpu is None else gpu.memory_bytes
    trained = model.context_length or 2_048
    context = parameters.get("context_length") or trained
    cache = (
        0 if model.encoder or model.ranks or model.draws else model.cache_per_token * min(context, CONTEXT)
    )
    wide = _width(model)

    def sized(dtype: str) -> Settled:
        weights = int(model.size * _WIDTHS.get(dtype, wide) / wide)
        other = PROCESS + int(weights * WORK) if gpu is None else ON_GPU
        other += min(PICTURE, weights) if model.draws else SOUND if model.sound else 0
        kept = cache * _WIDTHS.get(dtype, 2) // 2
        return Settled(
            "cpu" if gpu is None else "gpu", dtype, hardware.cores, context, weights, kept, other, available,
            shared=gpu is not None and gpu.shared, draws=model.draws, sound=bool(model.sound),
        )  # fmt: skip

    if asked := parameters.get("dtype"):
        return sized(str(asked))
    if gpu is not None:
        if model.sound == "speech":
            return sized("float32")  # small, and rounding is heard
        old = gpu.shared or 0 < gpu.capability < 8.0
        return sized("float16" if old else "bfloat16")
    full = sized("float32")
    if model.encoder or model.ranks or model.draws or model.sound or full.total <= available // 2:
        return full
    return sized("bfloat16")


def _width(model: Weights) -> int:
    """Bytes of a number in the files."""
    return _WIDTHS.get(model.dtype, 2)


def reasons(model: Weights, hardware: Hardware, settled: Settled) -> list[str]:
    """Why, a sentence each, without the last one about memory."""
    nvidia = any(not gpu.shared for gpu in hardware.gpus)
    if model.draws:
        first = f"It is a model that draws ({model.architecture}), which diffusers runs in the engine transformers."
    elif model.sound:
        does = "speaks" if model.sound == "speech" else "writes down what is said"
        first = f"It is a model that {does} ({model.architecture}), which transformers runs."
    elif model.ranks:
        first = f"It is a reranker as safetensors ({model.architecture}), which transformers runs."
    elif nvidia:
        first = f"Safetensors ({model.architecture}) on transformers, as asked for."
    else:
        first = f"Safetensors ({model.architecture}) without an NVIDIA GPU, which vLLM needs, run on transformers."
    found = [first]
    unit = "picture" if model.draws else "call"
    if settled.device == "gpu":
        found.append(f"It computes on the {hardware.gpus[0].name} in {settled.dtype}, one {unit} at a time.")
    else:
        threads = f"{settled.threads} thread{'s' if settled.threads > 1 else ''}"
        found.append(f"It computes on the CPU with {threads} in {settled.dtype}, one {unit} at a time.")
    if not (model.encoder or model.ranks or model.draws or model.sound):
        found.append(
            f"{settled.context_length:,} tokens of context. A GGUF of the same model on llama.cpp answers several "
            "times faster and takes less memory."
        )
    return found
