"""The answers of the Responses API, for ``/openapi.json``. The daemon does not validate answers with these models."""

from __future__ import annotations

from typing import Any, Literal

from portico_server.api.openai.answer_shapes import CountedTokens, OpenShape, TokenLogprob


class ResponsePart(OpenShape):
    """A part of an item's content. ``type`` decides which other fields it has."""

    type: str
    text: str | None = None
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[TokenLogprob] | None = None
    refusal: str | None = None


class ResponseItem(OpenShape):
    """An item of an input or an output. ``type`` decides which other fields it has."""

    type: str
    id: str | None = None
    status: str | None = None
    role: str | None = None
    content: list[ResponsePart] | None = None
    summary: list[ResponsePart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ResponseInputTokens(OpenShape):
    """The tokens of an input that were read from a cache."""

    cached_tokens: int


class ResponseOutputTokens(OpenShape):
    """The tokens of an output that are reasoning."""

    reasoning_tokens: int


class ResponseUsage(CountedTokens):
    """The tokens of an input and an output, and what they were."""

    input_tokens_details: ResponseInputTokens
    output_tokens_details: ResponseOutputTokens


class ResponseError(OpenShape):
    """Why a response failed."""

    code: str | None
    message: str


class ResponseEnd(OpenShape):
    """Why a response is incomplete."""

    reason: str | None = None


class ConversationId(OpenShape):
    """The conversation that a response belongs to."""

    id: str


class ModelResponse(OpenShape):
    """The answer to an input. ``usage`` is null until the response ends."""

    id: str
    object: Literal["response"]
    created_at: float
    completed_at: float | None = None
    status: str
    background: bool | None = None
    error: ResponseError | None = None
    incomplete_details: ResponseEnd | None = None
    model: str
    output: list[ResponseItem]
    previous_response_id: str | None = None
    conversation: ConversationId | None = None
    store: bool | None = None
    usage: ResponseUsage | None = None
    instructions: str | list[ResponseItem] | None = None
    metadata: dict[str, Any] | None = None


class CompactedResponse(OpenShape):
    """The compacted items of a conversation."""

    id: str
    object: Literal["response.compaction"]
    created_at: float
    model: str
    output: list[ResponseItem]
    usage: ResponseUsage


class InputTokenCount(OpenShape):
    """The tokens of a request's input."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ConversationState(OpenShape):
    """A conversation, without its items."""

    id: str
    object: Literal["conversation"]
    created_at: float
    metadata: dict[str, Any]
