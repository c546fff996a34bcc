"""How sure a model is of its answer: the mean probability that it gave to the tokens of the answer. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import orjson


def take_logprobs(data: bytes, *, stream: bool) -> tuple[bytes, list[float]]:
    """Return an answer in OpenAI's format without its log probabilities, and these log probabilities.

    ``data`` is the whole document, or complete frames of a stream.
    """
    prefix = b"data: " if stream else b""
    parts = data.split(b"\n\n") if stream else [data]
    logprobs: list[float] = []
    for number, part in enumerate(parts):
        text = part.removeprefix(prefix)
        if not text.startswith(b"{"):
            continue
        document = orjson.loads(text)
        for choice in document.get("choices") or ():
            logprobs += [token["logprob"] for token in (choice.get("logprobs") or {}).get("content") or ()]
            choice["logprobs"] = None
        parts[number] = prefix + orjson.dumps(document)
    return b"\n\n".join(parts), logprobs


def confidence(logprobs: Sequence[float]) -> float:
    """Return the geometric mean of the probabilities of the tokens, from 0 to 1. Without tokens, return 0."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
