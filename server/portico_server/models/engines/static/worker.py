"""The process of a static embedding model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import orjson
from aiohttp import web

from portico.wire import Usage
from portico_server.models.embedding_wire import dimensions_of, document, encoding_of, shorten, texts_of
from portico_server.models.engines import worker_http, worker_link
from portico_server.subprocesses import own_interpreter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_PIECE_CHARS = 50_000
"""Maximum characters of a text that are split into tokens at a time. A token takes a hundred bytes."""

MAX_DIRECT_CHARS = 1_000
"""Maximum characters of a single text that is embedded in the event loop, such as a search query."""


class StaticServer:
    """OpenAI's embeddings endpoint for wordllama. ``weights`` has a row for each token."""

    def __init__(self, weights: numpy.ndarray, tokenizer: Tokenizer) -> None:
        self._weights = weights
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lock = asyncio.Lock()

    async def embed(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await worker_http.body_of(request)
        texts = texts_of(body)
        full = int(self._weights.shape[1])
        dimensions = dimensions_of(body, full)
        encoding = encoding_of(body)
        name = str(body.get("model", ""))
        sums = numpy.zeros((len(texts), full), numpy.float32)
        if len(texts) == 1 and len(texts[0]) <= MAX_DIRECT_CHARS:
            token_count = self._add([(0, texts[0])], sums)
            return _json(_body(sums, dimensions, encoding, name, token_count))
        token_count = 0
        for pieces in _batches(texts):
            async with self._lock:  # requests alternate after each batch
                token_count += await asyncio.to_thread(self._add, pieces, sums)
        return _json(await asyncio.to_thread(_body, sums, dimensions, encoding, name, token_count))

    def _add(self, pieces: list[tuple[int, str]], sums: numpy.ndarray) -> int:
        """Add the vectors of the tokens of each piece to the sum of its text. Return the number of tokens."""
        encodings = self._tokenizer.encode_batch([text for _, text in pieces], add_special_tokens=False)
        for (place, _), tokens in zip(pieces, encodings, strict=True):
            # A text repeats its tokens: adding each vector once, by its count, reads less memory.
            ids, counts = numpy.unique(numpy.asarray(tokens.ids, numpy.int32), return_counts=True)
            sums[place] += counts.astype(numpy.float32) @ self._weights[ids]
        return sum(len(tokens.ids) for tokens in encodings)


def _body(sums: numpy.ndarray, dimensions: int | None, encoding: str, name: str, token_count: int) -> bytes:
    """Return a response with the vectors, normalized to length 1."""
    lengths = numpy.linalg.norm(sums, axis=1, keepdims=True)
    rows = (sums / numpy.maximum(lengths, numpy.finfo(numpy.float32).tiny)).astype("<f4")
    vectors = [shorten(row.tobytes(), dimensions) for row in rows]
    return orjson.dumps(document(vectors, encoding, name, Usage(token_count)))


def _batches(texts: list[str]) -> Iterator[list[tuple[int, str]]]:
    """Yield the pieces of all texts with the index of their text, at most `MAX_PIECE_CHARS` characters at a time."""
    batch: list[tuple[int, str]] = []
    size = 0
    for place, text in enumerate(texts):
        for start in range(0, len(text), MAX_PIECE_CHARS):
            piece = text[start : start + MAX_PIECE_CHARS]
            if batch and size + len(piece) > MAX_PIECE_CHARS:
                yield batch
                batch, size = [], 0
            batch.append((place, piece))
            size += len(piece)
    if batch:
        yield batch


def _json(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="application/json")


def load_vectors() -> tuple[numpy.ndarray, Tokenizer]:
    """Return the 256-dimensional vectors and the tokenizer in the wordllama wheel.

    The package is not imported: its imports, pydantic and requests among them, take longer than loading the files.
    """
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    package = find_spec("wordllama")
    if package is None or package.origin is None:
        raise ImportError("it is not installed")
    folder = Path(package.origin).parent
    weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = (folder / "tokenizers" / "l2_supercat_tokenizer_config.json").read_bytes()
    return weights.astype(numpy.float32), Tokenizer.from_buffer(tokenizer)


def main() -> None:
    """Run as a child process of the daemon."""
    config = worker_link.receive()
    try:
        weights, tokenizer = load_vectors()
    except (ImportError, OSError, ValueError) as error:
        worker_link.give_up(
            f"wordllama does not load ({error}). Reinstall it: {own_interpreter()} -m pip install --force-reinstall "
            "wordllama"
        )
    app = worker_http.application(config["key"])
    app.router.add_post("/v1/embeddings", StaticServer(weights, tokenizer).embed)
    worker_http.serve(app, host=config["host"])


if __name__ == "__main__":
    main()
