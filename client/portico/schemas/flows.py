"""Results of checking a specification, and the trace of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class TraceStep:
    """A finished step. ``input`` is shortened for display. Times are in seconds since 1970. ``cost`` is in US dollars,
    or null if no price is known.
    """

    path: str
    kind: str
    status: Literal["completed", "failed", "skipped"]
    attempt: int
    input: Any
    output: Any
    error: Mapping[str, Any] | None
    started_at: float
    milliseconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    hit: bool
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class CheckedSpec:
    """The result of checking a flow or an agent: whether it can run, or else the first error."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None
