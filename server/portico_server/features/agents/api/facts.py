"""``/api/facts``: facts that agents remember from conversations for later ones. A caller sees only its own facts;
an admin can also use another key's fact by its id."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from portico.schemas.facts import Fact, FactHistory, FactSource
from portico_server.api.endpoint import Caller, new_router
from portico_server.api.shapes import Listed, shaped
from portico_server.features.agents.api.agent_service import TheAgents
from portico_server.features.agents.long_term import LearntFact
from portico_server.features.agents.message import message_of

router = new_router(prefix="/api", tags=["Sessions"])


class ChangedFact(BaseModel, extra="forbid"):
    """The new text of the fact."""

    text: str = Field(min_length=1)


Limit = Annotated[int, Query(ge=1, le=1000, description="Maximum number of facts, without their versions.")]

Versions = Annotated[bool, Query(description="Whether each fact is followed by its former versions.")]

After = Annotated[str | None, Query(description="The id of the fact after which the list begins.")]


@router.get("/facts")
async def list_facts(
    agents: TheAgents,
    caller: Caller,
    store: str | None = None,
    agent: str | None = None,
    versions: Versions = False,
    after: After = None,
    limit: Limit = 100,
) -> Listed[Fact]:
    """List the caller's facts, optionally only facts in one ``store`` or facts learnt by one ``agent``."""
    learnt_facts = await agents.facts.list(
        caller, store=store, agent=agent, versions=versions, after_id=after, limit=limit
    )
    return Listed(data=[_fact(item) for item in learnt_facts])


@router.get("/sessions/{session_id}/facts")
async def list_session_facts(
    session_id: str,
    agents: TheAgents,
    caller: Caller,
    versions: Versions = False,
    after: After = None,
    limit: Limit = 100,
) -> Listed[Fact]:
    """List the facts learnt in a session, newest first."""
    session = await agents.sessions.get(session_id, caller)
    learnt_facts = await agents.facts.list(
        caller, session=session, versions=versions, after_id=after, limit=limit
    )
    return Listed(data=[_fact(item) for item in learnt_facts])


@router.get("/facts/{fact_id}")
async def get_fact(fact_id: str, agents: TheAgents, caller: Caller) -> FactHistory:
    """Return a fact and its former versions, newest first."""
    current, *former = await agents.facts.versions(fact_id, caller)
    return FactHistory(_fact(current), tuple(_fact(version) for version in former))


@router.patch("/facts/{fact_id}")
async def change_fact(fact_id: str, body: ChangedFact, agents: TheAgents, caller: Caller) -> Fact:
    """Replace the text of a fact. The previous text stays in the history; searches use the new text a moment later."""
    return _fact(await agents.facts.change(fact_id, body.text, caller))


@router.post("/facts/{fact_id}/revert")
async def revert_fact(fact_id: str, agents: TheAgents, caller: Caller) -> Fact:
    """Restore the version before the last change. The present version stays in the history."""
    return _fact(await agents.facts.revert(fact_id, caller))


@router.delete("/facts/{fact_id}", status_code=204, response_class=Response)
async def remove_fact(fact_id: str, agents: TheAgents, caller: Caller) -> None:
    """Delete a fact with its former versions."""
    await agents.facts.remove(fact_id, caller)


def _fact(learnt: LearntFact) -> Fact:
    """Return a learnt fact with its origin."""
    message = learnt.message
    return shaped(
        Fact,
        learnt.fact,
        span=learnt.fact.span,
        source=FactSource(
            agent=learnt.origin("agent"),
            app=learnt.origin("app"),
            name=learnt.origin("session") if learnt.session is None else learnt.session.name,
            run=learnt.origin("run"),
            session=None if learnt.session is None else learnt.session.id,
            message=None if message is None else message.seq,
            said=None if message is None else message_of(message.message).text,
        ),
    )
