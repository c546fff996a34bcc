"""``/api/facts``: what agents keep of conversations for later ones. Another key's facts do not exist for a caller."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.apps.agent.memory import LearntFact
from portico_server.apps.agent.message import message_of

router = new_router(prefix="/api", tags=["Sessions"])


class FactSource(BaseModel):
    """Where a fact was learnt.

    ``agent`` heard it in ``run``; ``session`` is the id of the session of ``app`` called ``name``, ``message`` the
    number of the message there and ``said`` its text. They are null for what is there no more.
    """

    agent: str | None
    app: str | None
    name: str | None
    run: str | None
    session: str | None
    message: int | None
    said: str | None


class Fact(BaseModel):
    """One fact of the long-term memory, in the store ``store``. Times in seconds since 1970."""

    id: str
    store: str
    text: str
    source: FactSource
    created_at: float
    changed_at: float

    @classmethod
    def of(cls, learnt: LearntFact) -> Fact:
        """With where it was learnt."""
        fact, message = learnt.fact, learnt.message
        return cls(
            id=fact.id,
            store=fact.store,
            text=fact.text,
            source=FactSource(
                agent=learnt.said("agent"),
                app=learnt.said("app"),
                name=learnt.said("session") if learnt.session is None else learnt.session.name,
                run=learnt.said("run"),
                session=None if learnt.session is None else learnt.session.id,
                message=None if message is None else message.seq,
                said=None if message is None else message_of(message.message).text,
            ),
            created_at=fact.created_at,
            changed_at=fact.changed_at,
        )


class FactList(BaseModel):
    """The newest first."""

    data: list[Fact]


class ChangedFact(BaseModel):
    """What the fact says from now on."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1)


Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/facts")
async def list_facts(
    parts: TheParts, caller: Caller, store: str | None = None, agent: str | None = None, limit: Limit = 100
) -> FactList:
    """The caller's facts; of one ``store``, or learnt by one ``agent``."""
    found = await parts.agents.facts.list(caller, store=store, agent=agent, limit=limit)
    return FactList(data=[Fact.of(item) for item in found])


@router.get("/sessions/{session_id}/facts")
async def list_session_facts(
    session_id: str, parts: TheParts, caller: Caller, limit: Limit = 100
) -> FactList:
    """What was learnt in a session."""
    session = await parts.agents.sessions.get(session_id, caller)
    found = await parts.agents.facts.list(caller, session=session, limit=limit)
    return FactList(data=[Fact.of(item) for item in found])


@router.patch("/facts/{fact_id}")
async def change_fact(fact_id: str, given: ChangedFact, parts: TheParts, caller: Caller) -> Fact:
    """Put another text in its place. A search finds the new one a moment later."""
    return Fact.of(await parts.agents.facts.change(fact_id, given.text, caller))


@router.delete("/facts/{fact_id}", status_code=204, response_class=Response)
async def remove_fact(fact_id: str, parts: TheParts, caller: Caller) -> None:
    """Forget it."""
    await parts.agents.facts.remove(fact_id, caller)
