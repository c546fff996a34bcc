"""How a store answers a question: by words, by vectors, fused, read from SQL, with a trace of each stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from portico.wire import Passage
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Found, Search, Stage, Vectors
from portico_server.db import chunks
from portico_server.db.chunks import HitRow
from portico_server.db.database import Database
from portico_server.knowledge import filter as filters
from portico_server.knowledge import fuse
from portico_server.knowledge.cjk import has_cjk
from portico_server.knowledge.index.follow import Indexes
from portico_server.knowledge.index.opened import LAG_WAIT, OpenIndex

Ranking = list[tuple[int, float]]

CANDIDATES = 100
"""Taken from each side before fusing."""

LONGEST = 100_000
"""Characters of a question."""

MOST_RESULTS = 50

FUSION_WEIGHT = 0.2
"""The vectors' weight for a model whose card has no label ``fusion_weight``; it hurt on no set measured."""

FUSION_WEIGHT_CJK = 0.0
"""Likewise (``fusion_weight_cjk``) for a question in Chinese, Japanese or Korean that words answer …"""

ENOUGH_WORD_HITS = 3
"""… with so many hits. With fewer, the weight is as for any question."""


@dataclass(slots=True)
class _Trace:
    stages: list[Stage] = field(default_factory=list)

    def add(
        self, name: str, begun: float, candidates: Sequence[tuple[int, float]] = (), note: str = ""
    ) -> None:
        self.stages.append(Stage(name, (time.perf_counter() - begun) * 1e3, tuple(candidates), note))


@dataclass(frozen=True, slots=True)
class _Among:
    """The files that a filter leaves, and the ids of their chunks as (first, last)."""

    files: list[str]
    chunks: list[tuple[int, int]]


class Searcher:
    """Searches one store. ``embedding_model`` is empty for a store without vectors."""

    def __init__(
        self,
        store_id: str,
        name: str,
        embedding_model: str,
        *,
        indexes: Indexes,
        database: Database,
        registry: Registry,
    ) -> None:
        self._store_id = store_id
        self._name = name
        self._model = embedding_model
        self._indexes = indexes
        self._database = database
        self._registry = registry

    async def search(self, request: Search, context: Context) -> Found:
        """The best passages for ``request``, with scores in [0, 1].

        Scores compare the passages of one answer: the best of each side counts 1, see `fuse.weighted`; with
        the ranker ``vector`` they are cosines. Raises `InvalidRequest`, and `Unavailable` while an index is
        built.
        """
        _check(request)
        # Half a character, which JSON can write and UTF-8 cannot, would stop at the embedding model's door.
        request = replace(request, query=request.query.encode(errors="replace").decode())
        trace = _Trace()
        among = await self._filtered(request, trace)
        if among is not None and not among.chunks:
            return Found((), tuple(trace.stages) if request.trace else ())
        async with self._indexes.use(self._store_id, self._model) as index:
            await self._catch_up(index, context, trace)
            ranking = await self._rank(request, index, context, among, trace)
        passages = await self._read(request, ranking, trace)
        return Found(passages, tuple(trace.stages) if request.trace else ())

    async def _filtered(self, request: Search, trace: _Trace) -> _Among | None:
        if request.filters is None:
            return None
        begun = time.perf_counter()
        files = filters.select(request.filters, await self._database.read(chunks.attributes, self._store_id))
        ranges = await self._database.read(chunks.ranges_of_files, self._store_id, files)
        size = sum(last - first + 1 for first, last in ranges)
        trace.add("filter", begun, note=f"{len(files)} files with {size} chunks meet the filter")
        return _Among(files, ranges)

    async def _catch_up(self, index: OpenIndex, context: Context, trace: _Trace) -> None:
        begun = time.perf_counter()
        lag = await index.catch_up(LAG_WAIT, context.emit)
        trace.add("index", begun, note=f"{lag} changes are not in the index yet" if lag else "")

    # --- ranking ----------------------------------------------------------------------------------

    async def _rank(
        self, request: Search, index: OpenIndex, context: Context, among: _Among | None, trace: _Trace
    ) -> Ranking:
        if request.ranker == "lexical":
            return _scaled_words(await self._words(request, index, among, trace))
        if request.ranker == "vector":
            if not index.has_vectors:
                raise InvalidRequest(
                    f"The store '{self._name}' holds no vectors; use the ranker 'auto' or 'lexical'.",
                    param="ranker",
                )
            dense = await self._vectors(request, index, context, among, trace)
            return [(chunk, min(1.0, max(0.0, score))) for chunk, score in dense]
        lexical, dense = await self._both(request, index, context, among, trace)
        begun = time.perf_counter()
        if request.ranker == "rrf":
            ranking, note = fuse.reciprocal([lexical, dense]), "reciprocal rank"
        else:
            weight = self._dense_weight(request, lexical)
            ranking = fuse.weighted(_scaled_words(lexical), fuse.scaled(dense), weight)
            note = f"weighted sum, {weight:g} for vectors" if dense else "words alone"
        trace.add("fuse", begun, ranking, note)
        return ranking

    async def _both(
        self, request: Search, index: OpenIndex, context: Context, among: _Among | None, trace: _Trace
    ) -> tuple[Ranking, Ranking]:
        """Both sides at once, save where the words may make the vectors needless."""
        if not index.has_vectors:
            return await self._words(request, index, among, trace), []
        if request.ranker == "auto" and has_cjk(request.query):
            lexical = await self._words(request, index, among, trace)
            if self._dense_weight(request, lexical) == 0:
                return lexical, []
            return lexical, await self._vectors_if_any(request, index, context, among, trace)
        vectors = asyncio.create_task(self._vectors_if_any(request, index, context, among, trace))
        try:
            return await self._words(request, index, among, trace), await vectors
        finally:
            if not vectors.done():
                vectors.cancel()
                await asyncio.wait({vectors})

    def _dense_weight(self, request: Search, lexical: Ranking) -> float:
        """The profile of the embedding model says how far to trust it beside words."""
        if request.ranker == "auto" and has_cjk(request.query) and len(lexical) >= ENOUGH_WORD_HITS:
            return self._label("fusion_weight_cjk", FUSION_WEIGHT_CJK)
        return self._label("fusion_weight", FUSION_WEIGHT)

    async def _words(self, request: Search, index: OpenIndex, among: _Among | None, trace: _Trace) -> Ranking:
        begun = time.perf_counter()
        files = among.files if among is not None else None
        ranking = await index.search_words(request.query, CANDIDATES, files)
        trace.add("lexical", begun, ranking)
        return ranking

    async def _vectors(
        self, request: Search, index: OpenIndex, context: Context, among: _Among | None, trace: _Trace
    ) -> Ranking:
        begun = time.perf_counter()
        vector = await self._embed(request.query, context)
        trace.add("embed", begun, note=self._model)
        begun = time.perf_counter()
        allowed = among.chunks if among is not None else None
        ranking = await index.search_vectors(vector, CANDIDATES, allowed)
        trace.add("vector", begun, ranking)
        return ranking

    async def _vectors_if_any(
        self, request: Search, index: OpenIndex, context: Context, among: _Among | None, trace: _Trace
    ) -> Ranking:
        """As `_vectors`, but without the model the words must do."""
        begun = time.perf_counter()
        try:
            return await self._vectors(request, index, context, among, trace)
        except PorticoError as error:
            trace.add("vector", begun, note=f"left out: {error.message}")
            return []

    async def _embed(self, query: str, context: Context) -> bytes:
        """The question's vector.

        The right to read a store includes this use of its own embedding model: no further scope is needed.
        """
        model = self._registry.get(self._model)
        if model is None:
            raise Unavailable(
                f"The embedding model '{self._model}' of the store '{self._name}' is not here any more.",
                code="model_not_found",
            )
        result = await model.call(Embed((query,)), context)
        assert isinstance(result, Vectors)
        return result.data[0]

    def _label(self, label: str, default: float) -> float:
        model = self._registry.get(self._model)
        value = model.card.labels.get(label) if model is not None else None
        return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) else default

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self, request: Search, ranking: Ranking, trace: _Trace) -> tuple[Passage, ...]:
        """The passages of the best chunks; one with the very text of a better one is left out."""
        begun = time.perf_counter()
        passages: list[Passage] = []
        seen: set[str] = set()
        good = [item for item in ranking if item[1] >= request.score_threshold]
        step = (
            request.max_num_results + 8
        )  # a few more than asked for: some may be doubles, or deleted by now
        for i in range(0, len(good), step):
            part = good[i : i + step]
            rows = await self._database.read(chunks.hits, self._store_id, [chunk for chunk, _ in part])
            for chunk, score in part:
                row = rows.get(chunk)
                if row is None or row.text in seen or len(passages) == request.max_num_results:
                    continue
                seen.add(row.text)
                passages.append(self._passage(len(passages) + 1, score, row))
            if len(passages) == request.max_num_results:
                break
        trace.add("read", begun, note=f"{len(passages)} passages")
        return tuple(passages)

    def _passage(self, rank: int, score: float, row: HitRow) -> Passage:
        return Passage(
            rank=rank,
            score=round(score, 6),
            text=row.text,
            file_id=row.file_id,
            filename=row.filename,
            place=row.place,
            store=self._name,
            attributes=row.attributes,
        )


def _scaled_words(ranking: Ranking) -> Ranking:
    """BM25 scores scaled to [0, 1]. In a list that was not cut off, what is absent truly scores 0."""
    return fuse.scaled(ranking, 0.0 if len(ranking) < CANDIDATES else None)


def _check(request: Search) -> None:
    if not request.query.strip():
        raise InvalidRequest("The query is empty; write what to search for.", param="query")
    if len(request.query) > LONGEST:
        raise InvalidRequest(
            f"The query has {len(request.query):,} characters; at most {LONGEST:,} are taken.",
            code="string_above_max_length",
            param="query",
        )
    if not 1 <= request.max_num_results <= MOST_RESULTS:
        raise InvalidRequest(
            f"max_num_results is {request.max_num_results}, but must be from 1 to {MOST_RESULTS}.",
            param="max_num_results",
        )
    if not 0 <= request.score_threshold <= 1:
        raise InvalidRequest(
            f"score_threshold is {request.score_threshold:g}, but must be from 0 to 1.",
            param="score_threshold",
        )
