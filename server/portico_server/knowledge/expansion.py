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
    parent_group: str,
    parents: Mapping[str, str],
    store_id: str,
    database: Database,
) -> list[SearchCandidate]:
    """Each candidate's parent in its place, with the score of its best child; what has no parent stays.

    ``parent_group`` is a group or `OWN_PARENT`; ``parents`` the parent of each group of the store, "" for none.
    """
    into: dict[str, list[HitRow]] = {}
    for item in candidates:
        group = parents.get(item.row.group, "") if parent_group == OWN_PARENT else parent_group
        if group and group != item.row.group:
            into.setdefault(group, []).append(item.row)
    hit_rows: dict[int, HitRow] = {}
    for group, children in into.items():
        hit_rows |= await database.read(groups.parents, store_id, group, children)
    seen_ids: set[int] = set()
    search_candidates = []
    for item in candidates:
        row = hit_rows.get(item.row.id, item.row)
        if row.id not in seen_ids:
            seen_ids.add(row.id)
            search_candidates.append(replace(item, row=row))
    return search_candidates


async def expand_by_neighbours(
    candidates: Sequence[SearchCandidate], reach: int, store_id: str, database: Database
) -> list[SearchCandidate]:
    """Each candidate together with up to ``reach`` chunks before and behind it, as one text in order."""
    search_candidates = []
    for item in candidates:
        around = await database.read(groups.around, store_id, item.row, reach)
        search_candidates.append(replace(item, row=join_neighbours(item.row, around)) if around else item)
    return search_candidates


def join_neighbours(row: HitRow, around: Sequence[HitRow]) -> HitRow:
    """``row`` with the text and the place of all of ``around``; what two chunks share stands there once."""
    text, end = around[0].text, around[0].place.end
    for hit_row in around[1:]:
        shared_chars = end - hit_row.place.start
        if 0 < shared_chars <= len(hit_row.text) and text.endswith(hit_row.text[:shared_chars]):
            text += hit_row.text[shared_chars:]
        else:
            text += "\n" + hit_row.text
        end = max(end, hit_row.place.end)
    return replace(row, text=text, place=replace(around[0].place, end=end))
