"""Names of MCP tools: unique, and of the characters that every client takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from portico_server.core.servable import Card

LONGEST = 64
"""MCP allows 128 characters, the APIs of most models that are given the tools 64."""

_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")
_ORDER = ("tool", "app", "store")


def is_plain(name: str) -> bool:
    """Whether a tool of this name goes by it unchanged."""
    return 0 < len(name) <= LONGEST and name == name.strip("_") and _FOREIGN.search(name) is None


def tool_names(cards: Sequence[Card]) -> dict[str, Card]:
    """A name for each card: its own, ``search_NAME`` for a store.

    A name that had to be changed, is too long or is taken gets six letters of a hash of the card's key at
    its end, so that it stays the same whatever else is there. Tools come before apps and apps before
    stores.
    """
    named: dict[str, Card] = {}
    for card in sorted(cards, key=lambda card: (_ORDER.index(card.kind), card.key)):
        wanted = f"search_{card.name}" if card.kind == "store" else card.name
        name = _FOREIGN.sub("_", wanted).strip("_")
        if name != wanted or len(name) > LONGEST or name in named:
            name = f"{name[: LONGEST - 7]}_{sha256(card.key.encode()).hexdigest()[:6]}".lstrip("_")
        named[name] = card
    return named
