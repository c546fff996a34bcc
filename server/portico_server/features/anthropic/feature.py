"""Declares the feature `anthropic`: Anthropic's Messages API."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

_SHAPE: Final = "portico_server.features.anthropic.errors:ANTHROPIC"

FEATURE: Final = Feature(
    name="anthropic",
    routes=(
        FeatureRoute(
            "/v1/messages",
            "Anthropic",
            {"POST": "portico_server.features.anthropic.messages:create"},
            shape=_SHAPE,
        ),
        FeatureRoute(
            "/v1/messages/count_tokens",
            "Anthropic",
            {"POST": "portico_server.features.anthropic.messages:count_tokens"},
            shape=_SHAPE,
        ),
        FeatureRoute("/v1/messages*", "Anthropic", shape=_SHAPE),
        FeatureRoute(
            "/v1/models*",
            "OpenAI, Anthropic",
            shape_of="portico_server.features.anthropic.errors:shape_at_models",
        ),
    ),
    documentation="portico_server.features.anthropic.documentation:path_items",
    routers=("portico_server.features.anthropic.batches:router",),
    paths=("/v1/messages*",),
    shared_routers=("portico_server.features.anthropic.models:router",),
)
