"""Facts that agents remember."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Column, Resource, Verb


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
class Fact:
    """A fact in long-term memory; ``store`` is the store that contains it. Times are in seconds since 1970."""

    id: str
    store: str
    text: str
    source: FactSource
    created_at: float
    changed_at: float


FACTS = Resource(
    "Facts",
    "/api/facts",
    "Long-term memory: the caller's facts, each with its origin.",
    {"fact_id": "a fact"},
    (
        Verb("change", "PATCH {fact_id}", Fact),
        Verb("remove", "DELETE {fact_id}"),
    ),
    columns=(
        Column("ID"),
        Column("FACT", "text"),
        Column("AGENT", "source.agent"),
        Column("SESSION", "source.conversation"),
        Column("MESSAGE", "source.message", kind="count"),
        Column("SAID", "source.said", width=40),
        Column("CHANGED", "changed_at", kind="moment"),
    ),
)
