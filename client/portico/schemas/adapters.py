"""Adapters: small sets of weights on top of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Adapter:
    """A small set of weights on top of the model ``base``, and a model name of its own.

    ``state``: ``cold`` until the base is loaded, ``ready``, ``failed`` if the base runs without it, ``orphaned`` if
    there is no base any more. ``kind``: ``peft`` or ``gguf``.
    """

    name: str
    base: str
    kind: str = ""
    scale: float = 1.0
    state: str = ""
    engine: str | None = None
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    trained_on: str = ""
    bytes: int = 0
    sha256: str = ""
    configured: bool = False
    created_at: float = 0
