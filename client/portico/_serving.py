"""What a worker does next, without I/O: join, claim calls, keep those it works on, answer, leave."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

from portico import _read as read
from portico._calls.call import Call
from portico._calls.questions import claims, question_answer, served
from portico.errors import (
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    PorticoError,
    Unavailable,
)
from portico.flow import Flow, Step, flow_of
from portico.functions import Function, plain
from portico.values import Claims, Question

logger = logging.getLogger("portico.serve")

LEASE = 30.0
"""Seconds after which a call goes to another worker if this one is silent."""

WAIT = 2.0
"""Seconds that one claim waits for a call; a worker that is told to stop notices after it."""

LONGEST_PAUSE = 10.0
"""Seconds between two attempts to reach a daemon that is away."""


@runtime_checkable
class Serves(Protocol):
    """What says itself which functions it needs: `portico.agent.Agent`."""

    def served(self) -> list[Function]: ...


Given = Function | Callable[..., Any] | Flow | Step | Serves
"""What can be served; a flow stands for all its functions that stay here."""


class Desk:
    """One worker: its name, its functions, and the calls that it has taken. ``concurrency`` at once."""

    def __init__(self, functions: Sequence[Given], name: str | None, concurrency: int) -> None:
        if not functions:
            raise InvalidRequest("Name at least one function to serve.", param="functions")
        self.functions = {item.name: item for given in functions for item in functions_in(given)}
        self.worker = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.held: set[str] = set()
        self.concurrency = max(1, concurrency)
        self.lost: set[str] = set()
        self._failed = 0

    @property
    def full(self) -> bool:
        return len(self.held) >= self.concurrency

    def join(self) -> Call[tuple[str, ...]]:
        body = {"worker": self.worker, "functions": [item.to_json() for item in self.functions.values()]}
        return Call("POST", "/api/workers", served, json=body)

    def claim(self, *, stopping: bool = False) -> Call[Claims]:
        """Ask for what there is room for, and say what is being worked on."""
        room = 0 if stopping else self.concurrency - len(self.held)
        body = {
            "lease_seconds": LEASE,
            "limit": room,
            "wait": WAIT if room else 0,
            "holding": sorted(self.held - self.lost),
        }
        return Call("POST", self._at("/claim"), claims, json=body, slow=True)

    def leave(self) -> Call[None]:
        return Call("DELETE", self._at(), read.nothing)

    def took(self, claims: Claims) -> list[tuple[Question, Function]]:
        """Calls to be executed, each with its function. What was lost is worked on in vain: its answer is dropped."""
        self._failed = 0
        self.lost.update(claims.lost)
        self.held.update(item.id for item in claims.taken)
        return [(item, self.functions[item.name.removeprefix("tool/")]) for item in claims.taken]

    def done(self, question_id: str) -> None:
        self.held.discard(question_id)
        self.lost.discard(question_id)

    def returned(self, question_id: str, value: Any) -> Call[Question]:
        """The answer of a function."""
        return question_answer(question_id, True, plain(value), "", self.worker)

    def raised(self, question: Question, error: Exception) -> Call[Question]:
        """The answer of one that failed: what it said, not where. The place is logged here."""
        logger.warning("%s failed", question.name, exc_info=error)
        return question_answer(question.id, False, None, said(error), self.worker)

    def must_join(self, error: PorticoError) -> bool:
        """Whether the daemon does not know us any more; raises ``error`` if it is not one that passes."""
        if isinstance(error, NotFound) and error.code == "worker_not_found":
            return True
        if not isinstance(error, ConnectionFailed | Unavailable | DeadlineExceeded):
            raise error
        return False

    def pause(self, error: PorticoError) -> float:
        """Seconds until a daemon that is away is asked again."""
        if not self._failed:
            logger.warning("%s Trying again until it is there.", error.message)
        self._failed += 1
        return min(0.25 * 2.0**self._failed, LONGEST_PAUSE)

    def _at(self, rest: str = "") -> str:
        return f"/api/workers/{quote(self.worker, safe='')}{rest}"


def functions_in(given: Given, **options: Any) -> list[Function]:
    """The functions that are served for one thing; ``options`` are fields of those that say nothing themselves.

    Raises `InvalidRequest` for a flow or an agent that needs nobody to serve it.
    """
    if isinstance(given, Function):
        return [given]
    if isinstance(given, Serves):
        return given.served()
    if not isinstance(given, Flow | Step):
        return [Function.of(given, **options)]
    made = flow_of(given)
    if not made.functions:
        raise InvalidRequest(
            f"All of the flow '{made.name}' runs in the daemon: nothing of it needs to be served.",
            param="functions",
        )
    return [Function.of(call, **{**options, "name": name}) for name, call in made.functions.items()]


def said(error: Exception) -> str:
    """What a function raised, in words and without the place, for the run that called it."""
    return (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:10_000]


def dropped(error: PorticoError) -> bool:
    """Whether an answer came too late to matter: somebody else gave it, or the run has ended."""
    return isinstance(error, Conflict | NotFound)
