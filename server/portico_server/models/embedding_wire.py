"""Rules that all embeddings endpoints share: for the input, the number of dimensions and the encoding. Pure."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from portico.wire import Usage
from portico_server.core.errors import InvalidRequest
from portico_server.models.token_usage import usage_to_json

MAX_EMBEDDING_INPUTS = 16_384
"""Maximum number of texts in one call."""


def texts_of(body: Mapping[str, Any]) -> list[str]:
    """Return the texts of an embeddings request, in order.

    Raises `InvalidRequest` with an explanation of what to send instead.
    """
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest("'input' must be a non-empty text or a non-empty list of texts.", param="input")
    if all(_tokens(item) for item in texts) or _tokens(texts):
        raise InvalidRequest(
            "'input' contains token ids, which belong to another model's vocabulary: send the texts "
            "themselves. (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False).)",
            code="token_input_unsupported",
            param="input",
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise InvalidRequest(f"'input[{index}]' must be a non-empty text.", param=f"input[{index}]")
    if len(texts) > MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(
            f"'input' has {len(texts)} texts; send at most {MAX_EMBEDDING_INPUTS} at a time.", param="input"
        )
    return texts


def dimensions_of(body: Mapping[str, Any], full: int | None) -> int | None:
    """Return the requested number of dimensions, if any. ``full`` is the model's own number of dimensions. Raises
    `InvalidRequest`.
    """
    dimensions = body.get("dimensions")
    if dimensions is None:
        return None
    if (
        not isinstance(dimensions, int)
        or isinstance(dimensions, bool)
        or dimensions < 1
        or (full and dimensions > full)
    ):
        limit_text = f" and at most {full}, the model's number of dimensions" if full else ""
        raise InvalidRequest(
            f"'dimensions' must be an integer of at least 1{limit_text}.", param="dimensions"
        )
    return dimensions


def encoding_of(body: Mapping[str, Any]) -> str:
    """Return ``float`` or ``base64``. Raise `InvalidRequest` for any other encoding."""
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise InvalidRequest("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    return str(encoding)


def shorten(vector: bytes, dimensions: int | None) -> bytes:
    """Return the first ``dimensions`` numbers of a float32 vector, normalized to length 1."""
    if dimensions is None or dimensions * 4 >= len(vector):
        return vector
    head = array("f", vector[: dimensions * 4])
    length = math.sqrt(math.fsum(x * x for x in head)) or 1.0
    return array("f", [x / length for x in head]).tobytes()


def document(vectors: Sequence[bytes], encoding: str, model: str, usage: Usage) -> dict[str, Any]:
    """Return a response in OpenAI's format. Each of the ``vectors`` is a little-endian float32 buffer."""
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
    """Convert a vector in a response, in any encoding, to a little-endian float32 buffer."""
    return base64.b64decode(value) if isinstance(value, str) else array("f", value).tobytes()


def _tokens(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(x, int) for x in item)
