"""The operations of Ollama's API in ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, Final

from pydantic import BaseModel

from portico_server.api.declarations import OBJECT_CONTENT, TEXT
from portico_server.api.operations import json_content
from portico_server.features.ollama import answer_shapes
from portico_server.features.ollama.bodies import BODIES
from portico_server.features.ollama.feature import FEATURE

_ANSWERS: Final[Mapping[str, type[BaseModel]]] = {
    "/api/chat": answer_shapes.OllamaChatAnswer,
    "/api/generate": answer_shapes.OllamaGenerated,
    "/api/embed": answer_shapes.OllamaVectors,
    "/api/embeddings": answer_shapes.OllamaVector,
    "/api/show": answer_shapes.OllamaModelFacts,
    "/api/tags": answer_shapes.OllamaModels,
    "/api/ps": answer_shapes.OllamaModels,
    "/api/version": answer_shapes.OllamaVersion,
    "/api/pull": answer_shapes.OllamaStatus,
}
"""The shapes of the answers, by path. ``/api/delete`` answers with an empty object."""


def path_items() -> dict[str, dict[str, Any]]:
    """Return the path items of OpenAPI, by path."""
    return {
        route.path: {
            method.lower(): _operation(route.path, resolve_name(function))
            for method, function in route.methods.items()
        }
        for route in FEATURE.routes
        if route.methods
    }


def _operation(path: str, function: Any) -> dict[str, Any]:
    request_body = BODIES.get(path)
    shape = _ANSWERS.get(path)
    content = dict(OBJECT_CONTENT) if shape is None else json_content(shape)
    if request_body is not None and "stream" in request_body.optional:
        content["application/x-ndjson"] = {"schema": TEXT}
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    operation: dict[str, Any] = {
        "tags": ["Ollama"],
        "summary": (function.__doc__ or "").strip().rstrip("."),
        "operationId": f"ollama_{path.removeprefix('/api/')}",
        "responses": {
            "200": {"description": "As at Ollama", "content": content},
            "4XX": {
                "description": "An error in Ollama's format",
                "content": {"application/json": {"schema": error}},
            },
        },
    }
    if request_body is not None:
        body = {"application/json": {"schema": request_body.schema()}}
        operation["requestBody"] = {"required": True, "content": body}
    return operation
