"""Validates the options of a chat or completion, and decodes tokens to text as they arrive. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Refusal

MAX_STOPS = 16


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """The options of a generation; ``None`` means the model's own setting.

    ``limit`` is in tokens, 0 for as many as fit. ``top_logprobs`` is the number of alternatives for each token,
    ``None`` for no log-probabilities at all. ``schema`` is a JSON schema that the answer must match.
    """

    limit: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence: float = 0.0
    frequency: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    schema: Mapping[str, Any] | None = None


def read_options(body: Mapping[str, Any], *, chat: bool) -> GenerationOptions:
    """Read the options of a request. Raise `Refusal` that names the field."""
    return GenerationOptions(
        limit=int(_number(body, "max_tokens", 0, 10**7) or 0),
        temperature=_number(body, "temperature", 0, 100),
        top_p=_number(body, "top_p", 0, 1),
        top_k=_read_integer(body, "top_k", -1, 10**6),
        min_p=_number(body, "min_p", 0, 1),
        repetition_penalty=_number(body, "repetition_penalty", 0.01, 100),
        presence=_number(body, "presence_penalty", -2, 2) or 0.0,
        frequency=_number(body, "frequency_penalty", -2, 2) or 0.0,
        seed=_read_integer(body, "seed", -(2**63), 2**64 - 1),
        stop=_stop(body.get("stop")),
        top_logprobs=_logprobs(body, chat=chat),
        schema=_schema(body.get("response_format")),
    )


def _number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise Refusal(f"'{name}' must be a number from {low:g} to {high:g}.", param=name)
    return float(value)


def _read_integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refusal(f"'{name}' must be a whole number from {low} to {high}.", param=name)
    return value


def _stop(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if (
        not isinstance(texts, list)
        or len(texts) > MAX_STOPS
        or not all(isinstance(text, str) for text in texts)
    ):
        raise Refusal(f"'stop' must be a text or a list of at most {MAX_STOPS} texts.", param="stop")
    return tuple(text for text in texts if text)


def _logprobs(body: Mapping[str, Any], *, chat: bool) -> int | None:
    if chat:
        return _read_integer(body, "top_logprobs", 0, 20) or 0 if body.get("logprobs") is True else None
    return _read_integer(body, "logprobs", 0, 20)


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    if not isinstance(response_format, Mapping) or response_format.get("type") in (None, "text"):
        return None
    if response_format["type"] == "json_object":
        return {"type": "object"}
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if response_format["type"] != "json_schema" or not isinstance(schema, Mapping):
        raise Refusal(
            "'response_format' must have the type 'text', 'json_object' or 'json_schema'; 'json_schema' "
            "needs a schema.",
            param="response_format",
        )
    return schema
