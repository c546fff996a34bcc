"""Reranks searches that leave the choice of the reranker to the daemon, as long as this costs little time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.features.stores.reranking import rerank
from portico_server.features.stores.search_candidate import SearchCandidate

BUDGET_S = 0.5
"""Maximum time that a default reranker adds to a search, in seconds."""

MAX_WAIT_S = 10.0
"""Time limit of one call, in seconds: the first call of a model also loads the model."""

MAX_EXCESSES = 2
"""Number of consecutive calls above the budget after which the model is left out: a first call may load the model."""

REST_S = 600.0
"""Seconds for which a slow model is left out. The machine may have been busy."""


class DefaultReranker:
    """Chooses a reranker, and measures the time of its calls. ``budget_s`` is the maximum time that it may add."""

    def __init__(self, registry: Registry, budget_s: float = BUDGET_S) -> None:
        self._registry = registry
        self._budget_s = budget_s
        self._excesses: dict[str, int] = {}
        self._rest_ends: dict[str, float] = {}

    def choose(self) -> str | None:
        """Return the name of the first shared model with the capability ``rerank``, by name, if there is one."""
        names = sorted(item.card.name for item in self._registry if "rerank" in item.card.capabilities)
        return names[0] if names else None

    async def rerank(
        self, query: str, candidates: Sequence[SearchCandidate], context: Context
    ) -> tuple[Sequence[SearchCandidate], str]:
        """Return the candidates in the order of the reranker, and a note for the trace.

        The scores stay those of the ranks, because later stages compare them with the scores of other searches. If the
        reranker is too slow, fails, or the caller must not use it, the candidates keep their order.
        """
        model = self.choose()
        if model is None:
            return candidates, "no reranker"
        if time.monotonic() < self._rest_ends.get(model, 0.0):
            return candidates, f"{model} left out: it takes more than {self._budget_s:g} s"
        start_time = time.monotonic()
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                best = await rerank(query, candidates, model, self._registry, context)
        except TimeoutError:
            return candidates, f"{model} left out: no answer within {MAX_WAIT_S:g} s"
        except PorticoError as error:
            return candidates, f"{model} left out: {error.message}"
        finally:
            self._note(model, time.monotonic() - start_time)
        chunks = {item.row.id for item in best}
        order = [*best, *(item for item in candidates if item.row.id not in chunks)]
        scores = sorted((item.score for item in candidates), reverse=True)
        return [replace(item, score=score) for item, score in zip(order, scores, strict=True)], model

    def _note(self, model: str, seconds: float) -> None:
        if seconds <= self._budget_s:
            self._excesses.pop(model, None)
            return
        self._excesses[model] = self._excesses.get(model, 0) + 1
        if self._excesses[model] >= MAX_EXCESSES:
            del self._excesses[model]
            self._rest_ends[model] = time.monotonic() + REST_S
