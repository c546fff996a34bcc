"""Reads a recording from a request, and writes its transcript as a document or as events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .attached_files import attached_files
from .caller import Caller
from .errors import Refusal
from .sound import decode_audio
from .transcript import (
    TimedText,
    TranscriptRequest,
    WorkerTranscript,
    deltas,
    end_event,
    render_transcript,
)

MAX_RECORDING_S = 7_200.0
"""Default maximum length of one recording, in seconds."""


def read_samples(body: Mapping[str, Any], rate: int, longest: float, client: Caller) -> Any:
    """Return the samples of the request's file: one channel, 16 bits. Raise `Refusal` if the file cannot be used."""
    files = attached_files(body, "file")
    if len(files) != 1:
        raise Refusal("Send one recording in 'file'.", "missing_required_parameter", "file")
    return decode_audio(files[0].data, rate, longest, client.check, files[0].name)


def write_transcript(
    worker_transcript: WorkerTranscript,
    request: TranscriptRequest,
    parts: Iterable[list[TimedText]],
    client: Caller,
) -> Any:
    """Add the parts to ``worker_transcript`` one after another.

    If the request asks for a stream, send events as parts arrive; otherwise return the whole transcript at the end.
    """
    for segments in parts:
        worker_transcript.segments += segments
        if request.stream:
            for event in deltas(segments):
                client.event(event)
    if not request.stream:
        return render_transcript(worker_transcript, request)
    client.event(end_event(worker_transcript))
    return None
