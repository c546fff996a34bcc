"""The requests of questions and of workers that execute functions, and how to read what comes back.

See `portico._calls`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from portico import _read as read
from portico._calls.call import Call, EventCall
from portico._sse import ServerEvent
from portico.errors import ConnectionLost, InvalidRequest
from portico.values import Claims, Question

ATTEMPTS = 5
"""Connections in a row that may bring nothing."""


class QuestionEvents:
    """Reads the stream of questions, which has no end of its own."""

    done = False

    def feed(self, item: ServerEvent) -> list[Question]:
        return [question(json.loads(item.data))]


class Watching:
    """How often a watcher has lost its connection, and how long it waits before the next."""

    def __init__(self) -> None:
        self._lost = 0

    def saw(self) -> None:
        self._lost = 0

    def pause(self, error: ConnectionLost) -> float:
        """Seconds until the next attempt; raises ``error`` when there were enough."""
        self._lost += 1
        if self._lost >= ATTEMPTS:
            raise error
        return 0.1 * 2.0**self._lost


def questions_list(status: str | None, run: str | None, limit: int) -> Call[list[Question]]:
    query = {name: value for name, value in (("status", status), ("run", run)) if value is not None}
    return Call("GET", "/api/questions", read.rows(question), query={**query, "limit": limit})


def question_get(question_id: str) -> Call[Question]:
    return Call("GET", _path(question_id), question)


def question_answer(question_id: str, accepted: bool, value: Any, note: str, worker: str) -> Call[Question]:
    body = {"accepted": accepted, "value": value, "note": note, "worker": worker}
    return Call("POST", _path(question_id, "/answer"), question, json=body)


def question_events() -> EventCall[Question]:
    return EventCall("GET", "/api/questions/events", QuestionEvents)


def questions_claim(
    names: Sequence[str],
    worker: str,
    *,
    run: str | None,
    limit: int,
    lease: float,
    wait: float,
    holding: Sequence[str],
) -> Call[Claims]:
    body = {
        "names": list(names),
        "worker": worker,
        "limit": limit,
        "lease_seconds": lease,
        "wait": wait,
        "holding": list(holding),
        **({"run": run} if run is not None else {}),
    }
    return Call("POST", "/api/questions/claim", claims, json=body, slow=True)


def question(value: Any) -> Question:
    return read.value_of(Question, value)


def claims(value: Any) -> Claims:
    found = tuple(question(item) for item in value.get("data") or ())
    return Claims(found, tuple(value.get("lost") or ()))


def served(value: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(value.get("tools") or ())


def _path(question_id: str, rest: str = "") -> str:
    if question_id in ("", ".", ".."):
        raise InvalidRequest("Name a question by its id.", param="id")
    return f"/api/questions/{quote(question_id, safe='')}{rest}"
