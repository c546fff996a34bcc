"""What agents keep of conversations for later ones."""

from __future__ import annotations

from portico._async.group import Group
from portico._calls.facts import fact_change, fact_remove, facts_list
from portico.values import Fact


class Facts(Group):
    """The long-term memory: facts of our own, each with where it was learnt."""

    async def list(
        self,
        *,
        store: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        limit: int = 100,
    ) -> list[Fact]:
        """The newest first; of a store, learnt by an agent, or all that was learnt in a ``session`` (its id)."""
        return await self._transport.send(facts_list(store, agent, session, limit))

    async def change(self, fact_id: str, text: str) -> Fact:
        """Put another text in its place."""
        return await self._transport.send(fact_change(fact_id, text))

    async def remove(self, fact_id: str) -> None:
        """Forget it."""
        return await self._transport.send(fact_remove(fact_id))
