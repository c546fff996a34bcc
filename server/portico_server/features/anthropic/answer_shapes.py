"""The answers of Anthropic's API, for ``/openapi.json``. The daemon does not validate answers with these models."""

from __future__ import annotations

from typing import Any, Literal

from portico_server.api.openai.answer_shapes import OpenShape


class AnthropicBlock(OpenShape):
    """A content block of a message. ``type`` decides which other fields it has."""

    type: str
    text: str | None = None
    citations: list[dict[str, Any]] | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class AnthropicMessageUsage(OpenShape):
    """The tokens of a message. ``input_tokens`` excludes tokens that were read from a cache."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class AnthropicMessage(OpenShape):
    """The answer to a conversation."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnthropicBlock]
    stop_reason: str | None
    stop_sequence: str | None = None
    usage: AnthropicMessageUsage


class AnthropicTokenCount(OpenShape):
    """The tokens of a conversation."""

    input_tokens: int
