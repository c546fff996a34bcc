"""The answers of pictures and transcripts, for ``/openapi.json``. The daemon does not validate answers with them."""

from __future__ import annotations

from typing import Any

from portico_server.api.openai.answer_shapes import CountedTokens, OpenShape


class ImageData(OpenShape):
    """A picture as base64 text, or its address."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class ImageAnswer(OpenShape):
    """The pictures of a request."""

    created: int
    data: list[ImageData]
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    usage: CountedTokens | None = None


class RecordingPart(OpenShape):
    """A part of a recording. ``start`` and ``end`` are in seconds."""

    start: float
    end: float


class TranscriptSegment(RecordingPart):
    """A part of a recording, with its text."""

    text: str


class TranscriptWord(RecordingPart):
    """A word of a recording."""

    word: str


class TranscribedText(OpenShape):
    """The text of a recording. ``duration`` is in seconds."""

    text: str
    duration: float | None = None
    usage: dict[str, Any] | None = None


class DetailedTranscript(TranscribedText):
    """The text of a recording, with further fields if ``response_format`` is ``verbose_json``."""

    task: str | None = None
    language: str | None = None
    segments: list[TranscriptSegment] | None = None
    words: list[TranscriptWord] | None = None
