"""Ranks the chunks of one group for a question: by words, by vectors, and fused into one list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Search, Vectors
from portico_server.core.servable import FUSION_WEIGHT
from portico_server.core.words import has_cjk
from portico_server.db import hits
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.store_index import IndexName
from portico_server.features.stores.fusion import fuse_reciprocal, fuse_weighted, scale_scores
from portico_server.features.stores.index.handle import LAG_WAIT_S, IndexHandle
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.index.vector_engine import Ranking
from portico_server.features.stores.links.follow import follow_links
from portico_server.features.stores.search_trace import SearchTrace
from portico_server.runs.run import charge_call

MAX_CANDIDATES = 100
"""Maximum number of candidates from each side, words and vectors, before fusion."""

FUSION_WEIGHT_CJK = 0.0
"""Default weight of vectors for a question in Chinese, Japanese or Korean, or about Chinese texts, with enough word
hits. The model's label ``fusion_weight_cjk`` overrides the default.
"""

MIN_WORD_HITS = 3
"""Minimum number of word hits for the CJK weight to apply. With fewer hits, the general weight is used."""


@dataclass(frozen=True, slots=True)
class FilteredFiles:
    """The files that pass a filter, and the ids of their chunks as ranges (first, last)."""

    files: list[str]
    chunks: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class RankedSides:
    """Candidates by words and by vectors, both with scores scaled to [0, 1]."""

    lexical: Ranking
    dense: Ranking


class ChunkRanker:
    """Ranks the chunks of one group of one store. ``embedding_model`` is empty for a group without vectors.

    ``weight`` is the weight of vectors that was measured for this store. It takes precedence over the labels of the
    model. ``engine`` is where the vectors are, if the caller has read it.
    """

    def __init__(
        self,
        store_id: str,
        name: str,
        embedding_model: str,
        *,
        group: str = DEFAULT_GROUP,
        weight: float | None = None,
        engine: IndexName | None = None,
        indexes: IndexManager,
        database: Database,
        registry: Registry,
    ) -> None:
        self._store_id = store_id
        self._name = name
        self._group = group
        self._model = embedding_model
        self._weight = weight
        self._engine = engine
        self._indexes = indexes
        self._database = database
        self._registry = registry

    async def rank(
        self,
        request: Search,
        files: list[str] | None,
        context: Context,
        trace: SearchTrace,
        last_change: int | None = None,
    ) -> Ranking:
        """Return the candidates for ``request.query``, best first, with scores in [0, 1]. With ``files``, only chunks
        of these files are considered.

        For ``last_change``, see `IndexHandle.catch_up`.
        """
        among = None
        if files is not None:
            ranges = await self._database.read(hits.ranges_of_files, self._store_id, files, self._group)
            if not ranges:
                return []
            among = FilteredFiles(files, ranges)
        async with self._use_index() as index:
            await self._catch_up(index, context, trace, last_change)
            return await self._rank(request, index, context, among, trace)

    def _use_index(self) -> AbstractAsyncContextManager[IndexHandle]:
        return self._indexes.use(self._store_id, self._model, self._group, self._engine)

    async def by_words(
        self, texts: Sequence[str], limit: int, files: list[str] | None, context: Context
    ) -> list[Ranking]:
        """Return, for each text, the best chunks that contain its words, best first. With ``files``, only chunks of
        these files are considered.
        """
        async with self._use_index() as index:
            return [await index.search_words(text, limit, files) for text in texts]

    async def follow_links(
        self, question: str, ranking: Ranking, files: list[str] | None
    ) -> tuple[list[tuple[int, float]], str]:
        """Return ``ranking`` with linked passages of ``files``, and a note for the trace; see `follow_links`."""
        async with self._use_index() as index:
            return await self._database.read(
                follow_links, self._store_id, question, ranking, files, index.postings
            )

    async def sides(self, request: Search, context: Context) -> RankedSides:
        """Return the candidates before fusion. Raises the errors of the embedding model."""
        trace = SearchTrace()
        async with self._use_index() as index:
            await self._catch_up(index, context, trace)
            lexical = await self._search_words(request, index, None, trace)
            dense = await self._search_vectors(request, index, context, None, trace)
        return RankedSides(_scaled_words(lexical), scale_scores(dense))

    async def _catch_up(
        self, index: IndexHandle, context: Context, trace: SearchTrace, last_change: int | None = None
    ) -> None:
        start_time = time.perf_counter()
        lag = await index.catch_up(LAG_WAIT_S, context.emit, last_change)
        trace.add("index", start_time, note=f"{lag} changes have not been indexed yet" if lag else "")

    async def _rank(
        self,
        request: Search,
        index: IndexHandle,
        context: Context,
        among: FilteredFiles | None,
        trace: SearchTrace,
    ) -> Ranking:
        if request.ranker == "lexical":
            return _scaled_words(await self._search_words(request, index, among, trace))
        if request.ranker == "vector":
            if not index.has_vectors:
                raise InvalidRequest(
                    f"The store '{self._name}' has no vectors; use the ranker 'auto' or 'lexical'.",
                    param="ranker",
                )
            dense = await self._search_vectors(request, index, context, among, trace)
            return [(chunk, min(1.0, max(0.0, score))) for chunk, score in dense]
        lexical, dense = await self._search_both(request, index, context, among, trace)
        start_time = time.perf_counter()
        if request.ranker == "rrf":
            ranking, note = fuse_reciprocal([lexical, dense]), "reciprocal rank"
        else:
            weight = self._dense_weight(request, lexical, index)
            ranking = fuse_weighted(_scaled_words(lexical), scale_scores(dense), weight)
            weight_origin = ", as measured" if self._is_measured(request) else ""
            note = f"weighted sum, {weight:g} for vectors{weight_origin}" if dense else "words alone"
        trace.add("fuse", start_time, ranking, note)
        return ranking

    async def _search_both(
        self,
        request: Search,
        index: IndexHandle,
        context: Context,
        among: FilteredFiles | None,
        trace: SearchTrace,
    ) -> tuple[Ranking, Ranking]:
        """Search by words and by vectors in one step, unless the result of the words may make the vectors
        unnecessary.
        """
        if not index.has_vectors:
            return await self._search_words(request, index, among, trace), []
        if request.ranker == "auto" and _crosses_or_is_cjk(request.query, index):
            lexical = await self._search_words(request, index, among, trace)
            if self._dense_weight(request, lexical, index) == 0:
                return lexical, []
            return lexical, await self._search_vectors_if_available(request, index, context, among, trace)
        start_time = time.perf_counter()
        try:
            vector = await self._embed(request.query, context, trace)
            begun = time.perf_counter()
            files, chunks = (None, None) if among is None else (among.files, among.chunks)
            sides = await index.search(request.query, vector, MAX_CANDIDATES, files, chunks)
        except PorticoError as error:
            trace.add("vector", start_time, note=f"left out: {error.message}")
            return await self._search_words(request, index, among, trace), []
        note = _gloss_note(request.query, index)
        trace.add("lexical", begun, sides.lexical, note, end_time=sides.between)
        trace.add("vector", sides.between, sides.dense)
        return sides.lexical, sides.dense

    def _dense_weight(self, request: Search, lexical: Ranking, index: IndexHandle) -> float:
        """Return the weight of vectors: from the request, else as measured for the store, else from the labels of the
        model.
        """
        if request.vector_weight is not None:
            return request.vector_weight
        if self._weight is not None:
            return self._weight
        if (
            request.ranker == "auto"
            and len(lexical) >= MIN_WORD_HITS
            and _crosses_or_is_cjk(request.query, index)
        ):
            return self._card_label("fusion_weight_cjk", FUSION_WEIGHT_CJK)
        return self._card_label("fusion_weight", FUSION_WEIGHT)

    def _is_measured(self, request: Search) -> bool:
        return request.vector_weight is None and self._weight is not None

    async def _search_words(
        self, request: Search, index: IndexHandle, among: FilteredFiles | None, trace: SearchTrace
    ) -> Ranking:
        start_time = time.perf_counter()
        files = among.files if among is not None else None
        ranking = await index.search_words(request.query, MAX_CANDIDATES, files)
        trace.add("lexical", start_time, ranking, _gloss_note(request.query, index))
        return ranking

    async def _search_vectors(
        self,
        request: Search,
        index: IndexHandle,
        context: Context,
        among: FilteredFiles | None,
        trace: SearchTrace,
    ) -> Ranking:
        vector = await self._embed(request.query, context, trace)
        start_time = time.perf_counter()
        permitted_ranges = among.chunks if among is not None else None
        ranking = await index.search_vectors(vector, MAX_CANDIDATES, permitted_ranges)
        trace.add("vector", start_time, ranking)
        return ranking

    async def _search_vectors_if_available(
        self,
        request: Search,
        index: IndexHandle,
        context: Context,
        among: FilteredFiles | None,
        trace: SearchTrace,
    ) -> Ranking:
        """Search as `_search_vectors` does. If the model is unavailable, return no candidates, so that words alone
        count.
        """
        start_time = time.perf_counter()
        try:
            return await self._search_vectors(request, index, context, among, trace)
        except PorticoError as error:
            trace.add("vector", start_time, note=f"left out: {error.message}")
            return []

    async def _embed(self, query: str, context: Context, trace: SearchTrace) -> bytes:
        """Return the vector of the question.

        The right to read a store includes this use of the store's embedding model, so the caller needs no other scope.
        """
        model = self._registry.get(self._model)
        if model is None:
            raise Unavailable(
                f"The embedding model '{self._model}' of the store '{self._name}' is no longer available.",
                code="model_not_found",
            )
        start_time = time.perf_counter()
        request = Embed((query,))
        async with charge_call(context, model, request) as spend:
            result = await model.call(request, context)
            spend(result)
        assert isinstance(result, Vectors)
        trace.add("embed", start_time, note=self._model)
        return result.data[0]

    def _card_label(self, label: str, default: float) -> float:
        model = self._registry.get(self._model)
        value = model.card.labels.get(label) if model is not None else None
        return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) else default


def _crosses_or_is_cjk(question: str, index: IndexHandle) -> bool:
    """Return whether the CJK weight of vectors applies: to CJK questions, and to questions about CJK texts."""
    return has_cjk(question) or index.is_foreign(question)


def _gloss_note(question: str, index: IndexHandle) -> str:
    language = index.gloss_language(question)
    return f"with {language} glosses" if language else ""


def _scaled_words(ranking: Ranking) -> Ranking:
    """Scale BM25 scores to [0, 1]. If the list is complete, 0 is the true score of a missing chunk, so 0 is the lower
    end of the scale.
    """
    return scale_scores(ranking, 0.0 if len(ranking) < MAX_CANDIDATES else None)
