"""Downloads of models' files, in durable runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.wire import Status
from portico_server.core.context import Context
from portico_server.core.principal import Principal
from portico_server.engines.sources import Fetcher, parse
from portico_server.runs.scheduler import Scheduler

REPORTS = 100
"""Progress events of one download, at most about this many."""


class Pulls:
    """Each is a run of the kind ``pull``; two at a time."""

    def __init__(self, fetcher: Fetcher, scheduler: Scheduler) -> None:
        self._fetcher = fetcher
        self._scheduler = scheduler
        scheduler.handle("pull", self._pull, concurrency=2)

    async def begin(self, source: str, caller: Principal) -> str:
        """Fetch a source; the run's id, of the one that is under way if there is one. Raises `InvalidRequest`."""
        parse(source)
        return await self._scheduler.ensure("pull", source, {"source": source}, caller=caller)

    async def _pull(self, payload: Mapping[str, Any], context: Context) -> Any:
        source = parse(payload["source"])
        if not source.fetchable:
            return {"source": str(source), "path": None}
        reported = -1.0

        async def report(done: int, total: int | None) -> None:
            nonlocal reported
            share = done / total if total else done / 1e8
            if share - reported >= 1 / REPORTS or done == total:
                reported = share
                await context.emit(Status("download", str(source), done, total, "bytes"))

        path = await self._fetcher.fetch(source, report)
        return {"source": str(source), "path": str(path)}
