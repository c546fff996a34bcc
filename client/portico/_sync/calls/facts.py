# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.facts`."""

from __future__ import annotations

from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.facts import Fact, FactHistory


class Facts(Group):
    """Long-term memory: the caller's facts, each with its origin."""

    def get(self, fact_id: str) -> FactHistory:
        """Return a fact and its former versions, newest first."""
        return self._transport.request("GET", at("api", "facts", by_id(fact_id, "a fact")), FactHistory)

    def change(self, fact_id: str, text: str) -> Fact:
        """Replace the text of a fact. The previous text stays in the history; searches use the new text a moment
        later.

        The new text of the fact.
        """
        return self._transport.request(
            "PATCH", at("api", "facts", by_id(fact_id, "a fact")), Fact, json=without_none(text=text)
        )

    def revert(self, fact_id: str) -> Fact:
        """Restore the version before the last change. The present version stays in the history."""
        return self._transport.request("POST", at("api", "facts", by_id(fact_id, "a fact"), "revert"), Fact)

    def remove(self, fact_id: str) -> None:
        """Delete a fact with its former versions."""
        return self._transport.request("DELETE", at("api", "facts", by_id(fact_id, "a fact")), None)
