"""A caller's access to long-term memory: facts, each with the session message from which the fact was learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.facts import FactStore, StoredFact
from portico_server.core.principal import Principal
from portico_server.db import session_texts
from portico_server.db.database import Database
from portico_server.db.sessions import MessageRow, SessionRow
from portico_server.features.agents.facts import MAX_FACT_CHARS


@dataclass(frozen=True, slots=True)
class LearntFact:
    """A fact and its origin. ``session`` is the session in which it was learnt, or a copy if that session was deleted;
    ``None`` if neither exists.
    """

    fact: StoredFact
    session: SessionRow | None = None
    message: MessageRow | None = None

    def origin(self, name: str) -> str | None:
        """Return a detail of the fact's origin: ``agent``, ``app``, ``session`` (the session's name) or ``run``."""
        attribute = self.fact.attributes.get(name)
        return None if attribute is None else str(attribute)


class LongTermMemory:
    """Lists and changes the facts of a caller. Only an admin who knows its id can see the fact of another key."""

    def __init__(self, database: Database, facts: FactStore) -> None:
        self._database = database
        self._facts = facts

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        session: SessionRow | None = None,
        agent: str | None = None,
        versions: bool = False,
        after_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[LearntFact]:
        """List facts, newest first, optionally limited to one store, session or agent; see `FactStore.list`."""
        conditions = {} if session is None else {"app": session.app, "session": session.name}
        if agent is not None:
            conditions["agent"] = agent
        stored_facts = await self._facts.list(
            caller, store=store, where=conditions, versions=versions, after_id=after_id, limit=limit
        )
        return await self._learnt(stored_facts)

    async def versions(self, fact_id: str, caller: Principal) -> Sequence[LearntFact]:
        """Return the current version of a fact and its former versions, newest first."""
        return await self._learnt(await self._facts.versions(fact_id, caller))

    async def revert(self, fact_id: str, caller: Principal) -> LearntFact:
        """Restore the version before the last change."""
        (learnt,) = await self._learnt([await self._facts.revert(fact_id, caller)])
        return learnt

    async def change(self, fact_id: str, text: str, caller: Principal) -> LearntFact:
        """Replace the text of a fact."""
        stripped_text = text.strip()
        if not stripped_text or len(stripped_text) > MAX_FACT_CHARS:
            raise InvalidRequest(f"A fact must have 1 to {MAX_FACT_CHARS} characters.", param="text")
        (learnt,) = await self._learnt([await self._facts.change(fact_id, stripped_text, caller)])
        return learnt

    async def remove(self, fact_id: str, caller: Principal) -> None:
        """Delete a fact."""
        await self._facts.remove(fact_id, caller)

    async def _learnt(self, facts: Sequence[StoredFact]) -> Sequence[LearntFact]:
        learnt = [await self._to_learnt_fact(fact) for fact in facts]
        lost_facts: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for item in learnt:
            if item.message is None and item.origin("run") is not None:
                lost_facts.setdefault(_app_and_owner(item.fact), set()).add(_origin(item.fact))
        for app_and_owner, fact_keys in lost_facts.items():
            copies = await self._database.read(session_texts.texts_in_copies, *app_and_owner, fact_keys)
            learnt = [
                LearntFact(item.fact, *copies[_origin(item.fact)])
                if item.message is None
                and _app_and_owner(item.fact) == app_and_owner
                and _origin(item.fact) in copies
                else item
                for item in learnt
            ]
        return learnt

    async def _to_learnt_fact(self, fact: StoredFact) -> LearntFact:
        attributes: Mapping[str, Any] = fact.attributes
        if not attributes.get("app") or not attributes.get("session"):
            return LearntFact(fact)
        session_key = (*_app_and_owner(fact), str(attributes["session"]))
        return LearntFact(
            fact, *await self._database.read(session_texts.texts_in_session, *session_key, _origin(fact))
        )


def _app_and_owner(fact: StoredFact) -> tuple[str, str]:
    return str(fact.attributes.get("app", "")), str(fact.attributes["owner"])


def _origin(fact: StoredFact) -> tuple[str, str]:
    """Return the path of the agent that learnt the fact, and the id of the run."""
    return str(fact.attributes.get("path", "")), str(fact.attributes.get("run", ""))
