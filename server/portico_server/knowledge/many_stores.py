"""One question to several stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from portico.schemas.search import TraceStage
from portico.wire import Passage
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.name_words import name_in_words
from portico_server.core.principal import Principal
from portico_server.core.request import Search, SearchResult
from portico_server.db.stores import StoreRow
from portico_server.knowledge.store_routing import choose_stores
from portico_server.runs.runner import Runner

MAX_STORES = 16
"""Stores that one question may go to."""

MAX_WEIGHED_PASSAGES = 3
"""Passages of a store by which it is judged."""

MIN_STORE_WEIGHT = 0.1
"""What a store's scores count whose passages hold no word of the question: they may be in another language."""


async def search_stores(
    stores: Sequence[StoreRow], request: Search, runner: Runner, caller: Principal, *, routed: bool = False
) -> SearchResult:
    """The best passages of all ``stores``, which ``caller`` may read, ranked together.

    ``routed``: a chat model, the ``writer`` of ``request``, first says which of them the question is for.

    The scores of one store say how its passages compare with each other: the best of a store that has nothing to
    say is high too. Each store's scores are therefore scaled by the share of the question's words that its first
    passages and the names of their files hold, unless they are comparable already: cosines, and the judgement of a
    reranker.
    """
    if not 1 <= len(stores) <= MAX_STORES:
        raise InvalidRequest(f"Name 1 to {MAX_STORES} stores, not {len(stores)}.", param="stores")

    async def work(context: Context) -> SearchResult:
        chosen, stages = stores, []
        if routed and len(stores) > 1:
            started = time.perf_counter()
            known = [(store.name or store.id, store.description) for store in stores]
            numbers, note = await choose_stores(request.query, known, request.refine.writer, context)
            chosen = [stores[number] for number in numbers]
            stages = [TraceStage("route", (time.perf_counter() - started) * 1e3, (), note)]
        try:
            async with asyncio.TaskGroup() as tasks:
                sub_request = [tasks.create_task(_search_one(store, request, context)) for store in chosen]
        except BaseExceptionGroup as errors:  # the others were cancelled with the first
            raise errors.exceptions[0] from errors
        found = await _combine([task.result() for task in sub_request], request)
        return replace(found, trace=(*stages, *found.trace)) if request.trace else found

    names = ", ".join(store.name or store.id for store in stores)
    found: SearchResult = await runner.wait(runner.begin("search", names, caller, work))
    return found


async def _search_one(store: StoreRow, request: Search, context: Context) -> SearchResult:
    found = await context.call(f"store/{store.id}", request, listener=context.emit)
    assert isinstance(found, SearchResult)
    trace = tuple(replace(stage, name=f"{store.name or store.id}: {stage.name}") for stage in found.trace)
    return replace(found, trace=trace)


async def _combine(found: Sequence[SearchResult], request: Search) -> SearchResult:
    started = time.perf_counter()
    weights = [1.0] * len(found)
    if request.ranker != "vector" and not request.refine.reranker and len(found) > 1:
        firsts = [
            [
                f"{name_in_words(passage.filename)} {passage.text}"
                for passage in one.passages[:MAX_WEIGHED_PASSAGES]
            ]
            for one in found
        ]
        weights = await pools.SEARCH.run(_weigh_stores, request.query, firsts)
    passages = [
        replace(passage, score=round(passage.score * weight, 6))
        for one, weight in zip(found, weights, strict=True)
        for passage in one.passages
    ]
    best: dict[str, Passage] = {}
    for passage in sorted(passages, key=lambda item: -item.score):
        best.setdefault(passage.text, passage)
    few = list(best.values())[: request.max_num_results]
    trace: list[TraceStage] = [stage for one in found for stage in one.trace]
    if request.trace:
        note = ", ".join(f"{weight:.2f}" for weight in weights)
        trace.append(TraceStage("stores", (time.perf_counter() - started) * 1e3, (), f"weights {note}"))
    queries = dict.fromkeys(query for one in found for query in one.queries)
    ranked = tuple(replace(item, rank=rank) for rank, item in enumerate(few, 1))
    return SearchResult(ranked, tuple(trace), tuple(queries))


def _weigh_stores(query: str, stores: Sequence[Sequence[str]]) -> list[float]:
    # The analyser loads its dictionaries: here, in a worker thread, and not when the daemon starts.
    from portico_server.knowledge.analyse import analyse, analyse_question

    wanted = set(analyse_question(query).words)
    if not wanted:
        return [1.0] * len(stores)
    weights = []
    for texts in stores:
        held = wanted & {word for text in texts for word in analyse(text).words}
        weights.append(MIN_STORE_WEIGHT + (1 - MIN_STORE_WEIGHT) * len(held) / len(wanted))
    return weights
