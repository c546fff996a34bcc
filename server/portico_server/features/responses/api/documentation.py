"""The operations of the Responses API in ``/openapi.json`` that FastAPI does not see."""

from __future__ import annotations

from typing import Any

from portico_server.api.operations import json_content, operation
from portico_server.features.responses.api.answer_shapes import ModelResponse
from portico_server.features.responses.read import RESPONSE


def path_items() -> dict[str, dict[str, Any]]:
    """Return the path items of OpenAPI, by path."""
    summary = "Answer with the tools of the daemon and of the client"
    return {
        "/v1/responses": operation("create_response", summary, RESPONSE, gives=json_content(ModelResponse))
    }
