"""Requests about fine-tuning, and how to read what comes back, as `portico._calls` has the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from portico import _read as read
from portico._calls.call import Call, EventCall, at, given, named
from portico._sse import ServerEvent
from portico.errors import ConnectionLost, NotPortico
from portico.tuning import TuningCheckpoint, TuningEvent, TuningJob, TuningPlan, TuningWish
from portico.values import Page

ATTEMPTS = 5
"""Connections in a row that may bring nothing new."""


def job_create(wish: TuningWish) -> Call[TuningJob]:
    return Call("POST", "/v1/fine_tuning/jobs", job, json=_body(wish))


def plan(wish: TuningWish) -> Call[TuningPlan]:
    return Call("POST", "/api/fine_tuning/plan", _plan, json=_body(wish), slow=True)


def jobs_list(after: str | None, limit: int) -> Call[Page[TuningJob]]:
    return Call("GET", "/v1/fine_tuning/jobs", read.page(job), query=given(after=after, limit=limit))


def job_get(job_id: str) -> Call[TuningJob]:
    return Call("GET", _one(job_id), job)


def job_change(job_id: str, what: str) -> Call[TuningJob]:
    return Call("POST", f"{_one(job_id)}/{what}", job)


def events_list(job_id: str, after: str | None, limit: int) -> Call[Page[TuningEvent]]:
    return Call("GET", f"{_one(job_id)}/events", read.page(_event), query=given(after=after, limit=limit))


def checkpoints_list(job_id: str, after: str | None, limit: int) -> Call[Page[TuningCheckpoint]]:
    query = given(after=after, limit=limit)
    return Call("GET", f"{_one(job_id)}/checkpoints", read.page(_checkpoint), query=query)


class Following:
    """Where a listener stands in a job's events: what to ask for next, and how long to wait after a loss."""

    def __init__(self, job_id: str, after: int = 0) -> None:
        self._job = job_id
        self._after = after
        self._lost = 0
        self.done = False

    def call(self) -> EventCall[TuningEvent | TuningJob]:
        headers = {"last-event-id": str(self._after)} if self._after else {}
        path = at("api", "fine_tuning", "jobs", named(self._job, "a fine-tuning job"), "follow")
        return EventCall("GET", path, _Reader, headers=headers)

    def saw(self, item: TuningEvent | TuningJob) -> None:
        self._lost = 0
        if isinstance(item, TuningJob):
            self.done = True
        else:
            self._after = item.number

    def pause(self, error: ConnectionLost) -> float:
        """Seconds until the next attempt; raises ``error`` when there were enough."""
        self._lost += 1
        if self._lost >= ATTEMPTS:
            raise error
        return 0.1 * 2.0**self._lost


class _Reader:
    def __init__(self) -> None:
        self.done = False

    def feed(self, item: ServerEvent) -> list[TuningEvent | TuningJob]:
        value = json.loads(item.data)
        if item.event == "job":
            self.done = True
            return [job(value)]
        return [_event(value)]


def job(value: Any) -> TuningJob:
    """A job as the daemon shows it."""
    if not isinstance(value, Mapping):
        raise NotPortico("The answer is not a fine-tuning job. Is there a Portico daemon at this URL?")
    method = value.get("method") or {}
    return read.value_of(
        TuningJob,
        value,
        method=str(method.get("type", "supervised")),
        error=str((value.get("error") or {}).get("message") or ""),
        result_files=tuple(value.get("result_files") or ()),
    )


def _event(value: Any) -> TuningEvent:
    number = str(value.get("id", "")).rpartition("-")[2] if isinstance(value, Mapping) else ""
    return read.value_of(TuningEvent, value, number=int(number) if number.isdigit() else 0)


def _checkpoint(value: Any) -> TuningCheckpoint:
    model = value.get("fine_tuned_model_checkpoint", "") if isinstance(value, Mapping) else ""
    return read.value_of(TuningCheckpoint, value, model=str(model))


def _plan(value: Any) -> TuningPlan:
    warnings = value.get("warnings") if isinstance(value, Mapping) else ()
    return read.value_of(TuningPlan, value, warnings=tuple(warnings or ()))


def _body(wish: TuningWish) -> dict[str, Any]:
    detail = given(hyperparameters=dict(wish.hyperparameters) or None, grader=wish.grader)
    return given(
        model=wish.model,
        training_file=wish.training_file,
        validation_file=wish.validation_file,
        method={"type": wish.method, wish.method: detail},
        suffix=wish.suffix or None,
        seed=wish.seed,
        metadata=dict(wish.metadata) or None,
        recipe=dict(wish.recipe) or None,
    )


def _one(job_id: str) -> str:
    return at("v1", "fine_tuning", "jobs", named(job_id, "a fine-tuning job"))
