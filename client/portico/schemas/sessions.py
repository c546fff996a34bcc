"""Sessions: conversations with an app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation with ``app``. ``name`` is what its owner calls it; times in seconds since 1970."""

    id: str
    app: str
    name: str
    title: str
    metadata: Mapping[str, Any]
    owner: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMessage:
    """A message in the memory of one agent; ``agent`` is its path in the tree, empty for the root."""

    seq: int
    agent: str
    run: str | None
    message: Mapping[str, Any]
