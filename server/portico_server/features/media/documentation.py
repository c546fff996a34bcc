"""The operations for speech, transcripts and pictures in ``/openapi.json``."""

from __future__ import annotations

from typing import Any, Final

from portico_server.api.declarations import TEXT, binary_content
from portico_server.api.operations import json_content, operation
from portico_server.core.fields import RequestBody
from portico_server.features.media import audio
from portico_server.features.media.answer_shapes import DetailedTranscript, ImageAnswer
from portico_server.features.media.image_bodies import EDIT, IMAGE, REFERRING_EDIT

_SOUNDS: Final = binary_content(
    "audio/mpeg", "audio/opus", "audio/aac", "audio/flac", "audio/wav", "audio/pcm"
)
_IMAGES: Final = json_content(ImageAnswer)
_TEXTS: Final = {**json_content(DetailedTranscript), "text/plain": {"schema": TEXT}}


def path_items() -> dict[str, dict[str, Any]]:
    """Return the path items of OpenAPI, by path."""
    return {
        "/v1/audio/speech": operation(
            "create_speech", "Synthesize speech from a text", audio.SPEECH, gives=_SOUNDS
        ),
        "/v1/audio/transcriptions": operation(
            "create_transcription", "Transcribe a recording", audio.TRANSCRIPTION, gives=_TEXTS
        ),
        "/v1/audio/translations": operation(
            "create_translation",
            "Translate a recording into English text",
            audio.TRANSLATION,
            streams=False,
            gives=_TEXTS,
        ),
        "/v1/images/generations": operation(
            "create_image", "Generate images from a prompt", IMAGE, gives=_IMAGES
        ),
        "/v1/images/edits": operation(
            "create_image_edit", "Change pictures", EDIT, REFERRING_EDIT, gives=_IMAGES
        ),
        "/v1/images/variations": operation(
            "create_image_variation",
            "Not supported any more; use edits instead",
            RequestBody({}, {}),
            streams=False,
        ),
    }
