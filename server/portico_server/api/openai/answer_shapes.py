"""The answers of chat completions, completions and embeddings, for ``/openapi.json``.

The daemon neither validates nor serializes answers with these models. Upstreams can add fields.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class OpenShape(BaseModel):
    """An object with further fields that are not listed."""

    model_config = ConfigDict(extra="allow")


class FunctionCall(OpenShape):
    """The function that a model calls. ``arguments`` is JSON text."""

    name: str
    arguments: str


class ChatToolCall(OpenShape):
    """A tool call in a chat completion."""

    id: str
    type: str = "function"
    function: FunctionCall


class ChatAnswerMessage(OpenShape):
    """The message that a model answers with. ``content`` is null if the model only calls tools."""

    role: str
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    annotations: list[dict[str, Any]] | None = None


class TopLogprob(OpenShape):
    """A likely token at a position of an answer, with its logarithmic probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    """A token of an answer, and the most likely tokens at its position."""

    top_logprobs: list[TopLogprob] = []


class ChatLogprobs(OpenShape):
    """The logarithmic probabilities of an answer's tokens."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class ChatChoice(OpenShape):
    """One of the answers to a conversation."""

    index: int
    message: ChatAnswerMessage
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class PromptTokens(OpenShape):
    """The tokens of a prompt that were read from a cache."""

    cached_tokens: int | None = None


class TokenUsage(OpenShape):
    """The tokens of a prompt and of its answer. Embeddings have no ``completion_tokens``."""

    prompt_tokens: int
    completion_tokens: int | None = None
    total_tokens: int
    prompt_tokens_details: PromptTokens | None = None


class CountedTokens(OpenShape):
    """The tokens of an input and an output, as Responses and pictures count them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Completion(OpenShape):
    """The fields that chat completions and completions share."""

    id: str
    created: int
    model: str
    usage: TokenUsage | None = None


class ChatCompletion(Completion):
    """The answer to a conversation. A stored completion has ``metadata``."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    metadata: dict[str, Any] | None = None


class TextChoice(OpenShape):
    """One of the continuations of a prompt."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class TextCompletion(Completion):
    """The continuations of one or more prompts."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class EmbeddedText(OpenShape):
    """The vector of the input at ``index``: numbers, or base64 text of 32-bit floats if the request asks for it."""

    index: int
    object: str = "embedding"
    embedding: list[float] | str


class EmbeddedTexts(OpenShape):
    """The vectors of the inputs, in their order."""

    object: Literal["list"]
    data: list[EmbeddedText]
    model: str
    usage: TokenUsage | None = None
