# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.facts`."""

from __future__ import annotations

from portico._async.group import Group
from portico._request import at, by_id, without_none
from portico.schemas.facts import Fact


class Facts(Group):
    """Long-term memory: the caller's facts, each with its origin."""

    async def change(self, fact_id: str, text: str) -> Fact:
        """Replace the text of a fact. Searches use the new text a moment later.

        The new text of the fact.
        """
        return await self._transport.request(
            "PATCH", at("api", "facts", by_id(fact_id, "a fact")), Fact, json=without_none(text=text)
        )

    async def remove(self, fact_id: str) -> None:
        """Delete a fact."""
        return await self._transport.request("DELETE", at("api", "facts", by_id(fact_id, "a fact")), None)
