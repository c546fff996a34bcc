"""Searches several stores with one question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from portico.schemas.search import TraceStage
from portico.wire import Passage
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.name_words import name_in_words
from portico_server.core.principal import Principal
from portico_server.core.request import AUTO_RERANKER, Search, SearchResult
from portico_server.db.stores import StoreRow
from portico_server.features.stores.store_routing import choose_stores
from portico_server.runs.runner import Runner

MAX_STORES = 16
"""Maximum number of stores that one search may include."""

MAX_WEIGHED_PASSAGES = 3
"""Number of first passages by which a store is weighted."""

MIN_STORE_WEIGHT = 0.1
"""Minimum weight of a store whose first passages contain no word of the question, because they may be in another
language.
"""


async def search_stores(
    stores: Sequence[StoreRow], request: Search, runner: Runner, caller: Principal, *, is_routed: bool = False
) -> SearchResult:
    """Return the best passages of all ``stores``, ranked together. ``caller`` must be allowed to read the stores.

    With ``is_routed``, the chat model ``request.refine.writer`` first chooses the stores for the question.

    Scores are comparable only within one store: even if a store contains no answer, its best score is high. The scores
    of each store are therefore scaled by the share of the question's words that its first passages and their file
    names contain. Cosines and the scores of a reranker are already comparable and not scaled.
    """
    if not 1 <= len(stores) <= MAX_STORES:
        raise InvalidRequest(f"Name 1 to {MAX_STORES} stores, not {len(stores)}.", param="stores")

    async def work(context: Context) -> SearchResult:
        store_rows, stages = stores, []
        if is_routed and len(stores) > 1:
            start_time = time.perf_counter()
            store_descriptions = [(store.name or store.id, store.description) for store in stores]
            numbers, note = await choose_stores(
                request.query, store_descriptions, request.refine.writer, context
            )
            store_rows = [stores[number] for number in numbers]
            stages = [TraceStage("route", (time.perf_counter() - start_time) * 1e3, (), note)]
        labels = {f"store/{store.id}": store.name or store.id for store in store_rows}
        found_search_result = await search_together(labels, request, context)
        return (
            replace(found_search_result, trace=(*stages, *found_search_result.trace))
            if request.trace
            else found_search_result
        )

    names = ", ".join(store.name or store.id for store in stores)
    search_result: SearchResult = await runner.wait(await runner.begin("search", names, caller, work))
    return search_result


async def search_together(stores: Mapping[str, str], request: Search, context: Context) -> SearchResult:
    """Return the best passages of all stores, ranked together as `search_stores` describes.

    ``stores`` maps the key of each store in the registry to its label in a trace.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            searches = [
                tasks.create_task(_search_one(key, label, request, context)) for key, label in stores.items()
            ]
    except BaseExceptionGroup as errors:  # the first error cancelled the other searches
        raise errors.exceptions[0] from errors
    return await _combine([task.result() for task in searches], request)


async def _search_one(key: str, label: str, request: Search, context: Context) -> SearchResult:
    search_result = await context.call(key, request, listener=context.emit)
    assert isinstance(search_result, SearchResult)
    trace = tuple(replace(stage, name=f"{label}: {stage.name}") for stage in search_result.trace)
    return replace(search_result, trace=trace)


async def _combine(search_results: Sequence[SearchResult], request: Search) -> SearchResult:
    start_time = time.perf_counter()
    weights = [1.0] * len(search_results)
    if (
        request.ranker != "vector"
        and request.refine.reranker in ("", AUTO_RERANKER)
        and len(search_results) > 1
    ):
        firsts = [
            [
                f"{name_in_words(passage.filename)} {passage.text}"
                for passage in search_result.passages[:MAX_WEIGHED_PASSAGES]
            ]
            for search_result in search_results
        ]
        weights = await pools.SEARCH.run(_weigh_stores, request.query, firsts)
    passages = [
        replace(passage, score=round(passage.score * weight, 6))
        for search_result, weight in zip(search_results, weights, strict=True)
        for passage in search_result.passages
    ]
    best: dict[str, Passage] = {}
    for passage in sorted(passages, key=lambda item: -item.score):
        best.setdefault(passage.text, passage)
    top_passages = list(best.values())[: request.max_num_results]
    trace: list[TraceStage] = [stage for search_result in search_results for stage in search_result.trace]
    if request.trace:
        note = ", ".join(f"{weight:.2f}" for weight in weights)
        trace.append(TraceStage("stores", (time.perf_counter() - start_time) * 1e3, (), f"weights {note}"))
    queries = dict.fromkeys(query for search_result in search_results for query in search_result.queries)
    ranked_passages = tuple(replace(item, rank=rank) for rank, item in enumerate(top_passages, 1))
    return SearchResult(ranked_passages, tuple(trace), tuple(queries))


def _weigh_stores(query: str, stores: Sequence[Sequence[str]]) -> list[float]:
    # The analyser is imported with the first search, not at the start of the daemon.
    from portico_server.features.readers.analyse import analyse, analyse_question

    query_words = set(analyse_question(query).words)
    if not query_words:
        return [1.0] * len(stores)
    weights = []
    for texts in stores:
        matched_words = query_words & {word for text in texts for word in analyse(text).words}
        weights.append(MIN_STORE_WEIGHT + (1 - MIN_STORE_WEIGHT) * len(matched_words) / len(query_words))
    return weights
