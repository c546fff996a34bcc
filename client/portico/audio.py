"""What the SDK tells of recordings that a model has written down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording, from ``start`` to ``end`` seconds: a sentence or so, or a word."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. ``language`` and ``duration``, in seconds, where the model tells them."""

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Stretch, ...] = ()
    words: tuple[Stretch, ...] = ()
