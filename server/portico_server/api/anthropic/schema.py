"""The Messages API in ``/openapi.json``: its paths are answered before FastAPI sees them, and documented here."""

from __future__ import annotations

from typing import Any

_BLOCKS = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}

_COUNTED: dict[str, Any] = {
    "model": {"type": "string", "description": "A name from GET /v1/models"},
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"enum": ["user", "assistant", "system"]}, "content": _BLOCKS},
        },
    },
    "system": _BLOCKS,
    "tools": {"type": "array", "items": {"type": "object"}},
    "tool_choice": {"type": "object"},
}

_CREATED: dict[str, Any] = {
    **_COUNTED,
    "max_tokens": {"type": "integer", "minimum": 1},
    "stream": {"type": "boolean", "default": False},
    "stop_sequences": {"type": "array", "items": {"type": "string"}},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "top_k": {"type": "integer", "minimum": 0},
    "thinking": {"type": "object"},
    "output_config": {"type": "object"},
    "metadata": {"type": "object"},
}

_ERROR = {
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
    },
}


def _operation(
    name: str, summary: str, properties: dict[str, Any], required: list[str], *, streams: bool
) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": required,
        "properties": properties,
        "example": {
            "model": "default",
            "messages": [{"role": "user", "content": "Hello"}],
            **({"max_tokens": 100} if "max_tokens" in required else {}),
        },
    }
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "post": {
            "tags": ["Anthropic: messages"],
            "summary": summary,
            "operationId": name,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": {"description": "As at Anthropic", "content": content},
                "4XX": {
                    "description": "An error in Anthropic's shape",
                    "content": {"application/json": {"schema": _ERROR}},
                },
            },
        }
    }


PATHS: dict[str, Any] = {
    "/v1/messages": _operation(
        "create_message",
        "Answer a conversation",
        _CREATED,
        ["model", "messages", "max_tokens"],
        streams=True,
    ),
    "/v1/messages/count_tokens": _operation(
        "count_message_tokens",
        "Count the tokens of a conversation",
        _COUNTED,
        ["model", "messages"],
        streams=False,
    ),
}
"""For ``/openapi.json``."""
