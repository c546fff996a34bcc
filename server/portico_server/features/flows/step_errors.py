"""Errors of steps: adding their location, deciding whether a retry makes sense, and converting them to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.errors import PorticoError


class StepFailed(PorticoError):
    """The error that ended a step, with the step's location. Its status, type, code and param are those of the
    cause.
    """

    def __init__(self, cause: PorticoError, path: str) -> None:
        super().__init__(f"Step {path}: {cause.message}", param=cause.param, retry_after=cause.retry_after)
        self.status, self.type, self.code = cause.status, cause.type, cause.code
        self.step = path


def at_step(error: PorticoError, path: str) -> PorticoError:
    """Return the error with the step in its message. The step is added only once, because the innermost step is the
    relevant one.
    """
    return error if isinstance(error, StepFailed) else StepFailed(error, path)


def as_value(error: PorticoError) -> Mapping[str, Any]:
    """Return the error as an object with ``message``, ``type``, ``param`` and ``code``."""
    error_document: Mapping[str, Any] = error.body().to_json()["error"]
    return error_document


def retryable(error: PorticoError, on: Sequence[str]) -> bool:
    """Return whether a retry makes sense: if ``on`` contains the error's code or type or, if ``on`` is empty, if the
    error is temporary.
    """
    if on:
        return error.code in on or error.type in on
    return error.status in (408, 429) or error.status >= 500 or error.code == "format_failed"
