"""Chunk groups: the same files cut in other ways, in a tree, made and removed while the store serves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico_server.core.errors import Conflict, InvalidRequest, NotFound, nearest
from portico_server.db import groups as rows
from portico_server.db.changes import GROUP
from portico_server.db.database import Database
from portico_server.db.groups import GroupCounts, GroupRow
from portico_server.db.stores import StoreRow
from portico_server.knowledge.chunk.chunkers import check
from portico_server.knowledge.contents import Contents
from portico_server.knowledge.index.follow import Indexes

MOST = 16
"""Groups of one store."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _tokens(size: int, overlap: int) -> dict[str, Any]:
    return {
        "type": "static",
        "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap},
    }


PRESETS: Mapping[str, tuple[dict[str, Any], str]] = {
    "CoarseChunk": (_tokens(1024, 100), ""),
    "MediumChunk": (_tokens(256, 25), "CoarseChunk"),
    "FineChunk": (_tokens(128, 12), "MediumChunk"),
}
"""Groups that need no further word: (chunking, parent where the store has it)."""


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group with how far it is. ``waiting`` files of the store are not in it yet."""

    name: str
    parent: str
    chunking: Mapping[str, Any]
    embedding_model: str
    completed: int
    failed: int
    waiting: int
    chunks: int


class Groups:
    """Works on a `StoreRow` that `Stores.get` has handed out for ``read`` or ``manage``: rights were checked there."""

    def __init__(self, database: Database, contents: Contents, indexes: Indexes) -> None:
        self._database = database
        self._contents = contents
        self._indexes = indexes

    async def add(
        self,
        store: StoreRow,
        name: str,
        *,
        chunking: Any = None,
        parent: str | None = None,
        embedding_model: str | None = None,
    ) -> tuple[GroupRow, str]:
        """Make a group of all files of a store, in the background; its row, and the id of the run.

        ``chunking`` is as in a request; left out, that of `PRESETS` or ``auto``. ``parent`` names a group of the
        store, in whose chunks these lie; ``embedding_model`` is checked by the caller, ``None`` the store's own.
        """
        if _NAME.fullmatch(name) is None or name == GROUP:
            raise InvalidRequest(
                f"'{name[:64]}' cannot be the name of a group: take up to 64 letters, digits, - and _, and not "
                f"'{GROUP}', which every store has.",
                param="name",
            )
        known = await self._database.read(rows.of_store, store.id)
        names = [GROUP, *(row.name for row in known)]
        if len(known) >= MOST:
            raise InvalidRequest(
                f"The store has {MOST} groups, which is the most there can be.", param="name"
            )
        preset, above = PRESETS.get(name, (None, ""))
        if parent is None:
            parent = above if above in names else ""
        if parent and parent not in names:
            raise _unknown(parent, names, "parent")
        row = rows.new(store.id, name, parent, check(chunking or preset), embedding_model)
        if not await self._database.write(rows.add, row):
            raise Conflict(
                f"The store has a group '{name}' already. Remove it first to make it anew.",
                code="name_taken",
                param="name",
            )
        return row, await self._contents.queue(store)

    async def remove(self, store: StoreRow, name: str) -> None:
        """Remove a group with its chunks, vectors and index. Raises `Conflict` while another group lies in it."""
        known = await self._database.read(rows.of_store, store.id)
        if name == GROUP:
            raise Conflict(f"Every store has the group '{GROUP}'; it cannot be removed.", param="group")
        if name not in (row.name for row in known):
            raise _unknown(name, [row.name for row in known], "group")
        inside = [row.name for row in known if row.parent == name]
        if inside:
            raise Conflict(
                f"The group '{name}' is the parent of {', '.join(inside)}: remove that first.", param="group"
            )
        await self._database.write(rows.remove, store.id, name)
        await self._indexes.drop(store.id, name)

    async def list(self, store: StoreRow, files: int) -> Sequence[GroupInfo]:
        """The groups of a store, its own first. ``files``: how many of its files are completed."""
        counts = await self._database.read(rows.counts, store.id)
        own = GroupInfo(GROUP, "", {"type": "auto"}, store.embedding_model, files, 0, 0, counts[GROUP].chunks)
        found = [own]
        for row in await self._database.read(rows.of_store, store.id):
            count = counts.get(row.name, GroupCounts())
            found.append(
                GroupInfo(
                    row.name,
                    row.parent,
                    row.chunking,
                    row.model(store.embedding_model),
                    count.completed,
                    count.failed,
                    max(0, files - count.completed - count.failed),
                    count.chunks,
                )
            )
        return found


def _unknown(name: str, known: Sequence[str], param: str) -> NotFound:
    return NotFound(
        f"The store has no group '{name[:64]}'.{nearest(name, known)} There are: {', '.join(known) or 'none'}.",
        code="group_not_found",
        param=param,
    )
