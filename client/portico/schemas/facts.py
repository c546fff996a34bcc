"""Facts that agents keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FactSource:
    """Where a fact was learnt: in the session (its id) of ``app`` called ``name``, by ``agent``, in ``run``.

    ``message`` is the number of the message there and ``said`` its text; ``None``: there no more.
    """

    agent: str | None = None
    app: str | None = None
    name: str | None = None
    run: str | None = None
    session: str | None = None
    message: int | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What an agent keeps of a conversation for later ones, in ``store``. Times in seconds since 1970."""

    id: str
    store: str
    text: str
    created_at: float
    changed_at: float
    source: FactSource = FactSource()
