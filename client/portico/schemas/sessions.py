"""Sessions: conversations with an app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation with ``app``. ``name`` is what its owner calls it; times in seconds since 1970."""

    id: str
    app: str
    name: str
    title: str
    created_at: float
    updated_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message in the memory of one agent; ``agent`` is its path in the tree, empty for the root.

    ``message`` has ``sender``, ``content`` and the other fields of `portico.agent.Message`; ``run`` said it.
    """

    seq: int
    agent: str
    message: Mapping[str, Any]
    run: str | None = None
