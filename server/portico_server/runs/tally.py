"""Counts of all calls since the daemon started, for monitoring: a few additions a call, nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from portico_server.core.histogram import Histogram as Histogram
from portico_server.db.usage import UsageRow

MOST = 500
"""Names that are counted apart. Anyone may call a name that does not exist; those beyond share one."""

OTHERS = "(others)"


class Series:
    """The calls of one operation on one name."""

    __slots__ = (
        *("cached_tokens", "completion_tokens", "cost", "prompt_tokens"),
        *("duration", "first_byte", "statuses"),
    )

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.cost = 0.0
        """Dollars, as far as prices are known."""
        self.duration = Histogram()
        self.first_byte = Histogram()


class Tally:
    """All of them, by name and operation."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}

    def add(self, row: UsageRow) -> None:
        series = self._series.get((row.name, row.operation))
        if series is None:
            series = self._new(row.name, row.operation)
        series.statuses[row.status] += 1
        series.prompt_tokens += row.prompt_tokens
        series.completion_tokens += row.completion_tokens
        series.cached_tokens += row.cached_tokens
        series.cost += row.cost or 0.0
        series.duration.observe(row.milliseconds / 1e3)
        if row.first_byte_milliseconds is not None:
            series.first_byte.observe(row.first_byte_milliseconds / 1e3)

    def _new(self, name: str, operation: str) -> Series:
        if len(self._series) >= MOST:
            name = OTHERS
        return self._series.setdefault((name, operation), Series())

    def __iter__(self) -> Iterator[tuple[str, str, Series]]:
        for (name, operation), series in sorted(self._series.items()):
            yield name, operation, series
