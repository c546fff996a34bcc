"""Runs, and what they ask, keep and leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico._read import json_at
from portico.wire import ErrorBody, Event, Usage


@dataclass(frozen=True, slots=True)
class Run:
    """One execution. ``status`` is ``queued``, ``running``, ``waiting``, ``completed``, ``failed`` or ``cancelled``."""

    id: str
    kind: str
    name: str
    status: str
    created_at: float = 0
    finished_at: float | None = None
    error: ErrorBody | None = None
    usage: Usage = Usage()
    last_event: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much old age took away, or would: ended runs and their questions, artifacts, expired files, usage."""

    runs: int
    questions: int
    artifacts: int
    files: int
    usage: int
    dry_run: bool = False
    sessions: int = 0
    responses: int = 0
    conversations: int = 0


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event and its number in the run, from 1."""

    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Question:
    """What a run waits for. ``kind``: approval, function, input or chat.

    ``status``: pending, answered, expired or cancelled. ``answer_schema`` is the JSON schema of a ``value``.
    ``accepted``, ``value``, ``note`` and ``answered_by`` are the answer; ``worker`` is the client that executes a
    function. ``key`` is the same when a run that was cut off asks the same again.
    """

    id: str
    run: str
    kind: str
    name: str
    message: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    answer_schema: Mapping[str, Any] | None = None
    status: str = "pending"
    created_at: float = 0
    expires_at: float = 0
    accepted: bool | None = None
    value: Any = None
    note: str = ""
    answered_by: str = ""
    answered_at: float | None = None
    worker: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """Functions that a worker has taken; ``lost`` are ids of those it held that another one has now."""

    taken: tuple[Question, ...] = field(default=(), metadata=json_at("data"))
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run made: a figure, a table. ``run`` and ``created_at`` are told by `Artifacts` alone."""

    id: str
    name: str
    media_type: str = "application/octet-stream"
    bytes: int = 0
    link: str = ""
    run: str = ""
    created_at: float = 0


@dataclass(frozen=True, slots=True)
class TraceStep:
    """A finished step of a run. ``hit``: its output came out of the step cache; ``cost`` in US dollars, ``None`` where
    no price is known.
    """

    path: str
    kind: str
    status: str
    attempt: int
    started_at: float
    milliseconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    hit: bool
    input: Any = None
    output: Any = None
    error: Mapping[str, Any] | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """An ``app`` that is called with ``input``, or a ``store`` that syncs, at given times. ``next_at`` is the next one.

    ``paused`` says why it does not run. ``shared``: it is the operator's; ``owner`` and ``key`` are told to an admin.
    """

    id: str
    name: str
    timezone: str
    missed: str
    overlap: str
    pause_after: int
    failures: int
    app: str | None = None
    store: str | None = None
    input: Any = None
    cron: str | None = None
    every: str | None = None
    paused: str | None = None
    next_at: float | None = None
    created_at: float = 0
    updated_at: float = 0
    shared: bool = True
    owner: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """What came of a time: a ``run`` and its ``status``, or why it was ``skipped``.

    ``cause`` is ``time``, ``missed`` (made up for later) or ``hand``.
    """

    due_at: float
    cause: str
    run: str | None = None
    status: str | None = None
    error: Mapping[str, Any] | None = None
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class CanarySide:
    """What was counted of one side of a canary; ``score`` is the mean of the ``samples`` that were judged, 0 to 1."""

    target: str
    calls: int
    errors: int
    tokens: int
    samples: int
    unjudged: int
    error_rate: float | None = None
    milliseconds: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class CanaryEntry:
    """What was done to a canary: ``by`` a key, or ``None`` for its rule; ``figures`` are the counts of both sides."""

    at: float
    action: str
    reason: str
    figures: Mapping[str, Any]
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """An alias whose calls are split: ``status`` is ``running``, ``promoted`` or ``rolled_back``, for a ``reason``.

    ``waits_for`` says what is missing for its promotion; ``key`` set it.
    """

    id: str
    alias: str
    status: str
    weight: float
    keys: tuple[str, ...]
    sticky: str
    sample: float
    baseline: CanarySide
    canary: CanarySide
    waits_for: tuple[str, ...]
    journal: tuple[CanaryEntry, ...]
    key: str
    created_at: float
    eval: str | None = None
    promote: Mapping[str, Any] | None = None
    rollback: Mapping[str, Any] | None = None
    reason: str | None = None
    ended_at: float | None = None
