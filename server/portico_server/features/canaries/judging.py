"""Judging of live answers: a queue between the calls and the evaluation, or the comparison with the baseline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from portico_server.core.errors import PorticoError
from portico_server.db.canaries import CanaryRow, Side, SideCounts
from portico_server.features.canaries.comparison import BaselineComparison
from portico_server.features.canaries.live_judge import FindJudge
from portico_server.features.canaries.samples import LiveSample, is_small

logger = logging.getLogger(__name__)

MAX_WAITING_SAMPLES: Final = 64
"""Maximum number of answers waiting to be judged. If more are waiting, new answers are not judged."""


class SampleJudging:
    """Judges answers in the background and passes the results to ``count``."""

    def __init__(
        self,
        find_judge: FindJudge,
        comparison: BaselineComparison,
        count: Callable[[str, Side, SideCounts], None],
    ) -> None:
        self._find_judge = find_judge
        self._comparison = comparison
        self._count = count
        self._samples: asyncio.Queue[tuple[str, Side, LiveSample]] = asyncio.Queue(MAX_WAITING_SAMPLES)

    def add(self, canary_id: str, side: Side, sample: LiveSample) -> None:
        """Queue an answer to be judged, unless it is too large or the queue is full."""
        if not self._samples.full() and is_small(sample):
            self._samples.put_nowait((canary_id, side, sample))

    async def run(self, find: Callable[[str], CanaryRow | None]) -> None:
        """Judge answers one after another, until cancelled; ``find`` returns a running canary by its id."""
        while True:
            canary_id, side, sample = await self._samples.get()
            row = find(canary_id)
            if row is None:
                continue  # the canary has ended
            try:
                if row.spec.get("eval_id") is None:
                    score = await self._comparison.compare(row, sample)
                else:
                    judge = await self._find_judge()
                    score = await judge.judge(str(row.spec["eval_id"]), row.key, sample.item, sample.sample)
            except PorticoError as error:
                logger.warning("an answer of %s could not be judged: %s", row.alias, error.message)
                self._count(canary_id, side, SideCounts(unjudged=1))
            else:
                self._count(canary_id, side, SideCounts(samples=1, score=score))
