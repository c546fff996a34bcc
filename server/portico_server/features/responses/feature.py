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
    service="portico_server.features.responses.api.service:build",
    routes=(
        FeatureRoute(
            "/v1/responses", "OpenAI", {"POST": "portico_server.features.responses.api.create:create"}
        ),
        FeatureRoute("/v1/responses", "OpenAI", socket="portico_server.features.responses.api.socket:serve"),
    ),
    documentation="portico_server.features.responses.api.documentation:path_items",
    routers=(
        "portico_server.features.responses.api.stored:router",
        "portico_server.features.responses.api.conversations:router",
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
