"""Passages that grow: to the chunk of a coarser group that holds them, or by their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from portico_server.db import groups
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.knowledge.search_candidate import SearchCandidate

OWN_PARENT = "*"
"""The parent of whatever group a candidate is from."""


async def expand_to_parents(
    candidates: Sequence[SearchCandidate],
    wanted: str,
    parents: Mapping[str, str],
    store_id: str,
    database: Database,
) -> list[SearchCandidate]:
    """Each candidate's parent in its place, with the score of its best child; what has no parent stays.

    ``wanted`` is a group or `OWN_PARENT`; ``parents`` the parent of each group of the store, "" for none.
    """
    into: dict[str, list[HitRow]] = {}
    for item in candidates:
        group = parents.get(item.row.group, "") if wanted == OWN_PARENT else wanted
        if group and group != item.row.group:
            into.setdefault(group, []).append(item.row)
    found: dict[int, HitRow] = {}
    for group, children in into.items():
        found |= await database.read(groups.parents, store_id, group, children)
    seen: set[int] = set()
    grown = []
    for item in candidates:
        row = found.get(item.row.id, item.row)
        if row.id not in seen:
            seen.add(row.id)
            grown.append(replace(item, row=row))
    return grown


async def expand_by_neighbours(
    candidates: Sequence[SearchCandidate], reach: int, store_id: str, database: Database
) -> list[SearchCandidate]:
    """Each candidate together with up to ``reach`` chunks before and behind it, as one text in order."""
    grown = []
    for item in candidates:
        around = await database.read(groups.around, store_id, item.row, reach)
        grown.append(replace(item, row=join_neighbours(item.row, around)) if around else item)
    return grown


def join_neighbours(row: HitRow, around: Sequence[HitRow]) -> HitRow:
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
