"""Agent cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from portico_server import __version__
from portico_server.core.servable import Card

VERSION: Final = "1.0"
"""Version of the protocol."""

CARD_PATH: Final = "/.well-known/agent-card.json"

_OUTPUTS: Final = ("text/plain", "application/octet-stream", "image/png")


def agent_card(card: Card, name: str, base: str, cards: Sequence[Card], *, is_keyed: bool) -> dict[str, Any]:
    """Return the agent card for ``name``.

    ``cards`` are the other agents that the card lists as skills; ``is_keyed`` is whether the daemon requires a key.
    """
    url = f"{base}/a2a/{quote(name)}"
    document: dict[str, Any] = {
        "name": card.title or card.name,
        "description": _about(card),
        "supportedInterfaces": [
            {"url": url, "protocolBinding": binding, "protocolVersion": VERSION}
            for binding in ("JSONRPC", "HTTP+JSON")
        ],
        "provider": {"organization": "Portico", "url": base},
        "version": __version__,
        "documentationUrl": f"{base}/docs",
        "capabilities": {"streaming": True, "pushNotifications": True, "extendedAgentCard": False},
        "securitySchemes": {
            "key": {
                "httpAuthSecurityScheme": {
                    "scheme": "Bearer",
                    "description": "A key of this daemon, 'pk-…', created by its operator.",
                }
            }
        },
        "defaultInputModes": ["text/plain", "application/json", "image/png", "image/jpeg"],
        "defaultOutputModes": list(_OUTPUTS),
        "skills": [_skill(card, ""), *(_skill(entry, f"{base}/a2a/{quote(entry.name)}") for entry in cards)],
    }
    if is_keyed:
        document["securityRequirements"] = [{"schemes": {"key": {"list": []}}}]
    return document


def _about(card: Card) -> str:
    return card.description or f"Answers messages as the {card.kind} '{card.name}'."


def _skill(card: Card, url: str) -> dict[str, Any]:
    """Return the skill entry for an agent. ``url`` is the agent's own address if the entry appears on another agent's
    card.
    """
    elsewhere = f" It is a separate agent at {url}." if url else ""
    return {
        "id": card.name,
        "name": card.title or card.name,
        "description": f"{_about(card)}{elsewhere}",
        "tags": [card.kind],
    }
