"""What a worker says and does next, without I/O: join, claim calls, keep those it works on, answer."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from portico._request import at
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
from portico.schemas.questions import Claims, Question

logger = logging.getLogger("portico.serve")

LEASE_S = 30.0
"""Seconds after which a call goes to another worker if this one is silent."""

CLAIM_WAIT_S = 2.0
"""Seconds that one claim waits for a call; a worker that is told to stop notices after it."""

MAX_PAUSE_S = 10.0
"""Seconds between two attempts to reach a daemon that is away."""


@runtime_checkable
class Serves(Protocol):
    """What says itself which functions it needs: `portico.agent.Agent`."""

    def served(self) -> list[Function]: ...


Given = Function | Callable[..., Any] | Flow | Step | Serves
"""What can be served; a flow stands for all its functions that stay here."""


class WorkerState:
    """One worker: its name, its functions, and the calls that it has taken. ``concurrency`` at once."""

    def __init__(self, functions: Sequence[Given], name: str | None, concurrency: int) -> None:
        if not functions:
            raise InvalidRequest("Name at least one function to serve.", param="functions")
        self.functions = {item.name: item for function in functions for item in functions_in(function)}
        self.worker = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.path = at("api", "workers", self.worker)
        self.held: set[str] = set()
        self.concurrency = max(1, concurrency)
        self.lost: set[str] = set()
        self._failed = 0

    @property
    def full(self) -> bool:
        return len(self.held) >= self.concurrency

    def introduction(self) -> dict[str, Any]:
        """The body with which a worker joins."""
        return {"worker": self.worker, "functions": [item.to_json() for item in self.functions.values()]}

    def claim(self, *, stopping: bool = False) -> dict[str, Any]:
        """The body that asks for what there is room for, and says what is being worked on."""
        free_slots = 0 if stopping else self.concurrency - len(self.held)
        return {
            "lease_seconds": LEASE_S,
            "limit": free_slots,
            "wait": CLAIM_WAIT_S if free_slots else 0,
            "holding": sorted(self.held - self.lost),
        }

    def take_calls(self, claims: Claims) -> list[tuple[Question, Function]]:
        """Calls to be executed, each with its function. What was lost is worked on in vain: its answer is dropped."""
        self._failed = 0
        self.lost.update(claims.lost)
        self.held.update(item.id for item in claims.taken)
        return [(item, self.functions[item.name.removeprefix("tool/")]) for item in claims.taken]

    def done(self, question_id: str) -> None:
        self.held.discard(question_id)
        self.lost.discard(question_id)

    def raised(self, question: Question, error: Exception) -> dict[str, Any]:
        """The answer of a function that failed. The place is logged here."""
        logger.warning("%s failed", question.name, exc_info=error)
        return answer_raised(error, self.worker)

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
        return min(0.25 * 2.0**self._failed, MAX_PAUSE_S)


def functions_in(declared: Given, **options: Any) -> list[Function]:
    """The functions that are served for one thing; ``options`` are fields of those that say nothing themselves.

    Raises `InvalidRequest` for a flow or an agent that needs nobody to serve it.
    """
    if isinstance(declared, Function):
        return [declared]
    if isinstance(declared, Serves):
        return declared.served()
    if not isinstance(declared, Flow | Step):
        return [Function.of(declared, **options)]
    flow = flow_of(declared)
    if not flow.functions and not flow.tools:
        raise InvalidRequest(
            f"All of the flow '{flow.name}' runs in the daemon: nothing of it needs to be served.",
            param="functions",
        )
    functions = [Function.of(call, **{**options, "name": name}) for name, call in flow.functions.items()]
    return [*functions, *flow.tools.values()]


def answer_returned(value: Any, worker: str = "") -> dict[str, Any]:
    """The answer to a question that asked for a function: what it returned."""
    return {"accepted": True, "value": plain(value), "note": "", "worker": worker}


def answer_raised(error: Exception, worker: str = "") -> dict[str, Any]:
    """What it raised, in words and without the place, for the run that called it."""
    note = (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:10_000]
    return {"accepted": False, "value": None, "note": note, "worker": worker}


def is_too_late(error: PorticoError) -> bool:
    """Whether an answer came too late to matter: somebody else gave it, or the run has ended."""
    return isinstance(error, Conflict | NotFound)
