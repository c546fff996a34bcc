"""The hot paths in ``/openapi.json``: they are answered before FastAPI sees them, and documented here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What is wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(BaseModel):
    """Every error on every path."""

    error: ErrorDetail


_MODEL = {"type": "string", "description": "A name from GET /v1/models"}
_TEXTS = {
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
}
_STREAM = {"type": "boolean", "default": False}

_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _MODEL,
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {"enum": ["developer", "system", "user", "assistant", "tool", "function"]},
                    "content": {
                        "oneOf": [
                            {"type": "string"},
                            {"type": "array", "items": {"type": "object"}},
                            {"type": "null"},
                        ]
                    },
                },
            },
        },
        "stream": _STREAM,
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "n": {"type": "integer", "minimum": 1, "maximum": 8, "default": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
        "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
        "max_completion_tokens": {"type": "integer", "minimum": 1},
        "max_tokens": {"type": "integer", "minimum": 1, "deprecated": True},
        "stop": {**_TEXTS, "description": "At most four"},
        "seed": {"type": "integer"},
        "logprobs": {"type": "boolean"},
        "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
        "tools": {"type": "array", "items": {"type": "object"}},
        "tool_choice": {"oneOf": [{"enum": ["none", "auto", "required"]}, {"type": "object"}]},
        "response_format": {
            "type": "object",
            "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
        },
    },
    "example": {"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
}

_COMPLETION = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {
        "model": _MODEL,
        "prompt": _TEXTS,
        "stream": _STREAM,
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "stop": _TEXTS,
        "seed": {"type": "integer"},
    },
    "example": {"model": "default", "prompt": "Once upon a time", "max_tokens": 32},
}

_EMBEDDINGS = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _MODEL,
        "input": _TEXTS,
        "encoding_format": {"enum": ["float", "base64"], "default": "float"},
        "dimensions": {"type": "integer", "minimum": 1},
    },
    "example": {"model": "default-embedding", "input": ["one text", "another"]},
}

_RESPONSE = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": _MODEL,
        "input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "instructions": {"type": "string"},
        "stream": _STREAM,
        "store": {"type": "boolean", "default": True},
        "background": {"type": "boolean", "default": False},
        "previous_response_id": {"type": "string"},
        "conversation": {"oneOf": [{"type": "string"}, {"type": "object"}]},
        "tools": {"type": "array", "items": {"type": "object"}},
        "tool_choice": {"oneOf": [{"enum": ["none", "auto", "required"]}, {"type": "object"}]},
        "parallel_tool_calls": {"type": "boolean", "default": True},
        "max_tool_calls": {"type": "integer", "minimum": 1},
        "max_output_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
        "text": {"type": "object"},
        "reasoning": {"type": "object"},
        "prompt": {"type": "object"},
        "truncation": {"enum": ["auto", "disabled"], "default": "disabled"},
        "include": {"type": "array", "items": {"type": "string"}},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "example": {"model": "default", "input": "Hello"},
}


def _operation(name: str, summary: str, body: dict[str, Any], *, streams: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"$ref": "#/components/schemas/ErrorDocument"}
    return {
        "post": {
            "tags": ["OpenAI: models"],
            "summary": summary,
            "operationId": name,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": {"description": "As at OpenAI", "content": content},
                "4XX": {
                    "description": "An error in OpenAI's shape",
                    "content": {"application/json": {"schema": error}},
                },
            },
        }
    }


PATHS: dict[str, Any] = {
    "/v1/chat/completions": _operation(
        "create_chat_completion", "Answer a conversation", _CHAT, streams=True
    ),
    "/v1/completions": _operation("create_completion", "Continue a prompt", _COMPLETION, streams=True),
    "/v1/responses": _operation(
        "create_response", "Answer, with tools of the daemon and of the client", _RESPONSE, streams=True
    ),
    "/v1/embeddings": _operation("create_embedding", "Turn texts into vectors", _EMBEDDINGS, streams=False),
    "/health": {
        "get": {
            "tags": ["Daemon"],
            "summary": "Whether the daemon serves",
            "operationId": "health",
            "security": [],
            "responses": {"200": {"description": "It does"}},
        }
    },
}


def extend(app: FastAPI, more: Mapping[str, Any]) -> None:
    """Add the hot paths, ``more`` of other protocols, and the keys to the document that FastAPI makes."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        if "/health" not in document["paths"]:
            document["paths"] = {**PATHS, **more, **document["paths"]}
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer", "description": "A key of this daemon: pk-…"}
            document["security"] = [{}, {"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
