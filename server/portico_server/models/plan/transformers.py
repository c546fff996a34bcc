"""The requirements of a model on transformers: its device, its number format, and its memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from portico_server.core.dataclass import dataclass
from portico_server.models.hardware import Hardware
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import MEMORY_SHARE

MB = 1024**2

PROCESS_BYTES = 600 * MB
"""Memory of PyTorch and transformers before a model is loaded, in bytes."""

GPU_OVERHEAD_BYTES = 1_500 * MB
"""GPU memory for the driver and intermediate values, in bytes."""

CPU_WORK_SHARE = 0.15
"""Memory for intermediate values on the CPU, as a share of the weights."""

SOUND_BYTES = 500 * MB
"""Memory for a recording of two hours and the intermediate values of one window, in bytes."""

IMAGE_BYTES = 2_000 * MB
"""Memory for the intermediate values of an image of 1024 × 1024, in bytes; at most the size of the weights."""

MAX_COUNTED_CONTEXT_TOKENS = 8_192
"""Maximum context for which a cache is counted, in tokens."""

_WIDTHS: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class TransformersPlan:
    """How a model will run. Sizes are in bytes; ``memory`` is how much of the machine's own memory it uses."""

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
        """Return the bytes of the machine's memory. With a GPU that has its own memory, only the process counts."""
        return self.total if self.device == "cpu" or self.shared else PROCESS_BYTES + GPU_OVERHEAD_BYTES

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters in the engine's format."""
        read = {} if self.draws or self.sound else {"context_length": self.context_length}
        return {"dtype": self.dtype, "threads": self.threads, **read}


def plan_transformers(
    model: ModelWeights, hardware: Hardware, parameters: Mapping[str, Any], budget: int | None = None
) -> TransformersPlan:
    """Plan a model, on the first GPU if the machine has a GPU.

    On the CPU, the model runs in 32 bits, which is fastest, if they fit. A generating model can use 16 bits instead.
    """
    gpu = hardware.gpus[0] if hardware.gpus and parameters.get("device") != "cpu" else None
    share = int(hardware.memory_bytes * MEMORY_SHARE) if budget is None else budget
    available = share if gpu is None else gpu.memory_bytes
    trained_tokens = model.context_length or 2_048
    context = parameters.get("context_length") or trained_tokens
    cache = (
        0
        if model.encoder or model.ranks or model.draws
        else model.cache_per_token * min(context, MAX_COUNTED_CONTEXT_TOKENS)
    )
    wide = _width(model)

    def sized(dtype: str) -> TransformersPlan:
        weights = int(model.size * _WIDTHS.get(dtype, wide) / wide)
        other_bytes = PROCESS_BYTES + int(weights * CPU_WORK_SHARE) if gpu is None else GPU_OVERHEAD_BYTES
        other_bytes += min(IMAGE_BYTES, weights) if model.draws else SOUND_BYTES if model.sound else 0
        cache_bytes = cache * _WIDTHS.get(dtype, 2) // 2
        return TransformersPlan(
            "cpu" if gpu is None else "gpu", dtype, hardware.cores, context, weights,
            cache_bytes, other_bytes, available,
            shared=gpu is not None and gpu.shared, draws=model.draws, sound=bool(model.sound),
        )  # fmt: skip

    if asked_dtype := parameters.get("dtype"):
        return sized(str(asked_dtype))
    if gpu is not None:
        if model.sound == "speech":
            return sized("float32")  # these models are small, and rounding is audible
        old = gpu.shared or 0 < gpu.capability < 8.0
        return sized("float16" if old else "bfloat16")
    full = sized("float32")
    if model.encoder or model.ranks or model.draws or model.sound or full.total <= available // 2:
        return full
    return sized("bfloat16")


def _width(model: ModelWeights) -> int:
    """Return how many bytes a number has in the files."""
    return _WIDTHS.get(model.dtype, 2)


def transformers_reasons(
    model: ModelWeights, hardware: Hardware, transformers_plan: TransformersPlan
) -> list[str]:
    """Return the reasons, one sentence each, except the last reason, which is about memory."""
    nvidia = any(not gpu.shared for gpu in hardware.gpus)
    if model.draws:
        first = (
            f"It is an image model ({model.architecture}), which diffusers runs in the engine transformers."
        )
    elif model.sound:
        does = "speaks" if model.sound == "speech" else "transcribes speech"
        first = f"It is a model that {does} ({model.architecture}), and runs on transformers."
    elif model.ranks:
        first = f"It is a reranker as safetensors ({model.architecture}), and runs on transformers."
    elif nvidia:
        first = f"The safetensors ({model.architecture}) run on transformers, as requested."
    else:
        first = f"Safetensors ({model.architecture}) without an NVIDIA GPU, which vLLM needs, run on transformers."
    reasons = [first]
    unit = "picture" if model.draws else "call"
    if transformers_plan.device == "gpu":
        reasons.append(
            f"It runs on the {hardware.gpus[0].name} in {transformers_plan.dtype}, one {unit} at a time."
        )
    else:
        threads = f"{transformers_plan.threads} thread{'s' if transformers_plan.threads > 1 else ''}"
        reasons.append(
            f"It runs on the CPU with {threads} in {transformers_plan.dtype}, one {unit} at a time."
        )
    if not (model.encoder or model.ranks or model.draws or model.sound):
        reasons.append(
            f"{transformers_plan.context_length:,} tokens of context. A GGUF file of the same model on "
            "llama.cpp is several times faster and needs less memory."
        )
    return reasons
