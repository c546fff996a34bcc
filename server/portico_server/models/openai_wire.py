"""What every engine shares of the OpenAI wire format: errors, token usage, embeddings."""

from __future__ import annotations

import base64
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from portico.wire import ErrorBody, Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable

MAX_MESSAGE_CHARS = 2_000
"""Characters of an upstream's message that are passed on."""


class EngineRefused(PorticoError):
    """An upstream's 4xx, with its own status, type, code and param."""

    def __init__(self, status: int, body: ErrorBody, retry_after: float | None = None) -> None:
        super().__init__(body.message, param=body.param, retry_after=retry_after)
        self.status = status
        self.type = body.type
        self.code = body.code


class UpstreamFailed(EngineFailed):
    """An upstream's 5xx; ``upstream`` is its status."""

    def __init__(self, message: str, upstream: int, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.upstream = upstream


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def type_of(status: int) -> str:
    """OpenAI's ``type`` of an error with this status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_of(status: int, data: bytes, name: str, retry_after: float | None = None) -> PorticoError:
    """The error that the engine of ``name`` answered with: ``status`` and whatever body it sent."""
    try:
        document: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data[:MAX_MESSAGE_CHARS].decode("utf-8", "replace").strip()
        # A page for browsers says nothing to a program.
        document = {} if text.startswith("<") else {"message": text}
    return error_from_json(status, document, name, retry_after)


def error_from_json(status: int, document: Any, name: str, retry_after: float | None = None) -> PorticoError:
    """The same from a parsed body: OpenAI's shape, FastAPI's ``detail``, or ``{"error": "text"}``."""
    error = document.get("error", document) if isinstance(document, dict) else document
    fields = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message") or fields.get("detail") or fields.get("error")
    text = message if isinstance(message, str) else orjson.dumps(message).decode() if message else ""
    text = text[:MAX_MESSAGE_CHARS] or f"The engine of '{name}' answered with status {status} and no reason."
    if 400 <= status < 500:
        kind = fields.get("type")
        code, param = fields.get("code"), fields.get("param")
        body = ErrorBody(
            text,
            kind if isinstance(kind, str) else type_of(status),
            # Some servers put the HTTP number here; clients expect a word.
            code if isinstance(code, str) and not code.isdigit() else None,
            param if isinstance(param, str) else None,
        )
        return EngineRefused(status, body, retry_after)
    if status == 503:
        return Unavailable(f"The engine of '{name}' is not available: {text}", retry_after=retry_after)
    return UpstreamFailed(f"The engine of '{name}' failed: {text}", status, retry_after)


def error_in(document: Any, name: str) -> PorticoError:
    """The error that an engine put into an answer whose status was 200."""
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return error_from_json(code if isinstance(code, int) and 400 <= code < 600 else 500, document, name)


def frame(error: PorticoError) -> bytes:
    """The error as a frame of a chat stream."""
    return b"data: " + orjson.dumps(error.body().to_json()) + b"\n\n"


# Functions that a model may call.


_DESCRIBES = ("$ref", "additionalProperties", "allOf", "anyOf", "oneOf", "patternProperties", "properties")
"""Keywords by which a schema says what an object may hold."""


def arguments_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """What the arguments of a call must fit: an object. A function that declares no parameters takes none."""
    schema = {"type": "object", **(function.get("parameters") or {})}
    if any(schema.get(name) for name in _DESCRIBES):
        return schema
    return {**schema, "properties": {}, "additionalProperties": False}


# Tokens, read from an engine's answer without parsing all of it, or guessed where it does not say.


CHARS_PER_TOKEN = 4
"""Characters that are taken for a token where nobody counts."""

_PROMPTS = ("messages", "prompt", "input", "query", "documents", "tools")


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """About how many tokens the texts of a request are."""
    return 1 + sum(_size(body.get(name)) for name in _PROMPTS) // CHARS_PER_TOKEN


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_size(item) for item in value)
    return 0


# Inside a JSON string the quotes would be escaped, so this cannot be matched by anything a model wrote. A usage
# object holds numbers and objects of numbers, no deeper and no texts.
_USAGE_NAME = b'"usage"'
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')


def usage_from_json(value: Mapping[str, Any]) -> Usage:
    """Usage in OpenAI's words, the newer ones of sounds and pictures included; what is missing or not a number counts
    as 0.
    """
    details = value.get("prompt_tokens_details", value.get("input_tokens_details"))
    return Usage(
        _count(value.get("prompt_tokens", value.get("input_tokens"))),
        _count(value.get("completion_tokens", value.get("output_tokens"))),
        _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0,
    )


def usage_to_json(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def usage_in(data: bytes) -> Usage | None:
    """The last usage object in ``data`` (a JSON document or SSE frames), or ``None``."""
    at = data.rfind(_USAGE_NAME)  # from the end, where it stands: an answer may be long
    while at >= 0:
        found = _USAGE.match(data, at)
        if found is not None:
            try:
                return usage_from_json(orjson.loads(found[1]))
            except orjson.JSONDecodeError:
                return None
        at = data.rfind(_USAGE_NAME, 0, at)
    return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


# What every embeddings endpoint must get right: the input, the number of dimensions, the encoding. Pure.


MAX_EMBEDDING_INPUTS = 16_384
"""Texts in one call."""


def texts_of(body: Mapping[str, Any]) -> list[str]:
    """The texts of an embeddings request, in order.

    Raises `InvalidRequest` that says what to send instead.
    """
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest("'input' must be a text or a list of texts that is not empty.", param="input")
    if all(_tokens(item) for item in texts) or _tokens(texts):
        raise InvalidRequest(
            "'input' holds token ids. They belong to another model's vocabulary: send the texts themselves. "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False).)",
            code="token_input_unsupported",
            param="input",
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise InvalidRequest(
                f"'input[{index}]' must be a text that is not empty.", param=f"input[{index}]"
            )
    if len(texts) > MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(
            f"'input' has {len(texts)} texts; send at most {MAX_EMBEDDING_INPUTS} at a time.", param="input"
        )
    return texts


def dimensions_of(body: Mapping[str, Any], full: int | None) -> int | None:
    """The asked-for number of dimensions, if any. ``full`` is what the model has. Raises `InvalidRequest`."""
    asked = body.get("dimensions")
    if asked is None:
        return None
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1 or (full and asked > full):
        most = f" and at most {full}, which is what the model has" if full else ""
        raise InvalidRequest(f"'dimensions' must be a whole number of at least 1{most}.", param="dimensions")
    return asked


def encoding_of(body: Mapping[str, Any]) -> str:
    """``float`` or ``base64``. Raises `InvalidRequest` for anything else."""
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise InvalidRequest("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    return str(encoding)


def shorten(vector: bytes, dimensions: int | None) -> bytes:
    """The first ``dimensions`` numbers of a float32 vector, scaled to length 1 again."""
    if dimensions is None or dimensions * 4 >= len(vector):
        return vector
    head = array("f", vector[: dimensions * 4])
    length = math.sqrt(math.fsum(x * x for x in head)) or 1.0
    return array("f", [x / length for x in head]).tobytes()


def document(vectors: Sequence[bytes], encoding: str, model: str, usage: Usage) -> dict[str, Any]:
    """OpenAI's answer; each vector is a little-endian float32 buffer."""
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector).decode()
                if encoding == "base64"
                else array("f", vector).tolist(),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage_to_json(usage)["total_tokens"]},
    }


def vector_of(value: Any) -> bytes:
    """A vector from an answer, whichever encoding it came in, as a little-endian float32 buffer."""
    return base64.b64decode(value) if isinstance(value, str) else array("f", value).tobytes()


def _tokens(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(x, int) for x in item)
