"""Declares the feature `responses`: OpenAI's Responses API, stored answers and conversations."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import DurableRuns, Feature, FeatureRoute

MAX_RESUMED_RESPONSES: Final = 64
"""Maximum number of interrupted responses that are resumed concurrently. Responses that clients start are not
counted.
"""

FEATURE: Final = Feature(
    name="responses",
    service="portico_server.api.openai.responses.service:build",
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
    runs=(
        DurableRuns(
            "responses",
            "responder.background.make",
            concurrency=MAX_RESUMED_RESPONSES,
            is_shared=True,
            is_owned=True,
        ),
    ),
    settle="responder.background.settle_deserted",
)
