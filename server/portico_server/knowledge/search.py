"""How a store answers a question: ranked in its groups, refined stage by stage, read from SQL, with a trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from portico.wire import Passage
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Attributes, Filter, Found, Refine, Search
from portico_server.db import groups, hits
from portico_server.db.changes import GROUP
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.hits import HitRow
from portico_server.knowledge import filter as filters
from portico_server.knowledge import fuse
from portico_server.knowledge.index.follow import Indexes
from portico_server.knowledge.rank import CANDIDATES, Ranker, Ranking
from portico_server.knowledge.stages import rewrite
from portico_server.knowledge.stages.refine import Refiner
from portico_server.knowledge.trace import Trace

LONGEST = 100_000
"""Characters of a question."""

MOST_RESULTS = 50

MANY_FILES = 1_000
"""From which on files are compared with a filter off the event loop."""

NEIGHBOURS = 10
"""Chunks on each side by which a passage may grow."""


Condition: TypeAlias = Callable[[Principal], Filter | None]
"""What a file must meet for a caller to read it; ``None``: nothing."""


class Searcher:
    """Searches one store. ``embedding_model`` is empty for a store without vectors; ``weight``: see `Ranker`.

    ``condition`` is the filter that is bound to a caller's key: all other files are as if they were not there, before
    anything is ranked.
    """

    def __init__(
        self,
        store_id: str,
        name: str,
        embedding_model: str,
        *,
        weight: float | None = None,
        condition: Condition,
        indexes: Indexes,
        database: Database,
        registry: Registry,
    ) -> None:
        self._store_id = store_id
        self._name = name
        self._model = embedding_model
        self._weight = weight
        self._condition = condition
        self._indexes = indexes
        self._database = database
        self._registry = registry

    async def search(self, request: Search, context: Context) -> Found:
        """The best passages for ``request``, with scores in [0, 1].

        Scores compare the passages of one answer: the best of each side counts 1, see `fuse.weighted`; with
        the ranker ``vector`` they are cosines, behind a reranker its judgement. Raises `InvalidRequest`, and
        `Unavailable` while an index is built.
        """
        _check(request)
        # Half a character, which JSON can write and UTF-8 cannot, would stop at the embedding model's door.
        request = replace(request, query=request.query.encode(errors="replace").decode())
        trace = Trace()
        known = await self._groups(request)
        condition = self._condition(context.caller)
        files = await self._filtered(request, condition, trace)
        passages: tuple[Passage, ...] = ()
        queries: Sequence[str] = ()
        if files is None or files:
            queries = await self._questions(request, context, trace)
            ranking = await self._rank(request, queries, known, files, context, trace)
            if request.refine == Refine() and len(request.groups) < 2:
                passages = await self._read(request, ranking, condition, trace)
            else:
                refiner = Refiner(
                    self._store_id,
                    {GROUP: "", **{row.name: row.parent for row in known.values()}},
                    database=self._database,
                    registry=self._registry,
                )
                refined = await refiner.refine(request, ranking, context, trace)
                rows = [(item.score, item.row) for item in refined if _permits(condition, item.row)]
                passages = tuple(self._passage(i, score, row) for i, (score, row) in enumerate(rows, 1))
        return Found(passages, tuple(trace.stages) if request.trace else (), tuple(queries))

    async def _groups(self, request: Search) -> Mapping[str, GroupRow]:
        """The further groups of the store, by name, where the request has to do with groups."""
        if not request.groups and not request.refine.parents:
            return {}
        known = {row.name: row for row in await self._database.read(groups.of_store, self._store_id)}
        wanted = {"groups": request.groups, "parents": (request.refine.parents.strip("*"),)}
        for param, names in wanted.items():
            for name in names:
                if name and name != GROUP and name not in known:
                    raise NotFound(
                        f"The store '{self._name}' has no group '{name[:64]}'.{nearest(name, known)} There are: "
                        f"{', '.join((GROUP, *known))}.",
                        code="group_not_found",
                        param=param,
                    )
        return known

    async def _filtered(self, request: Search, condition: Filter | None, trace: Trace) -> list[str] | None:
        """The files that meet the caller's filter and the request's, if there is one."""
        if request.filters is None and condition is None:
            return None
        begun = time.perf_counter()
        rows = await self._database.read(hits.attributes, self._store_id)
        if len(rows) > MANY_FILES:  # which takes longer than other requests should wait for
            files = await pools.SEARCH.run(_among, rows, condition, request.filters)
        else:
            files = _among(rows, condition, request.filters)
        trace.add("filter", begun, note=f"{len(files)} files meet the filter")
        return files

    async def _questions(self, request: Search, context: Context, trace: Trace) -> Sequence[str]:
        if not request.refine.rewrite:
            return [request.query]
        begun = time.perf_counter()
        found = await rewrite.questions(request.query, request.refine, context)
        trace.add(request.refine.rewrite, begun, note=found.note)
        return found.queries

    async def _rank(
        self,
        request: Search,
        queries: Sequence[str],
        known: Mapping[str, GroupRow],
        files: list[str] | None,
        context: Context,
        trace: Trace,
    ) -> Ranking:
        """The candidates of all groups for all questions: each chunk with its best score."""
        wanted = list(dict.fromkeys(request.groups)) or [GROUP]
        rankings: list[Ranking] = []
        for group in wanted:
            model = known[group].model(self._model) if group != GROUP else self._model
            ranker = Ranker(
                self._store_id,
                self._name,
                model,
                group=group,
                weight=self._weight if model == self._model else None,
                indexes=self._indexes,
                database=self._database,
                registry=self._registry,
            )
            for number, query in enumerate(queries):
                part = ", ".join(
                    word
                    for word in (group if group != GROUP else "", f"question {number + 1}" if number else "")
                    if word
                )
                asked = replace(request, query=query)
                rankings.append(await ranker.rank(asked, files, context, trace.of(part)))
        if len(rankings) == 1:
            return rankings[0]
        begun = time.perf_counter()
        together = fuse.highest(rankings)[:CANDIDATES]
        trace.add("together", begun, together, f"{len(wanted)} groups, {len(queries)} questions")
        return together

    # --- reading ----------------------------------------------------------------------------------

    async def _read(
        self, request: Search, ranking: Ranking, condition: Filter | None, trace: Trace
    ) -> tuple[Passage, ...]:
        """The passages of the best chunks; one with the very text of a better one is left out."""
        begun = time.perf_counter()
        passages: list[Passage] = []
        seen: set[str] = set()
        good = [item for item in ranking if item[1] >= request.score_threshold]
        # A few more than asked for: some may be doubles, or deleted by now.
        step = request.max_num_results + 8
        for i in range(0, len(good), step):
            part = good[i : i + step]
            rows = await self._database.read(hits.get, self._store_id, [chunk for chunk, _ in part])
            for chunk, score in part:
                row = rows.get(chunk)
                if (
                    row is None
                    or not _permits(condition, row)
                    or row.text in seen
                    or len(passages) == request.max_num_results
                ):
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


def _among(
    rows: Sequence[tuple[str, Attributes]], condition: Filter | None, wanted: Filter | None
) -> list[str]:
    """The files that meet both filters; the second is checked against those alone that meet the first."""
    if condition is not None:
        rows = filters.permitted(condition, rows)
    return [file for file, _ in rows] if wanted is None else filters.select(wanted, rows)


def _permits(condition: Filter | None, row: HitRow) -> bool:
    """Whether the caller may read a chunk: its file's attributes may have changed since it was ranked."""
    return condition is None or filters.permits(condition, row.attributes)


def _check(request: Search) -> None:
    if not request.query.strip():
        raise InvalidRequest("The query is empty; write what to search for.", param="query")
    if len(request.query) > LONGEST:
        raise InvalidRequest(
            f"The query has {len(request.query):,} characters; at most {LONGEST:,} are taken.",
            code="string_above_max_length",
            param="query",
        )
    refine = request.refine
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("max_num_results", request.max_num_results, 1, MOST_RESULTS),
        ("score_threshold", request.score_threshold, 0, 1),
        ("near_duplicates", refine.near_duplicates, 0, 1),
        ("diversity", refine.diversity, 0, 1),
        ("neighbours", refine.neighbours, 0, NEIGHBOURS),
        ("vector_weight", 0.0 if request.vector_weight is None else request.vector_weight, 0, 1),
        ("half_life_days", refine.half_life_days, 0, 1e6),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise InvalidRequest(f"{name} is {value:g}, but must be from {low:g} to {high:g}.", param=name)
