"""Finding tools: by the group they are in, and by words."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.core.servable import Card


def find(cards: Iterable[Card], group: str = "", words: str = "") -> list[Card]:
    """The cards of ``group`` that hold all ``words``, best first; all cards in their order if neither is given.

    A word is looked for in the name and title first, then in the description, then in the arguments, as a part of
    what stands there and without regard to case.
    """
    wanted = words.casefold().split()
    ranked = []
    for card in cards:
        if group and card.labels.get("group") != group:
            continue
        ranks = [_rank(card, word) for word in wanted]
        if None not in ranks:
            ranked.append((sum(rank for rank in ranks if rank is not None), card))
    return [card for _rank_, card in sorted(ranked, key=lambda pair: pair[0])]


def _rank(card: Card, word: str) -> int | None:
    """0 for a hit in the name, more for less telling places, ``None`` for none."""
    properties = (card.input_schema or {}).get("properties") or {}
    arguments = " ".join(
        f"{name} {schema.get('description', '') if isinstance(schema, dict) else ''}"
        for name, schema in properties.items()
    )
    for rank, text in enumerate((f"{card.name} {card.title}", card.description, arguments)):
        if word in text.casefold():
            return rank
    return None
