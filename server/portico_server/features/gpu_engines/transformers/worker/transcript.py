"""Transcripts in the formats of OpenAI's API: JSON, text, subtitles, events. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import Refusal

ENCODER_POSITIONS_PER_S = 50
"""Encoder positions per second of a recording, both for Whisper and for wav2vec 2.0. Each position counts as a
token.
"""

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")


@dataclass(frozen=True, slots=True)
class TimedText:
    """A part of a recording, from ``start`` to ``end`` seconds: a word, or about a sentence.

    ``avg_logprob`` is the mean log-probability of the part's tokens; ``no_speech_prob`` is in [0, 1].
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0


@dataclass(frozen=True, slots=True)
class TranscriptRequest:
    """The options of a transcription request. ``language`` is a language code, or empty."""

    language: str = ""
    prompt: str = ""
    temperature: float = 0.0
    form: str = "json"
    words: bool = False
    segments: bool = True
    stream: bool = False
    translate: bool = False

    @classmethod
    def of(cls, body: Mapping[str, Any], *, translate: bool = False) -> TranscriptRequest:
        """Read the request. Raise `Refusal` for unsupported options."""
        form = body.get("response_format") or "json"
        if form not in FORMATS:
            raise Refusal(
                f"This model writes {', '.join(FORMATS)}; it does not support '{form}'.",
                "unsupported_value",
                "response_format",
            )
        if body.get("include"):
            raise Refusal("This model returns no log-probabilities.", "unsupported_parameter", "include")
        kinds = body.get("timestamp_granularities") or ["segment"]
        return cls(
            str(body.get("language") or "").strip().lower(),
            str(body.get("prompt") or ""),
            float(body.get("temperature") or 0.0),
            form,
            "word" in kinds,
            "segment" in kinds,
            body.get("stream") is True,
            translate,
        )


@dataclass(slots=True)
class WorkerTranscript:
    """A transcript. ``language`` is the English name of the language; ``duration`` is in seconds."""

    language: str
    duration: float
    segments: list[TimedText] = field(default_factory=list)
    words: list[TimedText] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()


def render_transcript(
    worker_transcript: WorkerTranscript, request: TranscriptRequest
) -> dict[str, Any] | str:
    """Return a complete answer: a document, or a text."""
    if request.form == "text":
        return worker_transcript.text + "\n"
    if request.form == "srt":
        return "".join(
            f"{number}\n{_clock(timed_text.start, ',')} --> "
            f"{_clock(timed_text.end, ',')}\n{timed_text.text.strip()}\n\n"
            for number, timed_text in enumerate(worker_transcript.segments, 1)
        )
    if request.form == "vtt":
        cues = (
            f"{_clock(timed_text.start, '.')} --> {_clock(timed_text.end, '.')}\n{_cue(timed_text.text)}\n\n"
            for timed_text in worker_transcript.segments
        )
        return "WEBVTT\n\n" + "".join(cues)
    usage = {"type": "duration", "seconds": -int(-worker_transcript.duration // 1)}
    if request.form == "json":
        return {"text": worker_transcript.text, "usage": usage}
    document: dict[str, Any] = {
        "task": "translate" if request.translate else "transcribe",
        "language": worker_transcript.language,
        "duration": round(worker_transcript.duration, 3),
        "text": worker_transcript.text,
        "usage": usage,
    }
    if request.segments:
        document["segments"] = [
            _segment(number, timed_text, request.temperature)
            for number, timed_text in enumerate(worker_transcript.segments)
        ]
    if request.words:
        document["words"] = [
            {"word": timed_text.text, "start": round(timed_text.start, 3), "end": round(timed_text.end, 3)}
            for timed_text in worker_transcript.words
        ]
    return document


def deltas(segments: Iterable[TimedText]) -> Iterable[dict[str, Any]]:
    """Yield delta events for new segments."""
    for timed_text in segments:
        if timed_text.text:
            yield {"type": "transcript.text.delta", "delta": timed_text.text}


def end_event(worker_transcript: WorkerTranscript) -> dict[str, Any]:
    """Return the last event."""
    input_tokens = -int(-worker_transcript.duration * ENCODER_POSITIONS_PER_S // 1)
    output_tokens = sum(
        len(timed_text.tokens) or len(timed_text.text.split()) for timed_text in worker_transcript.segments
    )
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    return {
        "type": "transcript.text.done",
        "text": worker_transcript.text,
        "usage": {"type": "tokens", **usage},
    }


def _segment(number: int, timed_text: TimedText, temperature: float) -> dict[str, Any]:
    text = timed_text.text.encode()
    return {
        "id": number,
        "seek": int(timed_text.start * 100),
        "start": round(timed_text.start, 3),
        "end": round(timed_text.end, 3),
        "text": timed_text.text,
        "tokens": list(timed_text.tokens),
        "temperature": temperature,
        "avg_logprob": timed_text.avg_logprob,
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": timed_text.no_speech_prob,
    }


def _cue(text: str) -> str:
    return text.strip().replace("-->", "->").replace("&", "&amp;").replace("<", "&lt;")


def _clock(seconds: float, point: str) -> str:
    total_ms = round(max(seconds, 0.0) * 1000)
    minutes, milliseconds = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
