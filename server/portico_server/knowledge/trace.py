"""What a search notes of its stages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from portico_server.core.request import Stage


@dataclass(frozen=True, slots=True)
class Trace:
    """Stages in the order in which they ended. ``part`` names the group or question that they belong to, if any."""

    stages: list[Stage] = field(default_factory=list)
    part: str = ""

    def of(self, part: str) -> Trace:
        """The same trace, for the stages of one part."""
        return Trace(self.stages, part)

    def add(
        self, name: str, begun: float, candidates: Sequence[tuple[int, float]] = (), note: str = ""
    ) -> None:
        """Note a stage that began at ``begun`` on the clock of `time.perf_counter`."""
        name = f"{name} ({self.part})" if self.part else name
        self.stages.append(Stage(name, (time.perf_counter() - begun) * 1e3, tuple(candidates), note))
