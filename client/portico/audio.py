"""What the SDK says of recordings that a model has written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict

from portico.errors import NotPortico

AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
Times: TypeAlias = Literal["segment", "word"]


class SpeechOptions(TypedDict, total=False):
    """What a sound may be asked for beside its text: OpenAI's fields, and those of local models."""

    extra_body: Mapping[str, Any]
    instructions: str
    seconds: float
    seed: int


SPEECH_OPTIONS: Final[frozenset[str]] = SpeechOptions.__optional_keys__


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording, from ``start`` to ``end`` seconds: a sentence or so, or a word."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. ``language`` and ``duration``, in seconds, where the model reports them."""

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Stretch, ...] = ()
    words: tuple[Stretch, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Transcript:
        """From OpenAI's shape, ``json`` or ``verbose_json``."""
        try:
            return cls(
                value["text"],
                value.get("language") or "",
                None if value.get("duration") is None else float(value["duration"]),
                tuple(
                    Stretch(segment["start"], segment["end"], segment["text"])
                    for segment in value.get("segments") or ()
                ),
                tuple(Stretch(word["start"], word["end"], word["word"]) for word in value.get("words") or ()),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NotPortico("The answer is not a transcript.") from error


def subtitles_text(data: bytes) -> str:
    """A text; some providers put it into JSON whatever they are asked for."""
    text = data.decode("utf-8", "replace")
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)["text"])
    except (ValueError, KeyError, TypeError):
        return text
