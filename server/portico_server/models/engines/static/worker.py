"""The process of a static embedding model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from portico.wire import Usage
from portico_server.models.embedding_wire import dimensions_of, document, encoding_of, shorten, texts_of
from portico_server.models.engines import worker_http, worker_link
from portico_server.subprocesses import own_interpreter

MAX_BATCH_TEXTS = 64
"""Maximum number of texts embedded together. The texts of a batch are padded to the length of the longest."""

MAX_DIRECT_CHARS = 1_000
"""Maximum characters of a single text that is embedded in the event loop, such as a search query."""


class StaticServer:
    """OpenAI's embeddings endpoint for wordllama. ``model`` is a loaded WordLlama."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = asyncio.Lock()

    async def embed(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await worker_http.body_of(request)
        texts = texts_of(body)
        full = int(self._model.embedding.shape[1])
        dimensions = dimensions_of(body, full)
        encoding = encoding_of(body)
        name = str(body.get("model", ""))
        short = len(texts) == 1 and len(texts[0]) <= MAX_DIRECT_CHARS
        if (
            short and not self._lock.locked()
        ):  # handing a short text to a thread takes longer than embedding it
            return _json(self._work(texts, dimensions, encoding, name))
        async with self._lock:
            # Runs in a thread, so that a long batch does not delay reading the next request.
            data = await asyncio.to_thread(self._work, texts, dimensions, encoding, name)
        return _json(data)

    def _work(self, texts: list[str], dimensions: int | None, encoding: str, name: str) -> bytes:
        # Texts of similar length are grouped to save padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors: list[bytes] = [b""] * len(texts)
        tokens = 0
        for start in range(0, len(order), MAX_BATCH_TEXTS):
            places = order[start : start + MAX_BATCH_TEXTS]
            batch = [texts[place] for place in places]
            rows = self._model.embed(batch, norm=True, batch_size=MAX_BATCH_TEXTS).astype("<f4")
            tokens += sum(sum(item.attention_mask) for item in self._model.tokenize(batch))
            for place, row in zip(places, rows, strict=True):
                vectors[place] = shorten(row.tobytes(), dimensions)
        return orjson.dumps(document(vectors, encoding, name, Usage(tokens)))


def _json(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="application/json")


def load_vectors() -> Any:
    """Load the 256-dimensional vectors in the wordllama wheel, without network access."""
    import wordllama

    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def main() -> None:
    """Run as a child process of the daemon."""
    config = worker_link.receive()
    try:
        model = load_vectors()
    except (ImportError, OSError, ValueError) as error:
        worker_link.give_up(
            f"wordllama does not load ({error}). Reinstall it: {own_interpreter()} -m pip install --force-reinstall "
            "wordllama"
        )
    app = worker_http.application(config["key"])
    app.router.add_post("/v1/embeddings", StaticServer(model).embed)
    worker_http.serve(app, host=config["host"])


if __name__ == "__main__":
    main()
