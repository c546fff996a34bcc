"""Records the stages of a search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import field

from portico.schemas.search import TraceStage
from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class SearchTrace:
    """The stages of a search in the order in which they ended. ``part`` is the group or the question that the stages
    belong to, if any.
    """

    stages: list[TraceStage] = field(default_factory=list)
    part: str = ""

    def of(self, part: str) -> SearchTrace:
        """Return a view of the same trace that records stages of one ``part``."""
        return SearchTrace(self.stages, part)

    def add(
        self,
        name: str,
        start_time: float,
        candidates: Sequence[tuple[int, float]] = (),
        note: str = "",
        *,
        end_time: float | None = None,
    ) -> None:
        """Record a stage that lasted from ``start_time`` to ``end_time`` (by default now), on the clock of
        `time.perf_counter`.
        """
        name = f"{name} ({self.part})" if self.part else name
        seconds = (time.perf_counter() if end_time is None else end_time) - start_time
        self.stages.append(TraceStage(name, seconds * 1e3, tuple(candidates), note))
