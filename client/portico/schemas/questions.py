"""Questions that a run asks people or clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas import json_at
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a run asks. ``kind``: approval, function, input or chat.

    ``status``: pending, answered, expired or cancelled. ``answer_schema`` is the JSON schema with which ``value`` must
    comply. ``accepted``, ``value``, ``note`` and ``answered_by`` describe the answer; ``worker`` is the client that
    executes a function. ``key`` stays the same when an interrupted run asks the same question again.
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
        """The status of the question; for an answered question, ``approved`` or ``refused``."""
        if self.status != "answered":
            return self.status
        return "approved" if self.accepted else "refused"


@dataclass(frozen=True, slots=True)
class Claims:
    """Calls of functions that a worker has claimed. ``lost``: ids of calls that the worker claimed earlier and no
    longer holds.
    """

    taken: tuple[Question, ...] = field(default=(), metadata=json_at("data"))
    lost: tuple[str, ...] = ()


QUESTIONS = Resource(
    "Questions",
    "/api/questions",
    "Questions that runs wait for: approvals, calls of clients' functions, and input from people.",
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
