"""Names of MCP tools: unique, and limited to characters that every client accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from portico_server.core.servable import Card
from portico_server.features.mcp import documents, views

MAX_NAME_CHARS = 64
"""Maximum length of a name, in characters. MCP allows 128 characters; the APIs of most models that receive the tools
allow 64.
"""


_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


_RESERVED = views.NAMES | documents.NAMES


_ORDER = ("tool", "app", "store", "model")


_PREFIXES = {"store": "search_", "model": "ask_"}


def is_plain(name: str) -> bool:
    """Return whether a tool with this name keeps the name unchanged."""
    return (
        0 < len(name) <= MAX_NAME_CHARS
        and name == name.strip("_")
        and name not in _RESERVED
        and _FOREIGN.search(name) is None
    )


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
        name = _FOREIGN.sub("_", tool_name).strip("_")
        if name != tool_name or len(name) > MAX_NAME_CHARS or name in named_cards or name in _RESERVED:
            name = f"{name[: MAX_NAME_CHARS - 7]}_{sha256(card.key.encode()).hexdigest()[:6]}".lstrip("_")
        named_cards[name] = card
    return named_cards
