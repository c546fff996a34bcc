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


_SPEECH = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _MODEL,
        "input": {"type": "string", "minLength": 1, "maxLength": 32768},
        "voice": {"oneOf": [{"type": "string"}, {"type": "object", "required": ["id"]}]},
        "response_format": {"enum": ["mp3", "opus", "aac", "flac", "wav", "pcm"], "default": "mp3"},
        "speed": {"type": "number", "minimum": 0.25, "maximum": 4, "default": 1},
        "instructions": {"type": "string"},
        "stream_format": {"enum": ["audio", "sse"], "default": "audio"},
    },
    "example": {"model": "voice", "input": "The door is open.", "voice": "default"},
}

_TRANSLATION = {
    "type": "object",
    "required": ["model", "file"],
    "properties": {
        "model": _MODEL,
        "file": {"type": "string", "format": "binary"},
        "prompt": {"type": "string"},
        "response_format": {"enum": ["json", "text", "srt", "verbose_json", "vtt"], "default": "json"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
    },
}

_TRANSCRIPTION = {
    **_TRANSLATION,
    "properties": {
        **_TRANSLATION["properties"],  # type: ignore[dict-item]  # an object
        "language": {"type": "string", "description": "As ISO 639-1; found out if it is left out"},
        "timestamp_granularities[]": {"type": "array", "items": {"enum": ["word", "segment"]}},
        "include[]": {"type": "array", "items": {"enum": ["logprobs"]}},
        "stream": _STREAM,
    },
}


_IMAGE = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {
        "model": _MODEL,
        "prompt": {"type": "string", "minLength": 1, "maxLength": 32000},
        "n": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
        "size": {"type": "string", "default": "auto", "description": "auto or WIDTHxHEIGHT in pixels"},
        "quality": {"enum": ["auto", "low", "medium", "high"], "default": "auto"},
        "background": {"enum": ["auto", "transparent", "opaque"], "default": "auto"},
        "output_format": {"enum": ["png", "jpeg", "webp"], "default": "png"},
        "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
        "response_format": {"enum": ["b64_json", "url"]},
        "stream": _STREAM,
        "partial_images": {"type": "integer", "minimum": 0, "maximum": 3, "default": 0},
        "seed": {"type": "integer"},
        "steps": {"type": "integer", "minimum": 1, "maximum": 500},
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": 100},
        "negative_prompt": {"type": "string"},
    },
    "example": {"model": "painter", "prompt": "A lighthouse at night", "size": "512x512"},
}

_EDIT = {
    "type": "object",
    "required": ["model", "prompt", "image"],
    "properties": {
        **_IMAGE["properties"],  # type: ignore[dict-item]  # an object
        "image": {"type": "array", "maxItems": 16, "items": {"type": "string", "format": "binary"}},
        "mask": {"type": "string", "format": "binary"},
        "input_fidelity": {"enum": ["low", "high"]},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
    },
}


def _operation(
    name: str,
    summary: str,
    body: dict[str, Any],
    *,
    streams: bool,
    takes: str = "application/json",
    gives: str = "application/json",
) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    content: dict[str, Any] = {
        gives: {"schema": binary if gives != "application/json" else {"type": "object"}}
    }
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"$ref": "#/components/schemas/ErrorDocument"}
    return {
        "post": {
            "tags": ["OpenAI: models"],
            "summary": summary,
            "operationId": name,
            "requestBody": {"required": True, "content": {takes: {"schema": body}}},
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
    "/v1/audio/speech": _operation(
        "create_speech", "Say a text aloud", _SPEECH, streams=True, gives="audio/mpeg"
    ),
    "/v1/audio/transcriptions": _operation(
        "create_transcription",
        "Write down what is said in a recording",
        _TRANSCRIPTION,
        streams=True,
        takes="multipart/form-data",
    ),
    "/v1/audio/translations": _operation(
        "create_translation",
        "Write down in English what is said in a recording",
        _TRANSLATION,
        streams=False,
        takes="multipart/form-data",
    ),
    "/v1/images/generations": _operation("create_image", "Draw what a text says", _IMAGE, streams=True),
    "/v1/images/edits": _operation(
        "create_image_edit", "Change pictures", _EDIT, streams=True, takes="multipart/form-data"
    ),
    "/v1/images/variations": _operation(
        "create_image_variation", "No longer taken: edits do it", {"type": "object"}, streams=False
    ),
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
