"""Declares the feature `media`: speech, transcripts and pictures, as at OpenAI."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute


def _route(path: str, function: str) -> FeatureRoute:
    return FeatureRoute(path, "OpenAI", {"POST": f"portico_server.features.media.{function}"})


FEATURE: Final = Feature(
    name="media",
    routes=(
        _route("/v1/audio/speech", "audio:speak"),
        _route("/v1/audio/transcriptions", "audio:transcribe"),
        _route("/v1/audio/translations", "audio:translate"),
        _route("/v1/images/generations", "images:generate"),
        _route("/v1/images/edits", "images:edit"),
        _route("/v1/images/variations", "images:vary"),
    ),
    documentation="portico_server.features.media.documentation:path_items",
)
