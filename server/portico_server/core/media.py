"""Sounds and pictures: what a model is asked to say, hear or draw, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from portico.wire import Usage

AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""``pcm`` is 24 kHz, one channel, 16 bits, little-endian, without a header."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that goes with a request. ``field`` is its name in OpenAI's form: ``file``, ``image`` or ``mask``."""

    field: str
    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Speak:
    """A text to be said aloud. ``speed`` from 0.25 to 4; ``options`` are the parameters that only some models have."""

    input: str
    voice: str = ""
    response_format: AudioFormat = "mp3"
    speed: float = 1.0
    instructions: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Speech to be written down; with ``translate`` in English. ``language`` as ISO 639-1, ``prompt`` what was said
    before it or how it is spelled.
    """

    file: Attached
    language: str = ""
    prompt: str = ""
    temperature: float = 0.0
    translate: bool = False
    timestamps: Literal["", "segment", "word"] = ""


@dataclass(frozen=True, slots=True)
class Draw:
    """A picture to be made of words, ``n`` times; of ``images`` if there are some, changed only where ``mask`` is
    transparent. ``size`` is ``auto`` or WIDTHxHEIGHT in pixels.
    """

    prompt: str
    n: int = 1
    size: str = "auto"
    images: tuple[Attached, ...] = ()
    mask: Attached | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The answer to `Speak`: sound in the format that was asked for."""

    audio: bytes
    media_type: str
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A stretch of a recording: from ``start`` to ``end`` seconds, a sentence or a word."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The answer to `Transcribe`. ``duration`` in seconds; ``segments`` and ``words`` where the model tells them."""

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Said, ...] = ()
    words: tuple[Said, ...] = ()
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One of `Drawn`. ``revised_prompt`` where the model was told something else than was asked; without ``data`` it
    is still at ``url``, where its provider keeps it.
    """

    data: bytes
    media_type: str
    revised_prompt: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The answer to `Draw`: as many pictures as were asked for."""

    images: tuple[Picture, ...]
    usage: Usage = Usage()
    model: str = ""
