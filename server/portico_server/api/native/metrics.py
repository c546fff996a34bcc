"""``GET /metrics`` for Prometheus.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from starlette.responses import Response

from portico_server import __version__
from portico_server.api.depends import TheParts
from portico_server.api.native.rights import Admin
from portico_server.api.parts import Parts
from portico_server.engines.residency import resident
from portico_server.runs.tally import BOUNDS, Histogram

router = APIRouter(tags=["Daemon"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus_metrics(parts: TheParts, _caller: Admin) -> Response:
    """Calls, tokens, times, models and memory, as Prometheus reads them."""
    page = _Page()
    _daemon(page, parts)
    _calls(page, parts)
    await _models(page, parts)
    return Response(page.text(), media_type=MEDIA_TYPE)


class _Page:
    """Metrics in order: each with its description, then its samples."""

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
        for labels, found in samples:
            below = 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), found.buckets, strict=True):
                below += count
                self._sample(f"{name}_bucket", {**labels, "le": bound}, below)
            self._sample(f"{name}_sum", labels, found.sum)
            self._sample(f"{name}_count", labels, below)

    def _head(self, name: str, kind: str, doc: str) -> None:
        self._lines += [f"# HELP {name} {doc}", f"# TYPE {name} {kind}"]

    def _sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        written = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        self._lines.append(f"{name}{{{written}}} {value:.10g}" if written else f"{name} {value:.10g}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _daemon(page: _Page, parts: Parts) -> None:
    page.metric("portico_info", "gauge", "The version of the daemon.", [({"version": __version__}, 1)])
    page.metric("portico_start_time_seconds", "gauge", "When the daemon started.", [({}, parts.started_at)])
    page.metric("portico_runs_active", "gauge", "Calls and jobs in progress.", [({}, parts.runner.active)])


def _calls(page: _Page, parts: Parts) -> None:
    found = [
        ({"name": name, "operation": operation}, series) for name, operation, series in parts.runner.tally
    ]
    page.metric(
        "portico_calls_total",
        "counter",
        "Calls that have ended.",
        [
            ({**labels, "status": status}, count)
            for labels, series in found
            for status, count in sorted(series.statuses.items())
        ],
    )
    page.metric(
        "portico_tokens_total",
        "counter",
        "Tokens; cached ones are part of the prompt.",
        [
            ({**labels, "kind": kind}, count)
            for labels, series in found
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
        "US dollars for calls of models whose price is known.",
        [(labels, series.cost) for labels, series in found if series.cost],
    )
    page.histogram(
        "portico_call_seconds", "Duration of calls.", [(labels, series.duration) for labels, series in found]
    )
    page.histogram(
        "portico_first_byte_seconds",
        "Time to the first byte of an answer, or to its first token in a stream.",
        [(labels, series.first_byte) for labels, series in found if series.first_byte.count],
    )


async def _models(page: _Page, parts: Parts) -> None:
    infos = [({"model": info.name, "engine": info.engine}, info) for info in parts.models.list()]
    residency = parts.models.residency
    budget = await residency.budget()
    page.metric(
        "portico_model_loaded", "gauge", "Whether a model is loaded.",
        [(labels, info.state == "ready") for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_model_calls", "gauge", "Calls that wait for a model or are being answered.",
        [(labels, info.calls) for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_model_starts_total", "counter", "How often a model's process was started.",
        [(labels, info.starts) for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_model_crashes_total", "counter", "How often a model's process ended by itself.",
        [(labels, info.crashes) for labels, info in infos],
    )  # fmt: skip
    page.metric(
        "portico_evictions_total", "counter", "How often a model left memory for another.",
        [({}, residency.evictions)],
    )  # fmt: skip
    page.metric(
        "portico_memory_budget_bytes", "gauge", "Memory that all local models may hold together.",
        [({}, budget.limit or 0)],
    )  # fmt: skip
    processes = [({"process": "daemon"}, resident(os.getpid()) or 0)]
    processes += [({"process": info.name}, info.memory_bytes) for _, info in infos if info.memory_bytes]
    page.metric("portico_process_memory_bytes", "gauge", "Resident memory by process.", processes)
