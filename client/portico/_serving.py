"""The protocol of a worker, without I/O: join, claim calls, renew calls in progress, answer."""

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
"""Seconds without contact from this worker after which its calls are passed to another worker."""

CLAIM_WAIT_S = 2.0
"""Seconds that a claim waits for a call. A worker notices a stop request after at most this time."""

MAX_PAUSE_S = 10.0
"""Maximum delay between attempts to reach an unreachable daemon, in seconds."""


@runtime_checkable
class Serves(Protocol):
    """An object that declares which functions it needs: `portico.agent.Agent`."""

    def served(self) -> list[Function]: ...


Given = Function | Callable[..., Any] | Flow | Step | Serves
"""An object that can be served. For a flow, all of its functions that run in this process are served."""


class WorkerState:
    """The state of a worker: its name, its functions, and its claimed calls. ``concurrency`` limits concurrent
    calls.
    """

    def __init__(self, functions: Sequence[Given], name: str | None, concurrency: int) -> None:
        if not functions:
            raise InvalidRequest("At least one function to serve is required.", param="functions")
        self.functions = {item.name: item for function in functions for item in functions_in(function)}
        self.worker = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.path = at("api", "workers", self.worker)
        self.held: set[str] = set()
        self.concurrency = max(1, concurrency)
        self.lost: set[str] = set()
        self._failure_count = 0

    @property
    def full(self) -> bool:
        return len(self.held) >= self.concurrency

    def introduction(self) -> dict[str, Any]:
        """Return the request body with which a worker joins."""
        return {"worker": self.worker, "functions": [item.to_json() for item in self.functions.values()]}

    def claim(self, *, stopping: bool = False) -> dict[str, Any]:
        """Return the request body that claims as many calls as there are free slots, and lists the calls in
        progress.
        """
        free_slots = 0 if stopping else self.concurrency - len(self.held)
        return {
            "lease_seconds": LEASE_S,
            "limit": free_slots,
            "wait": CLAIM_WAIT_S if free_slots else 0,
            "holding": sorted(self.held - self.lost),
        }

    def take_calls(self, claims: Claims) -> list[tuple[Question, Function]]:
        """Return the calls to execute, each with its function. Record the calls that the worker has lost: the daemon
        discards their answers.
        """
        self._failure_count = 0
        self.lost.update(claims.lost)
        self.held.update(item.id for item in claims.taken)
        return [(item, self.functions[item.name.removeprefix("tool/")]) for item in claims.taken]

    def release(self, question_id: str) -> None:
        self.held.discard(question_id)
        self.lost.discard(question_id)

    def to_error_answer(self, question: Question, error: Exception) -> dict[str, Any]:
        """Return the answer for a function that failed, and log the traceback in the worker."""
        logger.warning("%s failed", question.name, exc_info=error)
        return answer_raised(error, self.worker)

    def must_join(self, error: PorticoError) -> bool:
        """Return whether the daemon no longer knows this worker. Raise ``error`` if it is not temporary."""
        if isinstance(error, NotFound) and error.code == "worker_not_found":
            return True
        if not isinstance(error, ConnectionFailed | Unavailable | DeadlineExceeded):
            raise error
        return False

    def pause(self, error: PorticoError) -> float:
        """Return the seconds until the next attempt to reach an unreachable daemon."""
        if not self._failure_count:
            logger.warning("%s Retrying until it is available.", error.message)
        self._failure_count += 1
        return min(0.25 * 2.0**self._failure_count, MAX_PAUSE_S)


def functions_in(declared: Given, **options: Any) -> list[Function]:
    """Return the functions to serve for an object; ``options`` are defaults for functions that do not set them.

    Raises `InvalidRequest` for a flow or an agent that has no functions to serve.
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
            f"The flow '{flow.name}' runs entirely in the daemon: it has no functions to serve.",
            param="functions",
        )
    functions = [Function.of(call, **{**options, "name": name}) for name, call in flow.functions.items()]
    return [*functions, *flow.tools.values()]


def answer_returned(value: Any, worker: str = "") -> dict[str, Any]:
    """Return the request body that answers a function call with its return value."""
    return {"accepted": True, "value": plain(value), "note": "", "worker": worker}


def answer_raised(error: Exception, worker: str = "") -> dict[str, Any]:
    """Return the request body that reports an error as text, without the traceback, to the run that called the
    function.
    """
    note = (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:10_000]
    return {"accepted": False, "value": None, "note": note, "worker": worker}


def is_too_late(error: PorticoError) -> bool:
    """Return whether an answer arrived too late: another client has answered, or the run has ended."""
    return isinstance(error, Conflict | NotFound)
