"""The hot paths in ``/openapi.json``: they are answered before FastAPI sees them, and documented here."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from portico.wire import ErrorBody
from portico_server.api.anthropic import messages
from portico_server.api.openai import audio, bodies, images
from portico_server.apps.responses.read import RESPONSE
from portico_server.core.fields import RequestBody


class ErrorDocument(BaseModel):
    """Every error on every path."""

    error: ErrorBody


_ERROR = {"$ref": "#/components/schemas/ErrorDocument"}

_MESSAGES_ERROR = {
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
    name: str,
    summary: str,
    *declared: RequestBody,
    streams: bool = True,
    gives: str = "application/json",
    anthropic: bool = False,
) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    content: dict[str, Any] = {
        gives: {"schema": binary if gives != "application/json" else {"type": "object"}}
    }
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    taken = {
        "multipart/form-data" if body.files else "application/json": {"schema": body.schema()}
        for body in declared
    }
    whose = "Anthropic" if anthropic else "OpenAI"
    error = _MESSAGES_ERROR if anthropic else _ERROR
    return {
        "post": {
            "tags": ["Anthropic: messages" if anthropic else "OpenAI: models"],
            "summary": summary,
            "operationId": name,
            "requestBody": {"required": True, "content": taken},
            "responses": {
                "200": {"description": f"As at {whose}", "content": content},
                "4XX": {
                    "description": f"An error in {whose}'s shape",
                    "content": {"application/json": {"schema": error}},
                },
            },
        }
    }


PATHS: dict[str, Any] = {
    "/v1/chat/completions": _operation("create_chat_completion", "Answer a conversation", bodies.CHAT),
    "/v1/completions": _operation("create_completion", "Continue a prompt", bodies.COMPLETION),
    "/v1/responses": _operation(
        "create_response", "Answer, with tools of the daemon and of the client", RESPONSE
    ),
    "/v1/embeddings": _operation(
        "create_embedding", "Turn texts into vectors", bodies.EMBEDDING, streams=False
    ),
    "/v1/audio/speech": _operation("create_speech", "Say a text aloud", audio.SPEECH, gives="audio/mpeg"),
    "/v1/audio/transcriptions": _operation(
        "create_transcription", "Write down what is said in a recording", audio.TRANSCRIPTION
    ),
    "/v1/audio/translations": _operation(
        "create_translation",
        "Write down in English what is said in a recording",
        audio.TRANSLATION,
        streams=False,
    ),
    "/v1/images/generations": _operation("create_image", "Draw what a text says", images.IMAGE),
    "/v1/images/edits": _operation(
        "create_image_edit", "Change pictures", images.EDIT, images.REFERRING_EDIT
    ),
    "/v1/images/variations": _operation(
        "create_image_variation", "No longer taken: edits do it", RequestBody({}, {}), streams=False
    ),
    "/v1/messages": _operation("create_message", "Answer a conversation", messages.CREATED, anthropic=True),
    "/v1/messages/count_tokens": _operation(
        "count_message_tokens",
        "Count the tokens of a conversation",
        messages.COUNTED,
        streams=False,
        anthropic=True,
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


def extend(app: FastAPI) -> None:
    """Add the hot paths and the keys to the document that FastAPI makes."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        if "/health" not in document["paths"]:
            document["paths"] = {**PATHS, **document["paths"]}
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer", "description": "A key of this daemon: pk-…"}
            document["security"] = [{}, {"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
