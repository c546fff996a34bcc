"""``GET /metrics`` for Prometheus.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

from starlette.responses import Response

from portico_server import __version__
from portico_server.api.declarations import TEXT
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.api.services import ApiServices
from portico_server.core.histogram import Histogram
from portico_server.db import runs
from portico_server.models.memory import resident_bytes

router = new_router(tags=["Daemon"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": TEXT}}}}
)
async def prometheus_metrics(services: TheServices, _caller: Admin) -> Response:
    """Return metrics of calls, tokens, durations, models and memory in Prometheus format."""
    page = _Page()
    _daemon(page, services)
    _calls(page, services)
    _answers(page, services)
    _database(page, services)
    await _queues(page, services)
    await _models(page, services)
    return Response(page.text(), media_type=MEDIA_TYPE)


class _Page:
    """A page of metrics in order: each metric's description is followed by its samples."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def metric(
        self, name: str, kind: str, doc: str, samples: Iterable[tuple[Mapping[str, str], float]]
    ) -> None:
        self._head(name, kind, doc)
        for labels, value in samples:
            self._sample(name, labels, value)

    def histogram(self, name: str, doc: str, samples: Iterable[tuple[Mapping[str, str], Histogram]]) -> None:
        self._head(name, "histogram", doc)
        for labels, histogram in samples:
            below = 0
            for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.buckets, strict=True):
                below += count
                self._sample(f"{name}_bucket", {**labels, "le": bound}, below)
            self._sample(f"{name}_sum", labels, histogram.sum)
            self._sample(f"{name}_count", labels, below)

    def _head(self, name: str, kind: str, doc: str) -> None:
        self._lines += [f"# HELP {name} {doc}", f"# TYPE {name} {kind}"]

    def _sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        label_text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        self._lines.append(f"{name}{{{label_text}}} {value:.10g}" if label_text else f"{name} {value:.10g}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _daemon(page: _Page, services: ApiServices) -> None:
    page.metric("portico_info", "gauge", "The version of the daemon.", [({"version": __version__}, 1)])
    page.metric(
        "portico_start_time_seconds", "gauge", "When the daemon started.", [({}, services.started_at)]
    )
    page.metric(
        "portico_runs_active",
        "gauge",
        "Number of calls and jobs in progress.",
        [({}, services.runner.active)],
    )


def _calls(page: _Page, services: ApiServices) -> None:
    series_rows = [
        ({"name": name, "operation": operation}, series) for name, operation, series in services.runner.tally
    ]
    page.metric(
        "portico_calls_total",
        "counter",
        "Number of finished calls.",
        [
            ({**labels, "status": status}, count)
            for labels, series in series_rows
            for status, count in sorted(series.statuses.items())
        ],
    )
    page.metric(
        "portico_tokens_total",
        "counter",
        "Number of tokens; cached tokens are part of the prompt.",
        [
            ({**labels, "kind": kind}, count)
            for labels, series in series_rows
            for kind, count in (
                ("prompt", series.prompt_tokens),
                ("completion", series.completion_tokens),
                ("cached", series.cached_tokens),
            )
            if count
        ],
    )
    page.metric(
        "portico_cost_dollars_total",
        "counter",
        "Cost in US dollars of calls to models with a known price.",
        [(labels, series.cost) for labels, series in series_rows if series.cost],
    )
    page.histogram(
        "portico_call_seconds",
        "Duration of calls.",
        [(labels, series.duration) for labels, series in series_rows],
    )
    page.histogram(
        "portico_first_byte_seconds",
        "Time to the first byte of an answer, or to its first token in a stream.",
        [(labels, series.first_byte) for labels, series in series_rows if series.first_byte.count],
    )


def _answers(page: _Page, services: ApiServices) -> None:
    signals = services.runner.signals
    page.metric(
        "portico_http_requests_total",
        "counter",
        "Number of requests by method, route and response status; status 0: the client left before the "
        "response.",
        [
            ({"method": method, "route": route, "status": str(status)}, count)
            for (method, route, status), count in sorted(signals.answers.items())
        ],
    )
    page.histogram(
        "portico_http_request_seconds",
        "Time from a request to the end of its response, including streams.",
        [({"route": route}, histogram) for route, histogram in sorted(signals.durations.items())],
    )
    page.histogram(
        "portico_event_loop_lag_seconds",
        "Lag of the event loop, sampled four times a second.",
        [({}, signals.lag)],
    )
    page.metric(
        "portico_event_loop_lag_max_seconds",
        "gauge",
        "The longest lag since these metrics were last read.",
        [({}, signals.take_worst())],
    )


def _database(page: _Page, services: ApiServices) -> None:
    load = [({"operation": name}, timings) for name, timings in services.database.load().items()]
    page.histogram(
        "portico_database_seconds",
        "Duration of transactions.",
        [(labels, timings.took) for labels, timings in load],
    )
    page.histogram(
        "portico_database_wait_seconds",
        "Time that transactions waited for a thread and its database connection.",
        [(labels, timings.waited) for labels, timings in load],
    )
    page.metric(
        "portico_database_waiting",
        "gauge",
        "Number of transactions waiting for a connection from their pool.",
        [(labels, timings.waiting) for labels, timings in load],
    )
    page.metric(
        "portico_database_running",
        "gauge",
        "Number of transactions in progress or waiting.",
        [(labels, timings.running) for labels, timings in load],
    )


async def _queues(page: _Page, services: ApiServices) -> None:
    pending = await services.database.read(runs.pending)
    now = time.time()
    page.metric(
        "portico_run_queue",
        "gauge",
        "Number of unfinished durable runs of all daemons on this database.",
        [({"kind": kind, "status": status}, count) for kind, status, count, _ in pending],
    )
    page.metric(
        "portico_run_queue_oldest_seconds",
        "gauge",
        "Age of the oldest queued run.",
        [
            ({"kind": kind}, max(0.0, now - oldest))
            for kind, status, _, oldest in pending
            if status == "queued"
        ],
    )
    ingest = services.stores.ingest
    page.metric(
        "portico_ingest_files_total",
        "counter",
        "Number of store files that were indexed, or failed.",
        [({"status": status}, ingest.ended[status]) for status in ("completed", "failed")],
    )
    page.histogram("portico_ingest_seconds", "Time to index a file.", [({}, ingest.seconds)])
    page.metric(
        "portico_ingest_waiting_files",
        "gauge",
        "Number of store files waiting to be indexed.",
        [({}, await services.stores.count_waiting())],
    )


async def _models(page: _Page, services: ApiServices) -> None:
    infos = [({"model": info.name, "engine": info.engine}, info) for info in services.models.list()]
    residency = services.models.residency
    budget = await residency.budget()
    page.metric(
        "portico_model_loaded", "gauge", "Whether a model is loaded.",
        [(labels, info.state == "ready") for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_model_calls", "gauge", "Number of calls in progress or waiting for a model.",
        [(labels, info.calls) for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_model_starts_total", "counter", "Number of times a model's process was started.",
        [(labels, info.starts) for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_model_crashes_total", "counter", "Number of times a model's process ended unexpectedly.",
        [(labels, info.crashes) for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_evictions_total", "counter", "Number of models evicted from memory to make room for another model.",
        [({}, residency.evictions)],
    )  # fmt: skip
    page.metric(
        "portico_memory_budget_bytes", "gauge", "Total memory that local models may use.",
        [({}, budget.limit or 0)],
    )  # fmt: skip
    processes = [({"process": "daemon"}, resident_bytes(os.getpid()) or 0)]
    processes += [({"process": info.name}, info.memory_bytes) for _, info in infos if info.memory_bytes]
    page.metric("portico_process_memory_bytes", "gauge", "Resident memory by process.", processes)
    page.metric(
        "portico_process_gpu_memory_bytes", "gauge", "Memory on each GPU by process, as reported by the driver.",
        [({"process": name, "gpu": str(number)}, size) for name, number, size in await residency.gpu_memory()],
    )  # fmt: skip
