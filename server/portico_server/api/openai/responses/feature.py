"""Declares the feature `responses`: OpenAI's Responses API, stored answers and conversations."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

FEATURE: Final = Feature(
    name="responses",
    routes=(
        FeatureRoute(
            "/v1/responses", "OpenAI", {"POST": "portico_server.api.openai.responses.create:create"}
        ),
        FeatureRoute("/v1/responses", "OpenAI", socket="portico_server.api.openai.responses.socket:serve"),
    ),
    documentation="portico_server.api.openai.responses.documentation:path_items",
    routers=(
        "portico_server.api.openai.responses.stored:router",
        "portico_server.api.openai.conversations:router",
    ),
    paths=("/v1/responses*", "/v1/conversations*"),
)
