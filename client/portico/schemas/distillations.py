"""Distillations: a small model learns the answers behind an alias, and answers there where it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portico.schemas.resource import Resource, Verb


@dataclass(frozen=True, slots=True)
class Distillation:
    """The newest distillation of an alias. ``run`` does the work; ``error`` is why it failed.

    ``stage``: the last finished stage. ``training`` and ``held_back`` are numbers of stored chats, and ``omitted`` the
    chats without use. ``job`` trains ``model``. On held-back calls, the model was at least as sure as
    ``min_confidence`` for the share ``local_share``, and its answers agreed with the stored answers by ``agreement``.

    ``canary`` is the state of its canary: ``running``, ``promoted`` (it then gets all calls, and keeps running),
    ``rolled_back``. ``live_agreement`` is the agreement of recent live answers. Of ``calls`` since the canary began,
    the model answered ``local_calls``. ``saved_cost`` is in US dollars, null if the larger model has no known price;
    ``saved_seconds`` is null until the larger model has answered a call.
    """

    alias: str
    onto: str
    run: str
    status: Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
    error: str | None
    stage: Literal["data", "training", "judging", "canary"] | None
    training: int | None
    held_back: int | None
    omitted: int | None
    job: str | None
    model: str | None
    min_confidence: float | None
    local_share: float | None
    agreement: float | None
    canary: Literal["running", "promoted", "rolled_back"] | None
    live_agreement: float | None
    calls: int
    local_calls: int
    saved_cost: float | None
    saved_seconds: float | None


DISTILLATIONS = Resource(
    "Distillations",
    "/api/distillations",
    "For admins. A distillation tunes a small model with the stored chats of an alias, and sets a canary for it.",
    {"alias": "an alias"},
    (
        Verb("start", "POST {alias}", str, key="run"),
        Verb("get", "GET {alias}", Distillation),
    ),
)
