"""The stages after ranking: decay, reranking, threshold, removal of duplicates, diversity, and expansion of
passages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.registry import Registry
from portico_server.core.request import AUTO_RERANKER, Search
from portico_server.db import hits
from portico_server.db.database import Database
from portico_server.features.stores.decay import decay_scores
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.expansion import expand_by_neighbours, expand_to_parents
from portico_server.features.stores.index.vector_engine import Ranking
from portico_server.features.stores.near_duplicates import drop_near_duplicates, drop_overlapping
from portico_server.features.stores.reranking import rerank
from portico_server.features.stores.search_candidate import SearchCandidate, candidate_scores
from portico_server.features.stores.search_trace import SearchTrace
from portico_server.features.stores.similarity import diversify


@dataclass(frozen=True, slots=True)
class Refiner:
    """Refines the ranking of one store. ``parents`` maps each group of the store to its parent group, "" for none.
    ``reranker`` serves searches that name none.
    """

    store_id: str
    parents: Mapping[str, str]
    database: Database
    registry: Registry
    reranker: DefaultReranker

    async def refine(
        self, request: Search, ranking: Ranking, context: Context, trace: SearchTrace
    ) -> list[SearchCandidate]:
        """Return at most ``max_num_results`` candidates, best first. With diversity, the order is that of the
        information each candidate adds.
        """
        settings, limit = request.refine, request.max_num_results
        search_candidates = await self._read(ranking, trace)
        if settings.half_life_days:
            start_time = time.perf_counter()
            search_candidates = decay_scores(
                search_candidates, settings.half_life_days, settings.decay_by, time.time()
            )
            trace.add(
                "decay",
                start_time,
                candidate_scores(search_candidates),
                f"half-life of {settings.half_life_days:g} days",
            )
        if settings.reranker == AUTO_RERANKER:
            start_time = time.perf_counter()
            order, note = await self.reranker.rerank(request.query, search_candidates, context)
            search_candidates = list(order)
            trace.add("rerank", start_time, candidate_scores(search_candidates), note)
        elif settings.reranker:
            start_time = time.perf_counter()
            search_candidates = await rerank(
                request.query, search_candidates, settings.reranker, self.registry, context
            )
            trace.add("rerank", start_time, candidate_scores(search_candidates), settings.reranker)
        if request.score_threshold:
            start_time = time.perf_counter()
            search_candidates = [item for item in search_candidates if item.score >= request.score_threshold]
            trace.add(
                "threshold",
                start_time,
                candidate_scores(search_candidates),
                f"at least {request.score_threshold:g}",
            )
        start_time = time.perf_counter()
        search_candidates = drop_overlapping(
            drop_near_duplicates(search_candidates, settings.near_duplicates or 1.0)
        )
        trace.add(
            "collapse",
            start_time,
            candidate_scores(search_candidates),
            f"alike from {settings.near_duplicates or 1:g}",
        )
        if settings.diversity:
            start_time = time.perf_counter()
            # Expanded passages may merge, so extra passages are kept to replace them.
            spare = limit if settings.parents or settings.neighbours else 0
            search_candidates = diversify(search_candidates, settings.diversity, limit + spare)
            trace.add(
                "diversity",
                start_time,
                candidate_scores(search_candidates),
                f"{settings.diversity:g} for unlikeness",
            )
        return (await self._expand(request, search_candidates, trace))[:limit]

    async def _read(self, ranking: Ranking, trace: SearchTrace) -> list[SearchCandidate]:
        start_time = time.perf_counter()
        rows = await self.database.read(hits.get, self.store_id, [chunk for chunk, _ in ranking])
        search_candidates = [SearchCandidate(rows[chunk], score) for chunk, score in ranking if chunk in rows]
        trace.add("read", start_time, note=f"{len(search_candidates)} candidates")
        return search_candidates

    async def _expand(
        self, request: Search, search_candidates: list[SearchCandidate], trace: SearchTrace
    ) -> list[SearchCandidate]:
        """Expand the passages, and merge passages whose texts are then the same."""
        settings = request.refine
        if settings.parents:
            start_time = time.perf_counter()
            search_candidates = await expand_to_parents(
                search_candidates, settings.parents, self.parents, self.store_id, self.database
            )
            trace.add("parents", start_time, candidate_scores(search_candidates))
        if settings.neighbours:
            start_time = time.perf_counter()
            top_candidates = search_candidates[: request.max_num_results * 2]
            search_candidates = drop_overlapping(
                await expand_by_neighbours(top_candidates, settings.neighbours, self.store_id, self.database)
            )
            trace.add(
                "neighbours",
                start_time,
                candidate_scores(search_candidates),
                f"{settings.neighbours} on each side",
            )
        return search_candidates
