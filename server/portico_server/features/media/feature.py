"""Declares the feature `media`: speech, transcripts and pictures, as at OpenAI."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

_FUNCTIONS: Final = {
    "/v1/audio/speech": "audio:speak",
    "/v1/audio/transcriptions": "audio:transcribe",
    "/v1/audio/translations": "audio:translate",
    "/v1/images/generations": "images:generate",
    "/v1/images/edits": "images:edit",
    "/v1/images/variations": "images:vary",
}

FEATURE: Final = Feature(
    name="media",
    routes=tuple(
        FeatureRoute(path, "OpenAI", {"POST": f"portico_server.features.media.{function}"})
        for path, function in _FUNCTIONS.items()
    ),
    documentation="portico_server.features.media.documentation:path_items",
)
