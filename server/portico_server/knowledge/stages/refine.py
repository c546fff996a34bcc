"""The stages after ranking, in their order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from portico_server.core.context import Context
from portico_server.core.registry import Registry
from portico_server.core.request import Search
from portico_server.db import hits
from portico_server.db.database import Database
from portico_server.knowledge.rank import Ranking
from portico_server.knowledge.stages import expand
from portico_server.knowledge.stages.candidate import Candidate, scores
from portico_server.knowledge.stages.decay import decay
from portico_server.knowledge.stages.diversity import spread
from portico_server.knowledge.stages.duplicates import apart, collapse
from portico_server.knowledge.stages.rerank import rerank
from portico_server.knowledge.trace import Trace


@dataclass(frozen=True, slots=True)
class Refiner:
    """Refines the ranking of one store. ``parents`` has the parent of each of its groups, "" for none."""

    store_id: str
    parents: Mapping[str, str]
    database: Database
    registry: Registry

    async def refine(
        self, request: Search, ranking: Ranking, context: Context, trace: Trace
    ) -> list[Candidate]:
        """At most ``max_num_results`` candidates, best first; with diversity, in the order in which they add most."""
        wish, limit = request.refine, request.max_num_results
        found = await self._read(ranking, trace)
        if wish.half_life_days:
            begun = time.perf_counter()
            found = decay(found, wish.half_life_days, wish.decay_by, time.time())
            trace.add("decay", begun, scores(found), f"half in {wish.half_life_days:g} days")
        if wish.reranker:
            begun = time.perf_counter()
            found = await rerank(request.query, found, wish.reranker, self.registry, context)
            trace.add("rerank", begun, scores(found), wish.reranker)
        if request.score_threshold:
            begun = time.perf_counter()
            found = [item for item in found if item.score >= request.score_threshold]
            trace.add("threshold", begun, scores(found), f"at least {request.score_threshold:g}")
        begun = time.perf_counter()
        found = apart(collapse(found, wish.near_duplicates or 1.0))
        trace.add("collapse", begun, scores(found), f"alike from {wish.near_duplicates or 1:g}")
        if wish.diversity:
            begun = time.perf_counter()
            # Passages that grow may become one: some are kept in hand.
            spare = limit if wish.parents or wish.neighbours else 0
            found = spread(found, wish.diversity, limit + spare)
            trace.add("diversity", begun, scores(found), f"{wish.diversity:g} for unlikeness")
        return (await self._grown(request, found, trace))[:limit]

    async def _read(self, ranking: Ranking, trace: Trace) -> list[Candidate]:
        begun = time.perf_counter()
        rows = await self.database.read(hits.get, self.store_id, [chunk for chunk, _ in ranking])
        found = [Candidate(rows[chunk], score) for chunk, score in ranking if chunk in rows]
        trace.add("read", begun, note=f"{len(found)} candidates")
        return found

    async def _grown(self, request: Search, found: list[Candidate], trace: Trace) -> list[Candidate]:
        """Larger passages; those that then tell the same text are one."""
        wish = request.refine
        if wish.parents:
            begun = time.perf_counter()
            found = await expand.to_parents(found, wish.parents, self.parents, self.store_id, self.database)
            trace.add("parents", begun, scores(found))
        if wish.neighbours:
            begun = time.perf_counter()
            few = found[: request.max_num_results * 2]
            found = apart(await expand.by_neighbours(few, wish.neighbours, self.store_id, self.database))
            trace.add("neighbours", begun, scores(found), f"{wish.neighbours} on each side")
        return found
