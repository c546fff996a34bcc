"""Downloads of model files in durable runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.principal import Principal
from portico_server.models.deployments import Deployments
from portico_server.models.sources import ModelFetcher, ModelSource, parse_source, require_file
from portico_server.models.sources.receipt import DownloadReceipt
from portico_server.runs.scheduler import Scheduler

MAX_PROGRESS_EVENTS = 100
"""Approximate maximum number of progress events per download."""


class ModelDownloads:
    """Downloads model files in runs of the kind ``pull``, two at a time."""

    def __init__(self, fetcher: ModelFetcher, scheduler: Scheduler, deployments: Deployments) -> None:
        self._fetcher = fetcher
        self._deployments = deployments
        self._scheduler = scheduler
        scheduler.handle("pull", self._pull, concurrency=2)

    async def pull(self, source: str, caller: Principal) -> str:
        """Download a source, or the source of a deployment, in a durable run.

        Return the id of the run. If the source is already being downloaded, return the id of that run. Raises
        `InvalidRequest`.
        """
        deployment = self._deployments.find(source)
        if deployment is not None:
            source = deployment.spec.source
        await pools.MODELS.run(require_file, source)
        parse_source(source)
        return await self._scheduler.ensure("pull", source, {"source": source}, caller=caller)

    def missing(self, name: str) -> str | None:
        """Return the source of a model whose files must still be downloaded, or ``None`` if they exist or are not
        needed.
        """
        deployment = self._deployments.find(name)
        if deployment is None:
            return None
        source = parse_source(deployment.spec.source)
        return str(source) if source.fetchable and self._fetcher.find_cached(source) is None else None

    def receipt(self, source: ModelSource) -> DownloadReceipt | None:
        """Return the receipt of a downloaded source, or ``None``. Blocks."""
        return self._fetcher.receipt(source)

    async def bucket_problem(self) -> PorticoError | None:
        """Return the error of the bucket with model files if a bucket is configured and does not respond, otherwise
        ``None``.
        """
        return await self._fetcher.problem()

    async def _pull(self, payload: Mapping[str, Any], context: Context) -> Any:
        source = parse_source(payload["source"])
        if not source.fetchable:
            return {"source": str(source), "path": None}
        reported_share = -1.0

        async def report(done_bytes: int, total: int | None) -> None:
            nonlocal reported_share
            share = done_bytes / total if total else done_bytes / 1e8
            if share - reported_share >= 1 / MAX_PROGRESS_EVENTS or done_bytes == total:
                reported_share = share
                await context.emit(Progressed("download", str(source), done_bytes, total, "bytes"))

        path = await self._fetcher.fetch(source, report)
        return {"source": str(source), "path": str(path)}
