"""Runs and their events."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.flows import TraceStep
from portico.schemas.resource import Column, Resource, Verb
from portico.wire import ErrorBody, Event, Usage


@dataclass(frozen=True, slots=True)
class Run:
    """A unit of work that the daemon executes. ``status`` is ``queued``, ``running``, ``waiting``, ``completed``,
    ``failed`` or ``cancelled``.
    """

    id: str
    kind: str
    name: str
    status: str
    created_at: float
    finished_at: float | None
    error: ErrorBody | None
    usage: Usage
    last_event: int

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of objects that were removed or, with ``dry_run``, would be removed."""

    runs: int
    questions: int
    artifacts: int
    files: int
    usage: int
    sessions: int
    responses: int
    conversations: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event and its number in the run, from 1."""

    seq: int
    event: Event


RUNS = Resource(
    "Runs",
    "/api/runs",
    "Executions: calls, ingests, downloads.",
    {"run_id": "a run"},
    (
        Verb("get", "GET {run_id}", Run),
        Verb("cancel", "POST {run_id}/cancel"),
        Verb("prune", "POST prune", Pruned, slow=True),
        Verb("trace", "GET {run_id}/trace", list[TraceStep], key="steps"),
        Verb("resume", "POST {run_id}/resume", Run, aliases={"start": "from"}),
    ),
    columns=(
        Column("ID"),
        Column("KIND"),
        Column("NAME"),
        Column("STATUS"),
        Column("BEGAN", "created_at", kind="moment"),
        Column("ERROR", "error.message"),
    ),
)
