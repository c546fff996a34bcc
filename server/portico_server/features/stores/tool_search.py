"""Ranks tools for a query, using in-memory indexes of the kinds that stores use: a lexical index and exact vectors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from portico_server.core import pools, work_slots
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Vectors
from portico_server.core.servable import Servable
from portico_server.core.tool_search import MAX_FOUND_TOOLS, SearchedTool
from portico_server.features.stores.embedding import MAX_EMBED_BATCH_TEXTS
from portico_server.features.stores.fusion import fuse_weighted, scale_scores
from portico_server.features.stores.rank import MAX_CANDIDATES

if TYPE_CHECKING:
    from portico_server.features.stores.index.lexical import LexicalIndex
    from portico_server.features.stores.index.nearest import ExactVectors

logger = logging.getLogger(__name__)

VECTOR_WEIGHT: Final = 0.5
"""Weight of vectors relative to words. Descriptions are short, and questions use other words. The value was
measured.
"""

MAX_KEPT_TOOLS: Final = 20_000
"""Total tools across the cached indexes. The least recently used index is evicted and rebuilt on demand."""


MAX_MAKING: Final = 4
"""Maximum number of tool lists that are indexed concurrently. Each key may have one of them."""

RETRY_S: Final = 60.0
"""Seconds for which tools are ranked by words alone after the embedding model has failed."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The index of one list of tools. ``vectors`` is missing if no embedding model works.

    ``until`` is the time, on the clock of `time.monotonic`, at which the index is rebuilt.
    """

    words: LexicalIndex
    vectors: ExactVectors | None
    size: int
    until: float


class ToolIndex:
    """See `portico_server.core.tool_search.ToolSearch`. A list of tools is indexed when it is first searched."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cached_indexes: OrderedDict[bytes, _Ranked] = OrderedDict()
        self._making: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._slots = work_slots.Slots("search for tools", MAX_MAKING, per_key=1)

    async def best(
        self,
        query: str,
        tools: Sequence[SearchedTool],
        context: Context,
        limit: int = MAX_FOUND_TOOLS,
        *,
        charge: bool = False,
    ) -> list[int]:
        """See `portico_server.core.tool_search.ToolSearch`. Raises `TooMany` if a key has too many tool lists indexed
        concurrently.
        """
        if not tools or not query.strip():
            return []
        index = await self._index(tools, context, charge=charge)
        vector = await self._embed([query], context, charge=charge) if index.vectors is not None else []
        return await pools.SEARCH.run(_best, index, query, vector, limit)

    async def _index(self, tools: Sequence[SearchedTool], context: Context, *, charge: bool) -> _Ranked:
        model = self._model()
        name = model.card.name if model is not None else ""
        texts = [tool.text for tool in tools]
        digest = blake2b("\0".join([name, *texts]).encode()).digest()
        lock = self._making.setdefault(digest, asyncio.Lock())
        async with lock:  # searches for the same list wait until the first one has built its index
            cached_index = self._cached_indexes.pop(digest, None)
            if cached_index is None or cached_index.until <= time.monotonic():
                async with self._slots.hold(context.caller.id):
                    vectors = await self._embed(texts, context, charge=charge)
                    until = inf if vectors or model is None else time.monotonic() + RETRY_S
                    heads = [tool.head for tool in tools]
                    cached_index = await pools.INDEX.run(_index, heads, texts, vectors, until)
            self._cached_indexes[digest] = cached_index
        while (
            len(self._cached_indexes) > 1
            and sum(entry.size for entry in self._cached_indexes.values()) > MAX_KEPT_TOOLS
        ):
            self._cached_indexes.popitem(last=False)
        return cached_index

    def _model(self) -> Servable | None:
        servable = self._registry.get("default-embedding")
        return servable if servable is not None and "embeddings" in servable.card.capabilities else None

    async def _embed(self, texts: Sequence[str], context: Context, *, charge: bool) -> list[bytes]:
        """Return the vectors of texts, or an empty list if no model works, so that tools are ranked by words alone.

        The right to call a tool includes finding it by search, so the caller needs no other scope.
        """
        model = self._model()
        if model is None:
            return []
        vectors: list[bytes] = []
        try:
            for first in range(0, len(texts), MAX_EMBED_BATCH_TEXTS):
                embeddings = await model.call(
                    Embed(tuple(texts[first : first + MAX_EMBED_BATCH_TEXTS])), context
                )
                assert isinstance(embeddings, Vectors)
                vectors.extend(embeddings.data)
                if charge:
                    await context.emit(embeddings.usage)
        except PorticoError as error:
            logger.warning("tools are ranked by words alone: %s", error.message)
            return []
        return vectors


def _index(heads: Sequence[str], texts: Sequence[str], vectors: Sequence[bytes], until: float) -> _Ranked:
    # Importing tantivy, NumPy and the dictionaries takes half a second, which must not delay the start of the
    # daemon.
    import numpy as np

    from portico_server.features.stores.index.lexical import LexicalIndex
    from portico_server.features.stores.index.nearest import ExactVectors
    from portico_server.features.stores.index.offset import LogOffset

    words = LexicalIndex(None)
    rows = enumerate(zip(heads, texts, strict=True))
    words.put([(place, "tool", text, head, "", 1) for place, (head, text) in rows])
    words.commit(LogOffset(words.mark.version))
    words.close()
    exact = None
    if vectors:
        matrix = np.frombuffer(b"".join(vectors), np.float32).reshape(len(vectors), -1)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        exact = ExactVectors.of(np.arange(len(vectors)), matrix / np.maximum(lengths, 1e-12))
    return _Ranked(words, exact, len(texts), until)


def _best(index: _Ranked, query: str, vector: Sequence[bytes], limit: int) -> list[int]:
    words = scale_scores(index.words.search(query, MAX_CANDIDATES), 0.0)
    if index.vectors is None or not vector:
        return [place for place, _score in words[:limit]]
    import numpy as np

    near = index.vectors.search(np.frombuffer(vector[0], np.float32), MAX_CANDIDATES)
    fused_scores = fuse_weighted(words, scale_scores(near), VECTOR_WEIGHT)
    return [place for place, _score in fused_scores[:limit]]
