"""Passages that grow: to the chunk of a coarser group that holds them, or by their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from portico_server.db import groups
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.knowledge.stages.candidate import Candidate

OWN = "*"
"""The parent of whatever group a candidate is from."""


async def to_parents(
    candidates: Sequence[Candidate],
    wanted: str,
    parents: Mapping[str, str],
    store_id: str,
    database: Database,
) -> list[Candidate]:
    """Each candidate's parent in its place, with the score of its best child; what has no parent stays.

    ``wanted`` is a group or `OWN`; ``parents`` the parent of each group of the store, "" for none.
    """
    into: dict[str, list[HitRow]] = {}
    for item in candidates:
        group = parents.get(item.row.group, "") if wanted == OWN else wanted
        if group and group != item.row.group:
            into.setdefault(group, []).append(item.row)
    found: dict[int, HitRow] = {}
    for group, hits in into.items():
        found |= await database.read(groups.parents, store_id, group, hits)
    seen: set[int] = set()
    grown = []
    for item in candidates:
        row = found.get(item.row.id, item.row)
        if row.id not in seen:
            seen.add(row.id)
            grown.append(replace(item, row=row))
    return grown


async def by_neighbours(
    candidates: Sequence[Candidate], reach: int, store_id: str, database: Database
) -> list[Candidate]:
    """Each candidate together with up to ``reach`` chunks before and behind it, as one text in order."""
    grown = []
    for item in candidates:
        around = await database.read(groups.around, store_id, item.row, reach)
        grown.append(replace(item, row=joined(item.row, around)) if around else item)
    return grown


def joined(row: HitRow, around: Sequence[HitRow]) -> HitRow:
    """``row`` with the text and the place of all of ``around``; what two chunks share stands there once."""
    text, end = around[0].text, around[0].place.end
    for other in around[1:]:
        shared = end - other.place.start
        if 0 < shared <= len(other.text) and text.endswith(other.text[:shared]):
            text += other.text[shared:]
        else:
            text += "\n" + other.text
        end = max(end, other.place.end)
    return replace(row, text=text, place=replace(around[0].place, end=end))
