"""The operations of Anthropic's API in ``/openapi.json`` that FastAPI does not see."""

from __future__ import annotations

from functools import partial
from typing import Any

from portico_server.api import operations
from portico_server.features.anthropic.answer_shapes import AnthropicMessage, AnthropicTokenCount
from portico_server.features.anthropic.errors import MESSAGES_ERROR
from portico_server.features.anthropic.request import COUNTED, CREATED


def path_items() -> dict[str, dict[str, Any]]:
    """Return the path items of OpenAPI, by path."""
    operation = partial(
        operations.operation, protocol="Anthropic", tag="Anthropic: messages", error=MESSAGES_ERROR
    )
    return {
        "/v1/messages": operation(
            "create_message",
            "Answer a conversation",
            CREATED,
            gives=operations.json_content(AnthropicMessage),
        ),
        "/v1/messages/count_tokens": operation(
            "count_message_tokens",
            "Count the tokens of a conversation",
            COUNTED,
            streams=False,
            gives=operations.json_content(AnthropicTokenCount),
        ),
    }
