"""Names of MCP tools: unique, and limited to characters that every client accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from portico_server.core.names import TOOL_NAME, hashed_name
from portico_server.core.servable import Card
from portico_server.features.mcp import documents, views

_RESERVED = views.NAMES | documents.NAMES


_ORDER = ("tool", "app", "store", "model")


_PREFIXES = {"store": "search_", "model": "ask_"}


def is_plain(name: str) -> bool:
    """Return whether a tool with this name keeps the name unchanged."""
    return re.fullmatch(TOOL_NAME, name) is not None and name == name.strip("_") and name not in _RESERVED


def tool_names(cards: Sequence[Card]) -> dict[str, Card]:
    """Return the cards, keyed by tool name: the card's own name, ``search_NAME`` for a store, or ``ask_NAME`` for a
    model.

    A name that had to be changed, is too long, is reserved or is already used gets a suffix of six digits from
    a hash of the card's key. So the name stays the same whatever other cards exist. If names collide, tools take
    precedence over apps, and apps over stores.
    """
    named_cards: dict[str, Card] = {}
    for card in sorted(cards, key=lambda card: (_ORDER.index(card.kind), card.key)):
        tool_name = f"{_PREFIXES.get(card.kind, '')}{card.name}"
        is_kept = is_plain(tool_name) and tool_name not in named_cards
        named_cards[tool_name if is_kept else hashed_name(tool_name, card.key)] = card
    return named_cards
