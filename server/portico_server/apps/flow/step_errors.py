"""Errors of steps: their location, whether a retry makes sense, and their form as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.errors import PorticoError


class StepFailed(PorticoError):
    """The error that ended a step, with its location: status, type, code and param are those of the cause."""

    def __init__(self, cause: PorticoError, path: str) -> None:
        super().__init__(f"Step {path}: {cause.message}", param=cause.param, retry_after=cause.retry_after)
        self.status, self.type, self.code = cause.status, cause.type, cause.code
        self.step = path


def at_step(error: PorticoError, path: str) -> PorticoError:
    """Return the error with the step in its message, added only once: the innermost step is the relevant one."""
    return error if isinstance(error, StepFailed) else StepFailed(error, path)


def as_value(error: PorticoError) -> Mapping[str, Any]:
    """Return the error as a value: ``message``, ``type``, ``param``, ``code``."""
    error_document: Mapping[str, Any] = error.body().to_json()["error"]
    return error_document


def retryable(error: PorticoError, on: Sequence[str]) -> bool:
    """Return whether a retry makes sense: by code or type if ``on`` lists any, otherwise for temporary errors."""
    if on:
        return error.code in on or error.type in on
    return error.status in (408, 429) or error.status >= 500 or error.code == "format_failed"
