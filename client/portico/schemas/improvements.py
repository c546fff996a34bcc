"""Improvements of apps: the part that fails, and proposed changes with their measured effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas import json_at
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class PartRepairs:
    """How many of the diagnosed cases a replacement of this part repairs."""

    part: str
    repaired: int


@dataclass(frozen=True, slots=True)
class HeldBackFigures:
    """The results of the held-back cases: means per case. ``cost`` is in US dollars."""

    score: float | None
    seconds: float
    tokens: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed change of one part. ``is_offered``: the held-back cases score higher with it, so that it can be
    applied; otherwise ``reason`` says why not. ``worse`` is the number of cases that passed only before the change.
    ``figures`` are missing if the change was not measured.
    """

    number: int
    part: str
    text: str
    changes: Mapping[str, Any]
    is_offered: bool
    reason: str
    figures: HeldBackFigures | None = None
    worse: int = 0


@dataclass(frozen=True, slots=True)
class Improvement:
    """An improvement of ``version`` of an ``app``. Of its ``cases``, the app answers ``bad`` badly; ``diagnosed`` of
    these were used to name the ``part`` that fails, the others and all good cases are ``held_back``.

    ``status``: ``queued``, ``in_progress``, ``completed``, ``canceled`` or ``failed``. ``run_id`` is the id of the
    durable run, which has the events. ``baseline`` are the figures of the held-back cases without a change.
    """

    id: str
    app: str
    version: int
    eval_id: str
    run_id: str
    status: str
    created_at: float
    finished_at: float | None
    cases: int
    bad: int | None
    diagnosed: int | None
    held_back: int | None
    part: str | None
    diagnosis: tuple[PartRepairs, ...]
    baseline: HeldBackFigures | None
    proposals: tuple[Proposal, ...]
    error: str = field(default="", metadata=json_at("error.message"))


@dataclass(frozen=True, slots=True)
class AppliedProposal:
    """A proposal that was applied: the new version of the app is the canary of the ``alias``."""

    alias: str
    target: str
    weight: float


IMPROVEMENTS = Resource(
    "Improvements",
    "/api/improvements",
    "Improvements of apps: which part fails, and which change helps.",
    {"improvement_id": "an improvement"},
    (
        Verb("create", "POST", Improvement),
        Verb("list", "GET", list[Improvement]),
        Verb("get", "GET {improvement_id}", Improvement),
        Verb("apply", "POST {improvement_id}/apply", AppliedProposal),
    ),
    columns=(
        Column("ID"),
        Column("APP"),
        Column("STATUS"),
        Column("PART"),
        Column("MADE", "created_at", kind="moment"),
    ),
)
