"""Checked specifications, and the trace of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """Whether a flow can run; ``error`` is the first thing that is wrong, in OpenAI's shape."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CheckedAgent:
    """Whether an agent can run; ``error`` is the first thing that is wrong, in OpenAI's shape."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TraceStep:
    """A finished step of a run. ``hit``: its output came out of the step cache; ``cost`` in US dollars, ``None`` where
    no price is known.
    """

    path: str
    kind: str
    status: str
    attempt: int
    started_at: float
    milliseconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    hit: bool
    input: Any = None
    output: Any = None
    error: Mapping[str, Any] | None = None
    cost: float | None = None
