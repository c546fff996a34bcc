"""Questions that a run asks a person or a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas import json_at
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a run. ``kind``: approval, function, input or chat.

    ``status``: pending, answered, expired or cancelled. ``answer_schema`` is the JSON schema of a ``value``.
    ``accepted``, ``value``, ``note`` and ``answered_by`` are the answer; ``worker`` is the client that executes a
    function. ``key`` stays the same when an interrupted run asks the same question again.
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

    @property
    def outcome(self) -> str:
        """The status, with ``approved`` or ``refused`` for an answered question."""
        if self.status != "answered":
            return self.status
        return "approved" if self.accepted else "refused"


@dataclass(frozen=True, slots=True)
class Claims:
    """Functions that a worker has claimed; ``lost`` are ids of earlier claims that another worker has now."""

    taken: tuple[Question, ...] = field(default=(), metadata=json_at("data"))
    lost: tuple[str, ...] = ()


QUESTIONS = Resource(
    "Questions",
    "/api/questions",
    "Questions that runs wait for: approvals, functions of clients, input from people.",
    {"question_id": "a question"},
    (
        Verb("list", "GET", list[Question]),
        Verb("get", "GET {question_id}", Question),
        Verb("answer", "POST {question_id}/answer", Question),
    ),
    columns=(
        Column("ID"),
        Column("KIND"),
        Column("NAME"),
        Column("WITH", "arguments", kind="pairs", width=80),
        Column("STATUS", "outcome"),
        Column("ASKED", "created_at", kind="moment"),
    ),
)
