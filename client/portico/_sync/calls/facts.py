# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.facts`."""

from __future__ import annotations

from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.facts import Fact


class Facts(Group):
    """The long-term memory: facts of our own, each with where it was learnt."""

    def change(self, fact_id: str, text: str) -> Fact:
        """Put another text in its place. A search finds the new one a moment later.

        What the fact says from now on.
        """
        return self._transport.request(
            "PATCH", at("api", "facts", by_id(fact_id, "a fact")), Fact, json=given(text=text)
        )

    def remove(self, fact_id: str) -> None:
        """Forget it."""
        return self._transport.request("DELETE", at("api", "facts", by_id(fact_id, "a fact")), None)
