"""Declares the feature `ollama`: clients of Ollama's API."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

_SHAPE: Final = "portico_server.features.ollama.shape:SHAPE"


def _route(method: str, path: str, function: str, shape: str = _SHAPE) -> FeatureRoute:
    return FeatureRoute(path, "Ollama", {method: f"portico_server.features.ollama.{function}"}, shape=shape)


FEATURE: Final = Feature(
    name="ollama",
    routes=(
        _route("POST", "/api/chat", "chat:chat"),
        _route(
            "POST", "/api/generate", "chat:generate", "portico_server.features.ollama.shape:GENERATE_SHAPE"
        ),
        _route("POST", "/api/embed", "embeddings:embed"),
        _route("POST", "/api/embeddings", "embeddings:embed_one"),
        _route("POST", "/api/show", "models:show"),
        _route("GET", "/api/tags", "models:tags"),
        _route("GET", "/api/ps", "models:ps"),
        _route("GET", "/api/version", "models:version"),
        _route("POST", "/api/pull", "library:pull", "portico_server.features.ollama.shape:STATUS_SHAPE"),
        _route("DELETE", "/api/delete", "library:delete"),
        # Ollama's clients show the error to their user.
        FeatureRoute("/api/push", "Ollama", shape=_SHAPE),
        FeatureRoute("/api/create", "Ollama", shape=_SHAPE),
        FeatureRoute("/api/copy", "Ollama", shape=_SHAPE),
    ),
    documentation="portico_server.features.ollama.documentation:path_items",
)
