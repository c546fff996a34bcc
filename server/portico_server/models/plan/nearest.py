"""Suggestions for a model that does not fit."""

from __future__ import annotations

from portico_server.models.hardware import Hardware
from portico_server.models.known_models import recommend
from portico_server.models.plan.outcome import GB, Q4_BITS
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import MEMORY_SHARE


def nearest_gguf_of(model: ModelWeights, hardware: Hardware) -> str:
    """Return a sentence that suggests a GGUF of the same model or, if that does not fit, another model."""
    quarter = int(model.parameters * Q4_BITS / 8)
    if quarter + GB < int(hardware.memory_bytes * MEMORY_SHARE):
        return f"A GGUF of the same model fits: Q4_K_M takes about {gb(quarter)}."
    return recommended(hardware)


def recommended(hardware: Hardware) -> str:
    """Return a sentence that suggests the recommended model for a machine."""
    is_accelerated = any(gpu.shared for gpu in hardware.gpus)
    recommendation = recommend(hardware, is_accelerated=is_accelerated)
    if recommendation is None:
        return "No recommended model fits; SmolLM2-135M, which comes with Portico, needs half a gigabyte."
    return (
        f"A model that fits is {recommendation.name} ({recommendation.size_gb:g} GB): "
        f"{recommendation.source}."
    )


def gb(size: int) -> str:
    """Return bytes in a readable form: ``4.2 GB``."""
    return f"{size / GB:.1f} GB" if size >= 0.1 * GB else f"{size / 1024**2:.0f} MB"
