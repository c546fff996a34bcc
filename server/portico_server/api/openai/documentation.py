"""The operations of chat completions, completions and embeddings in ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from portico_server.api.openai import bodies
from portico_server.api.openai.answer_shapes import ChatCompletion, EmbeddedTexts, TextCompletion
from portico_server.api.operations import json_content, operation


def path_items() -> dict[str, dict[str, Any]]:
    """Return the path items of OpenAPI, by path."""
    return {
        "/v1/chat/completions": operation(
            "create_chat_completion", "Answer a conversation", bodies.CHAT, gives=json_content(ChatCompletion)
        ),
        "/v1/completions": operation(
            "create_completion", "Continue a prompt", bodies.COMPLETION, gives=json_content(TextCompletion)
        ),
        "/v1/embeddings": operation(
            "create_embedding",
            "Turn texts into vectors",
            bodies.EMBEDDING,
            streams=False,
            gives=json_content(EmbeddedTexts),
        ),
    }
