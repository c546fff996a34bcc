"""Expands passages: replaces them with the chunk of a coarser group that contains them, or adds the neighbouring
chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from portico_server.db import groups
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.features.stores.search_candidate import SearchCandidate

OWN_PARENT = "*"
"""Selects, for each candidate, the parent of the group that the candidate belongs to."""


async def expand_to_parents(
    candidates: Sequence[SearchCandidate],
    parent_group: str,
    parents: Mapping[str, str],
    store_id: str,
    database: Database,
) -> list[SearchCandidate]:
    """Replace each candidate with its parent, scored like its best child. Candidates without a parent are kept.

    ``parent_group`` is a group or `OWN_PARENT`. ``parents`` maps each group of the store to its parent group, "" for
    none.
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
    """Merge each candidate with up to ``reach`` chunks before and after it into one text, in reading order."""
    search_candidates = []
    for item in candidates:
        around = await database.read(groups.around, store_id, item.row, reach)
        search_candidates.append(replace(item, row=join_neighbours(item.row, around)) if around else item)
    return search_candidates


def join_neighbours(row: HitRow, around: Sequence[HitRow]) -> HitRow:
    """Return ``row`` with the merged text and place of all rows in ``around``. Overlapping text is not repeated."""
    text, end = around[0].text, around[0].place.end
    for hit_row in around[1:]:
        shared_chars = end - hit_row.place.start
        if 0 < shared_chars <= len(hit_row.text) and text.endswith(hit_row.text[:shared_chars]):
            text += hit_row.text[shared_chars:]
        else:
            text += "\n" + hit_row.text
        end = max(end, hit_row.place.end)
    return replace(row, text=text, place=replace(around[0].place, end=end))
