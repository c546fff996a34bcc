"""Long-term memory as its owner sees it: facts, each with the message of the session that it was learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico_server.apps.agent.longterm import LONGEST
from portico_server.core.errors import InvalidRequest
from portico_server.core.facts import Fact, Facts
from portico_server.core.principal import Principal
from portico_server.db import sessions
from portico_server.db.database import Database
from portico_server.db.sessions import MessageRow, SessionRow


@dataclass(frozen=True, slots=True)
class Learnt:
    """A fact and where it was learnt. ``session`` and ``message`` are ``None`` if they are there no more."""

    fact: Fact
    session: SessionRow | None = None
    message: MessageRow | None = None

    def said(self, name: str) -> str | None:
        """What is known of its origin: ``agent``, ``app``, ``session`` (its name), ``run``."""
        found = self.fact.attributes.get(name)
        return None if found is None else str(found)


class LongMemory:
    """The facts of a caller. Another key's facts do not exist for it."""

    def __init__(self, database: Database, facts: Facts) -> None:
        self._database = database
        self._facts = facts

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        session: SessionRow | None = None,
        agent: str | None = None,
        limit: int = 100,
    ) -> Sequence[Learnt]:
        """The newest first; of a store, of what was said in a session, of an agent."""
        where = {} if session is None else {"app": session.app, "session": session.name}
        if agent is not None:
            where["agent"] = agent
        found = await self._facts.list(caller, store=store, where=where, limit=limit)
        return [await self._learnt(fact, caller) for fact in found]

    async def change(self, fact_id: str, text: str, caller: Principal) -> Learnt:
        """Put another text in the place of a fact."""
        said = text.strip()
        if not said or len(said) > LONGEST:
            raise InvalidRequest(f"A fact is a text of 1 to {LONGEST} characters.", param="text")
        return await self._learnt(await self._facts.change(fact_id, said, caller), caller)

    async def remove(self, fact_id: str, caller: Principal) -> None:
        """Forget a fact."""
        await self._facts.remove(fact_id, caller)

    async def _learnt(self, fact: Fact, caller: Principal) -> Learnt:
        known: Mapping[str, Any] = fact.attributes
        if not known.get("app") or not known.get("session"):
            return Learnt(fact)
        which = (str(known["app"]), caller.id, str(known["session"]))
        where = (str(known.get("path", "")), str(known.get("run", "")))
        return Learnt(fact, *await self._database.read(sessions.heard, *which, *where))
