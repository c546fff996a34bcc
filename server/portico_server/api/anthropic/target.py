"""What of a model decides how a Messages request is put to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from portico_server.core.servable import Card

PROTOCOL = "messages"
"""The capability of a model that takes a Messages request as its caller wrote it."""

THOUGHTS = "thoughts"
"""The capability of a model whose template is told what the model thought, and how much it should. Elsewhere a provider
may refuse such fields, so they stay a hint.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """``speaks``: what has no translation reaches it in its caller's own words. ``thinks``: it is told earlier
    thoughts, and how much to think. ``context_length``: tokens that a call may have, ``None`` if unknown.
    """

    speaks: bool = False
    thinks: bool = False
    context_length: int | None = None

    @classmethod
    def of(cls, card: Card) -> Target:
        """From what is known of a model or an app without calling it."""
        length = card.labels.get("context_length")
        return cls(
            PROTOCOL in card.capabilities,
            THOUGHTS in card.capabilities,
            length if isinstance(length, int) else None,
        )
