"""Runs and their events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True)
class ReplayStep:
    """A call of a replay. ``path`` is the step of the flow, or the called name; a slash separates the calls of a
    called app.

    ``status``: ``same``; ``changed`` if the request or the result differs; ``new`` if only the replay made the call;
    ``missing`` if only the recorded run made it. ``recorded`` and ``replayed`` are the ``request``, ``result`` and
    ``error`` of the calls; null for the same call.
    """

    path: str
    name: str
    kind: str
    status: Literal["same", "changed", "new", "missing"]
    recorded: Mapping[str, Any] | None
    replayed: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded run beside its replay. ``first`` is the number of the first step that differs, from 0.

    ``is_equal``: all steps and the result are the same. ``recorded`` and ``replayed`` are the ``result`` and the
    ``error`` of the two runs.
    """

    run: str
    app: str
    is_equal: bool
    first: int | None
    steps: tuple[ReplayStep, ...]
    recorded: Mapping[str, Any]
    replayed: Mapping[str, Any]


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
        Verb("recording", "GET {run_id}/recording", dict[str, Any]),
        Verb("replay", "POST replay", Replay, slow=True),
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
