"""The SDK's types for speech and transcripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict

from portico.errors import NotPortico

AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
Times: TypeAlias = Literal["segment", "word"]


class SpeechOptions(TypedDict, total=False):
    """Options for generating speech, in addition to the text: OpenAI's fields, and those of local models."""

    extra_body: Mapping[str, Any]
    instructions: str
    seconds: float
    seed: int


SPEECH_OPTIONS: Final[frozenset[str]] = SpeechOptions.__optional_keys__


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording, from ``start`` to ``end`` in seconds: about a sentence, or one word."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcribed recording. ``language`` and ``duration`` (in seconds) are set if the model reports them."""

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Stretch, ...] = ()
    words: tuple[Stretch, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Transcript:
        """Parse a transcript in OpenAI's format ``json`` or ``verbose_json``."""
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
            raise NotPortico("The response is not a transcript.") from error


def subtitles_text(data: bytes) -> str:
    """Return subtitles as text. Some providers wrap them in JSON regardless of the requested format."""
    text = data.decode("utf-8", "replace")
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)["text"])
    except (ValueError, KeyError, TypeError):
        return text
