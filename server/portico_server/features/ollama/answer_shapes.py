"""The answers of Ollama's API, for ``/openapi.json``. The daemon does not validate answers with these models."""

from __future__ import annotations

from typing import Any

from portico_server.api.openai.answer_shapes import OpenShape


class OllamaFunctionCall(OpenShape):
    """The function that a model calls, with its arguments as an object."""

    name: str
    arguments: dict[str, Any]


class OllamaToolCall(OpenShape):
    """A tool call of a message."""

    function: OllamaFunctionCall


class OllamaMessage(OpenShape):
    """The message that a model answers with."""

    role: str
    content: str
    thinking: str | None = None
    tool_calls: list[OllamaToolCall] | None = None


class OllamaTimedAnswer(OpenShape):
    """The fields that the answers of ``/api/chat`` and ``/api/generate`` share. Durations are in nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class OllamaChatAnswer(OllamaTimedAnswer):
    """The answer to a conversation."""

    message: OllamaMessage


class OllamaGenerated(OllamaTimedAnswer):
    """The continuation of a prompt."""

    response: str
    thinking: str | None = None


class OllamaVectors(OpenShape):
    """The vectors of the inputs, in their order. Durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None


class OllamaVector(OpenShape):
    """The vector of one prompt."""

    embedding: list[float]


class OllamaDetails(OpenShape):
    """The format and the size of a model."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModelFacts(OpenShape):
    """The facts of one model."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaModel(OpenShape):
    """A model in a list. Only loaded models have ``size_vram`` and ``expires_at``."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails
    capabilities: list[str] | None = None
    context_length: int | None = None
    size_vram: int | None = None
    expires_at: str | None = None


class OllamaModels(OpenShape):
    """A list of models."""

    models: list[OllamaModel]


class OllamaVersion(OpenShape):
    """The version of Ollama's API, and the version of the daemon."""

    version: str
    portico: str


class OllamaStatus(OpenShape):
    """The result of fetching a model."""

    status: str
