"""Answers a question from one store, or from several stores: ranks chunks in each group, refines the ranking, reads
the passages from SQL, and records a trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from portico.wire import Passage
from portico_server.core import filter as filters
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.file_labels import FileLabels
from portico_server.core.filter import infer, leaves
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import (
    AUTO_RERANKER,
    Attributes,
    Filter,
    Refine,
    Search,
    SearchResult,
    Steps,
)
from portico_server.db import groups, hits
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.hits import HitRow
from portico_server.db.reviewed_files import Review
from portico_server.db.stores import StoreRow
from portico_server.features.stores.changelogs import asks_about_changes, is_changelog
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.fusion import fuse_best
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.index.vector_engine import Ranking
from portico_server.features.stores.name_walk import names_in
from portico_server.features.stores.question_rewrite import rewrite_question
from portico_server.features.stores.rank import MAX_CANDIDATES, ChunkRanker
from portico_server.features.stores.refine import Refiner
from portico_server.features.stores.search_trace import SearchTrace
from portico_server.features.stores.steps import StepSearch, check_steps, search_further

MAX_QUERY_CHARS = 100_000
"""Maximum length of a question in characters."""

MAX_RESULTS = 50
"""Maximum number of passages in one result."""

EXTRA_CHUNK_COUNT = 2
"""Number of chunks read at once beyond the requested number. Reading chunks takes a fifth of the time of a search."""

MIN_OFFLOADED_COMPARISONS = 1_000
"""Minimum number of comparisons (files × comparisons in the filter) for which a filter is evaluated in a thread."""

MAX_NEIGHBOURS = 10
"""Maximum number of neighbouring chunks on each side that can be added to a passage."""


_FileAttributes: TypeAlias = Sequence[tuple[str, Attributes]]
"""File ids with their attributes."""

Condition: TypeAlias = Callable[[Principal], Filter | None]
"""Returns the filter that files must meet for a caller to read them, or ``None`` if the caller has no filter."""


class Searcher:
    """Searches one store. ``embedding_model`` is empty for a store without vectors. For ``weight``, see `ChunkRanker`.

    ``links`` means that the store links passages that mention the same terms. ``condition`` returns the filter bound
    to a caller's key; files that do not meet it are treated as nonexistent before anything is ranked.

    ``hidden`` is the review state of the files that searches leave out, or ``None`` if no change of the store is under
    review. ``only`` limits the search to these files.
    """

    def __init__(
        self,
        store_id: str,
        name: str,
        embedding_model: str,
        *,
        weight: float | None = None,
        links: bool = False,
        hidden: Review | None = None,
        only: Collection[str] | None = None,
        condition: Condition,
        indexes: IndexManager,
        database: Database,
        registry: Registry,
        reranker: DefaultReranker,
    ) -> None:
        self._store_id = store_id
        self._reranker = reranker
        self._links = links
        self._is_partial = hidden is not None or only is not None
        self._hidden: Review = hidden or "new"
        self._only = only
        self._name = name
        self._model = embedding_model
        self._weight = weight
        self._condition = condition
        self._indexes = indexes
        self._database = database
        self._registry = registry

    async def search(
        self, request: Search, context: Context, fresh_row: StoreRow | None = None
    ) -> SearchResult:
        """Return the best passages for ``request``, with scores in [0, 1]. ``fresh_row`` is the store, if the caller
        has read it for this search.

        Scores are comparable only within one result: the best chunk of each side scores 1, see `fuse_weighted`. With
        the ranker ``vector``, scores are cosines; with a reranker, they are the reranker's scores. Raises
        `InvalidRequest`, and `Unavailable` while an index is being built.
        """
        _check(request)
        if request.links and not self._links:
            raise InvalidRequest(
                f"The store '{self._name}' has no links between its passages. Enable them with 'links': true "
                f"of the store (portico stores change {self._name} --links), or omit 'links' from the search.",
                code="links_off",
                param="links",
            )
        if request.refine.reranker == AUTO_RERANKER and not self._reranks(request):
            request = replace(request, refine=replace(request.refine, reranker=""))
        # JSON can represent lone surrogates, but UTF-8 cannot, so the embedding model would reject them.
        request = replace(request, query=request.query.encode(errors="replace").decode())
        trace = SearchTrace()
        group_rows = await self._groups(request)
        condition = self._condition(context.caller)
        rows, files = await self._filter(request, condition, trace)
        passages: tuple[Passage, ...] = ()
        queries: Sequence[str] = ()
        if files is None or files:
            queries = await self._questions(request, context, trace)
            fewer = await self._inferred(request, rows, files, trace)
            if fewer:
                passages = await self._best(
                    request, queries, group_rows, fewer, condition, context, trace, fresh_row
                )
                if not passages:
                    trace.add(
                        "infer", time.perf_counter(), note="no results: searched without the inferred filter"
                    )
            if not passages:
                passages = await self._best(
                    request, queries, group_rows, files, condition, context, trace, fresh_row
                )
        names: tuple[tuple[str, ...], ...] = ()
        if request.names and (request.steps is not None or self._follows_links(request)):
            names = await pools.SEARCH.run(_names, [passage.text for passage in passages])
        return SearchResult(
            passages, tuple(trace.stages) if request.trace else (), tuple(queries), names=names
        )

    async def _best(
        self,
        request: Search,
        queries: Sequence[str],
        group_rows: Mapping[str, GroupRow],
        files: list[str] | None,
        condition: Filter | None,
        context: Context,
        trace: SearchTrace,
        fresh_row: StoreRow | None,
    ) -> tuple[Passage, ...]:
        """Return the best passages, ranked and refined. With ``files``, only passages of these files are considered."""
        ranking = await self._rank(request, queries, group_rows, files, context, trace, fresh_row)
        if request.refine == Refine() and len(request.groups) < 2:
            return await self._read(request, ranking, condition, trace)
        refiner = Refiner(
            self._store_id,
            {DEFAULT_GROUP: "", **{row.name: row.parent for row in group_rows.values()}},
            database=self._database,
            registry=self._registry,
            reranker=self._reranker,
        )
        search_candidates = await refiner.refine(request, ranking, context, trace)
        rows = [(item.score, item.row) for item in search_candidates if _permits(condition, item.row)]
        return tuple(self._passage(i, score, row) for i, (score, row) in enumerate(rows, 1))

    async def _groups(self, request: Search) -> Mapping[str, GroupRow]:
        """Return the store's groups other than the default, by name, if the request needs them."""
        if not request.groups and not request.refine.parents:
            return {}
        group_rows = {row.name: row for row in await self._database.read(groups.of_store, self._store_id)}
        group_fields = {"groups": request.groups, "parents": (request.refine.parents.strip("*"),)}
        for param, names in group_fields.items():
            for name in names:
                if name and name != DEFAULT_GROUP and name not in group_rows:
                    raise NotFound(
                        f"The store '{self._name}' has no group '{name[:64]}'.{nearest(name, group_rows)} "
                        f"Available groups: {', '.join((DEFAULT_GROUP, *group_rows))}.",
                        code="group_not_found",
                        param=param,
                    )
        return group_rows

    async def _filter(
        self, request: Search, condition: Filter | None, trace: SearchTrace
    ) -> tuple[_FileAttributes | None, list[str] | None]:
        """Return the files that the caller may read, and those of them that meet the filter of the request. ``None``
        means all files.
        """
        if request.filters is None and condition is None and not self._is_partial:
            return None, None
        start_time = time.perf_counter()
        labels = await self._database.read(hits.labels, self._store_id, self._hidden)
        if self._only is not None:
            labels = [item for item in labels if item[0] in self._only]
        parts = sum(
            sum(1 for _ in filters.comparisons(condition_filter))
            for condition_filter in (condition, request.filters)
            if condition_filter
        )
        # evaluating the filter takes too long to block other requests
        if len(labels) * parts > MIN_OFFLOADED_COMPARISONS:
            rows, files = await pools.SEARCH.run(_filter_files, labels, condition, request.filters)
        else:
            rows, files = _filter_files(labels, condition, request.filters)
        trace.add("filter", start_time, note=f"{len(files)} files meet the filter")
        return rows, files

    async def _inferred(
        self, request: Search, rows: _FileAttributes | None, files: list[str] | None, trace: SearchTrace
    ) -> list[str] | None:
        """Return the files that meet the conditions expressed in the question. ``files`` are considered, or all files
        if ``None``.

        Returns ``None`` if the question contains no conditions, or if all files or no files meet them.
        """
        if not request.infer_filters:
            return None
        start_time = time.perf_counter()
        if rows is None:
            known_attributes: Sequence[Attributes] = await hits.distinct_attributes(
                self._database, self._store_id
            )
        else:  # conditions are inferred only from files that the caller may read
            known_attributes = list({id(attributes): attributes for _, attributes in rows}.values())[
                : hits.MAX_DISTINCT
            ]
        filtered_keys = (
            [part.key or "" for part in filters.comparisons(request.filters)] if request.filters else []
        )
        inferred_filters = await pools.SEARCH.run(infer, request.query, known_attributes, filtered_keys)
        if not inferred_filters:
            return None
        if rows is None:
            labels = await self._database.read(hits.labels, self._store_id)
            rows = [(file, item.attributes) for file, item in labels]
        fewer = await pools.SEARCH.run(
            _relax, inferred_filters, rows, None if files is None else frozenset(files)
        )
        words = " and ".join(map(filters.in_words, inferred_filters))
        note = f"{words}: {len(fewer)} files" if fewer else f"{words}: no file matches, searched without it"
        trace.add("infer", start_time, note=note)
        return fewer if len(fewer) < len(rows if files is None else files) else None

    async def _questions(self, request: Search, context: Context, trace: SearchTrace) -> Sequence[str]:
        if not request.refine.rewrite:
            return [request.query]
        start_time = time.perf_counter()
        search_queries = await rewrite_question(request.query, request.refine, context)
        trace.add(request.refine.rewrite, start_time, note=search_queries.note)
        return search_queries.queries

    async def _rank(
        self,
        request: Search,
        queries: Sequence[str],
        group_rows: Mapping[str, GroupRow],
        files: list[str] | None,
        context: Context,
        trace: SearchTrace,
        fresh_row: StoreRow | None,
    ) -> Ranking:
        """Return the candidates of all groups for all queries. Each chunk has its best score."""
        last_change = None if fresh_row is None else fresh_row.last_change
        group_names = list(dict.fromkeys(request.groups)) or [DEFAULT_GROUP]
        rankings: list[Ranking] = []
        for group in group_names:
            model = group_rows[group].model(self._model) if group != DEFAULT_GROUP else self._model
            ranker = ChunkRanker(
                self._store_id,
                self._name,
                model,
                group=group,
                weight=self._weight if model == self._model else None,
                engine=None if fresh_row is None else fresh_row.index,
                indexes=self._indexes,
                database=self._database,
                registry=self._registry,
            )
            for number, query in enumerate(queries):
                part = ", ".join(
                    word
                    for word in (
                        group if group != DEFAULT_GROUP else "",
                        f"question {number + 1}" if number else "",
                    )
                    if word
                )
                sub_request = replace(request, query=query)
                ranking = await ranker.rank(sub_request, files, context, trace.of(part), last_change)
                if group == DEFAULT_GROUP:
                    scored_chunks = ranking
                    if self._follows_links(request):
                        ranking = await self._follow(query, ranking, ranker, files, trace.of(part))
                    if request.steps is not None and number == 0:
                        further = await self._continue(
                            request, request.steps, ranker, scored_chunks, files, context, trace
                        )
                        ranking = further or ranking
                rankings.append(ranking)
        if len(rankings) == 1:
            return rankings[0]
        start_time = time.perf_counter()
        together = fuse_best(rankings)[:MAX_CANDIDATES]
        trace.add("together", start_time, together, f"{len(group_names)} groups, {len(queries)} questions")
        return together

    def _reranks(self, request: Search) -> bool:
        """Return whether a search that leaves the choice to the daemon is reranked.

        Passages on a chain of links or steps are not: most of them do not answer the question by themselves.
        """
        return (
            request.steps is None and not self._follows_links(request) and self._reranker.choose() is not None
        )

    def _follows_links(self, request: Search) -> bool:
        """Return whether a search follows links: as the request says; by default, if the store has links and the
        ranker is neither ``lexical`` nor ``vector``.
        """
        if request.links is None:
            return self._links and request.ranker not in ("lexical", "vector")
        return request.links

    async def _follow(
        self, query: str, ranking: Ranking, ranker: ChunkRanker, files: list[str] | None, trace: SearchTrace
    ) -> Ranking:
        """Return the candidates, with passages added that are linked to the names in the question. Only passages of
        ``files`` are added.
        """
        start_time = time.perf_counter()
        followed_chunks, note = await ranker.follow_links(query, ranking, files)
        trace.add("links", start_time, followed_chunks[:MAX_CANDIDATES], note)
        return followed_chunks[:MAX_CANDIDATES]

    async def _continue(
        self,
        request: Search,
        steps: Steps,
        ranker: ChunkRanker,
        ranking: Ranking,
        files: list[str] | None,
        context: Context,
        trace: SearchTrace,
    ) -> Ranking | None:
        """Return the candidates, with those of further searches in the same files added; see `search_further`."""

        async def by_words(texts: Sequence[str], limit: int) -> list[Ranking]:
            return await ranker.by_words(texts, limit, files, context)

        async def by_question(query: str, part: SearchTrace) -> Ranking:
            return await ranker.rank(replace(request, query=query), files, context, part)

        async def texts(chunks: Sequence[int]) -> dict[int, str]:
            rows = await self._database.read(hits.get, self._store_id, chunks)
            return {chunk: row.text for chunk, row in rows.items()}

        search = StepSearch(by_words, by_question, texts)
        scored_chunks = await search_further(request.query, steps, ranking, search, context, trace)
        return scored_chunks[:MAX_CANDIDATES] if scored_chunks is not None else None

    async def _read(
        self, request: Search, ranking: Ranking, condition: Filter | None, trace: SearchTrace
    ) -> tuple[Passage, ...]:
        """Return the passages of the best chunks. A passage is left out if a better passage has the same text.

        With the ranker ``auto``, passages of changelogs come after the others among the `MAX_RESULTS` best chunks,
        unless the question asks about changes.
        """
        start_time = time.perf_counter()
        best: list[tuple[float, HitRow]] = []
        from_changelogs: list[tuple[float, HitRow]] = []
        seen_texts: set[str] = set()
        mixes = request.ranker != "auto" or asks_about_changes(request.query)
        good = [item for item in ranking if item[1] >= request.score_threshold]
        # Reads a few more chunks than requested, because some may be duplicates or already deleted.
        step = request.max_num_results + EXTRA_CHUNK_COUNT
        for i in range(0, len(good), step):
            part = good[i : i + step]
            chunk_ids = [chunk for chunk, _ in part]
            rows = await hits.fetch(self._database, self._store_id, chunk_ids, self._hidden)
            for chunk, score in part:
                row = rows.get(chunk)
                if row is None or not _permits(condition, row) or row.text in seen_texts:
                    continue
                seen_texts.add(row.text)
                (best if mixes or not is_changelog(row.filename) else from_changelogs).append((score, row))
            if len(best) >= request.max_num_results or (
                i + step >= MAX_RESULTS and len(best) + len(from_changelogs) >= request.max_num_results
            ):
                break
        lowest_score = min((score for score, _ in best[-1:]), default=1.0)
        best += [(min(score, lowest_score), row) for score, row in from_changelogs]
        scored_rows = best[: request.max_num_results]
        trace.add("read", start_time, note=f"{len(scored_rows)} passages")
        return tuple(self._passage(rank, score, row) for rank, (score, row) in enumerate(scored_rows, 1))

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


def _filter_files(
    labels: Sequence[tuple[str, FileLabels]], condition: Filter | None, wanted_filter: Filter | None
) -> tuple[_FileAttributes, list[str]]:
    """Return the files that meet ``condition``, and those of them that also meet ``wanted_filter``.

    ``wanted_filter`` is checked only against files that meet ``condition``.
    """
    if condition is not None:
        labels = filters.permitted(condition, labels)
    rows = [(file, item.attributes) for file, item in labels]
    return rows, [file for file, _ in rows] if wanted_filter is None else filters.select(wanted_filter, rows)


def _relax(conditions: Sequence[Filter], rows: _FileAttributes, files: frozenset[str] | None) -> list[str]:
    return [
        file
        for file, attributes in rows
        if (files is None or file in files) and leaves(conditions, attributes)
    ]


def _names(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names_in(text)) for text in texts)


def _permits(condition: Filter | None, row: HitRow) -> bool:
    """Return whether the caller may read a chunk. The labels of its file may have changed since the chunk was
    ranked.
    """
    return condition is None or filters.permits(condition, row)


def _check(request: Search) -> None:
    if not request.query.strip():
        raise InvalidRequest("The query is empty; enter what to search for.", param="query")
    if len(request.query) > MAX_QUERY_CHARS:
        raise InvalidRequest(
            f"The query has {len(request.query):,} characters; the maximum is {MAX_QUERY_CHARS:,}.",
            code="string_above_max_length",
            param="query",
        )
    refine = request.refine
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("max_num_results", request.max_num_results, 1, MAX_RESULTS),
        ("score_threshold", request.score_threshold, 0, 1),
        ("near_duplicates", refine.near_duplicates, 0, 1),
        ("diversity", refine.diversity, 0, 1),
        ("neighbours", refine.neighbours, 0, MAX_NEIGHBOURS),
        ("vector_weight", 0.0 if request.vector_weight is None else request.vector_weight, 0, 1),
        ("half_life_days", refine.half_life_days, 0, 1e6),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise InvalidRequest(f"{name} is {value:g}, but must be from {low:g} to {high:g}.", param=name)
    if request.steps is not None:
        check_steps(request.steps)
