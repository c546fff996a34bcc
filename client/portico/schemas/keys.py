"""API keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    id: str
    name: str
    scopes: tuple[str, ...] = ()
    created_at: float = 0
    hint: str = ""
    last_used_at: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    """Which files of a store it may read: a filter on their attributes, by the name or id of the store."""
    stored_bytes: int = 0
    """On the disk: files, parts of uploads, what its stores mirror, chunks with their vectors, artifacts, skills,
    sessions, conversations, responses, apps, prompts, evaluations and trainings."""
    issuer: str = ""
    """Of somebody who signs in: who says so, as a URL."""
    subject: str = ""
    signed_in_at: float | None = None
    blocked_at: float | None = None
    """Since when they are kept out."""


@dataclass(frozen=True, slots=True)
class Whoami:
    """Who is calling. ``by``: ``nothing``, a ``key`` or a ``token``, which gives a ``role`` and expires at
    ``expires_at``.
    """

    id: str
    name: str
    by: str
    role: str = ""
    scopes: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    issuer: str = ""
    subject: str = ""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class NewKey(Key):
    """A key with its secret, which the daemon shows once."""

    key: str = ""
