"""Facts that agents remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from portico.schemas.resource import Column, Resource, Verb

FactChange: TypeAlias = Literal["changed", "merged", "replaced", "reverted"]
"""The reason for the end of a version of a fact: a person changed the text, the user said the same again, a newer fact
contradicts it, or a person restored an earlier version.
"""


@dataclass(frozen=True, slots=True)
class FactSource:
    """The origin of a fact: ``agent`` learned the fact in ``run``.

    ``session`` is the id of the session, ``app`` its app and ``name`` its name. ``message`` is the number of the
    message in that session, and ``said`` the text of the message. Each field is null if the object no longer exists.
    """

    agent: str | None
    app: str | None
    name: str | None
    run: str | None
    session: str | None
    message: int | None
    said: str | None

    @property
    def conversation(self) -> str:
        """The app and the name of the session, such as ``guide/monday``; empty if the session no longer exists."""
        return f"{self.app}/{self.name}" if self.app else ""


@dataclass(frozen=True, slots=True)
class FactSpan:
    """The words of the user from which a fact was learnt, and their character range in the text of the message, see
    ``FactSource.said``.
    """

    words: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Fact:
    """A version of a fact in long-term memory; ``store`` is the store that contains the fact.

    ``span`` is null if no words of the user support the text: a person wrote the text, or Portico stored it before it
    recorded spans. A former version has ``ended_at`` and ``reason``: ``changed`` by a person, ``merged`` with the same
    statement of the user, ``replaced`` by a fact that contradicts it, or ``reverted`` by a person. Times
    are in seconds since 1970.
    """

    id: str
    store: str
    text: str
    source: FactSource
    created_at: float
    changed_at: float
    span: FactSpan | None
    ended_at: float | None
    reason: FactChange | None


@dataclass(frozen=True, slots=True)
class FactHistory:
    """A fact, and its former versions, newest first."""

    fact: Fact
    versions: tuple[Fact, ...]


FACTS = Resource(
    "Facts",
    "/api/facts",
    "Long-term memory: the caller's facts, each with its origin.",
    {"fact_id": "a fact"},
    (
        Verb("get", "GET {fact_id}", FactHistory),
        Verb("change", "PATCH {fact_id}", Fact),
        Verb("revert", "POST {fact_id}/revert", Fact),
        Verb("remove", "DELETE {fact_id}"),
    ),
    columns=(
        Column("ID"),
        Column("FACT", "text"),
        Column("AGENT", "source.agent"),
        Column("SESSION", "source.conversation"),
        Column("MESSAGE", "source.message", kind="count"),
        Column("SAID", "span.words", width=40),
        Column("CHANGED", "changed_at", kind="moment"),
    ),
)
