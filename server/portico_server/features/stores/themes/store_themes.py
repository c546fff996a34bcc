"""Reads what a store is about, from a sample of the passages that a caller may read, and which files changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from portico.schemas.stores import MentionedName, NamePair, StoreThemes, Theme
from portico.wire import Passage
from portico_server.core import filter as filters
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.request import Filter
from portico_server.core.themes import ChangedFile, ChangedFiles, FindChangedFiles
from portico_server.db import chunks, hits, stores
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.chunks import ChunkRow
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.db.stores import StoreFileRow

MAX_EXAMINED_PASSAGES: Final = 600
"""Maximum number of passages that are examined. They are distributed evenly over the store."""

MAX_THEMES: Final = 8

MIN_THEME_PASSAGES: Final = 2
"""Minimum number of passages of a theme, unless the store has only one."""

MAX_NAMES: Final = 20

MAX_CACHED_RESULTS: Final = 64


@dataclass(frozen=True, slots=True)
class _GroupedPassages:
    """The themes of a store, and the theme of each examined passage by the number of its chunk."""

    themes: StoreThemes
    theme_of: Mapping[int, Theme]


class ThemeReader:
    """Computes the themes of stores, and caches them until the store changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[tuple[str, int], _GroupedPassages] = OrderedDict()
        """Themes by store and the hash of the passages that were examined."""

    async def read(self, store_id: str, store_name: str, condition: Filter | None) -> StoreThemes:
        """Return the themes of a store, from files that meet ``condition``."""
        return (await self._group(store_id, store_name, condition)).themes

    async def passage_themes(
        self, store_id: str, store_name: str, condition: Filter | None
    ) -> Mapping[int, Theme]:
        """Return the theme of each examined passage that has a theme, by the number of its chunk."""
        return (await self._group(store_id, store_name, condition)).theme_of

    async def _group(self, store_id: str, store_name: str, condition: Filter | None) -> _GroupedPassages:
        ids = await self._ids(store_id, condition)
        step = max(1, -(-len(ids) // MAX_EXAMINED_PASSAGES))
        rows = [
            row
            for row in (await self._database.read(hits.get, store_id, ids[::step])).values()
            if condition is None or filters.permits(condition, row)
        ]
        key = (store_id, hash(tuple((row.id, row.filename) for row in rows)))
        passages = self._cache.pop(key, None)
        if passages is None:
            passages = await pools.SEARCH.run(_grouped, store_name, rows, len(ids))
        self._cache[key] = passages  # the last entry: used most recently
        if len(self._cache) > MAX_CACHED_RESULTS:
            self._cache.popitem(last=False)
        return passages

    async def changed_files(
        self, store_id: str, store_name: str, condition: Filter | None, request: FindChangedFiles
    ) -> ChangedFiles:
        """Return the files of a store that changed and meet ``condition``, each with its first passage."""
        rows = [
            (row, changed_at)
            for row, changed_at in await self._database.read(stores.changed_files, store_id, request.since)
            if condition is None or filters.permits(condition, row)
        ]
        newest_rows = rows[: request.limit]
        first_chunks = await self._database.read(
            chunks.first_of_files, store_id, [row.file_id for row, _ in newest_rows]
        )
        changed_files = tuple(
            ChangedFile(_passage(store_name, row, first_chunks[row.file_id]), changed_at)
            for row, changed_at in newest_rows
            if row.file_id in first_chunks
        )
        return ChangedFiles(changed_files, len(rows))

    async def _ids(self, store_id: str, condition: Filter | None) -> Sequence[int]:
        if condition is None:
            return await self._database.read(chunks.ids, store_id)
        rows = await self._database.read(hits.labels, store_id)
        files = [file_id for file_id, _ in filters.permitted(condition, rows)]
        ranges = await self._database.read(hits.ranges_of_files, store_id, files, DEFAULT_GROUP)
        return [number for first, last in ranges for number in range(first, last + 1)]


def _grouped(store_name: str, rows: Sequence[HitRow], passage_count: int) -> _GroupedPassages:
    # Imported with the first request for themes, not at the start of the daemon.
    from portico_server.features.stores.links.rules import LinkSource
    from portico_server.features.stores.themes.clusters import cluster
    from portico_server.features.stores.themes.mentions import find_mentions
    from portico_server.features.stores.themes.theme_words import theme_words

    # In the order of the files, because the ids of chunks depend on which file was read first.
    rows = sorted(
        {row.text: row for row in rows}.values(), key=lambda row: (row.filename, row.file_id, row.ordinal)
    )
    passages = [_passage(store_name, row, row) for row in rows]
    clusters = [
        item
        for item in cluster([theme_words(row.text) for row in rows])
        if item.words and len(item.members) >= min(MIN_THEME_PASSAGES, len(rows))
    ][:MAX_THEMES]
    themes = tuple(
        Theme(
            tuple(item.words),
            len(item.members),
            len({rows[number].file_id for number in item.members}),
            passages[item.members[0]],
        )
        for item in clusters
    )
    theme_of = {
        rows[number].id: theme
        for item, theme in zip(clusters, themes, strict=True)
        for number in item.members
    }
    mentions = find_mentions([LinkSource(row.text, row.place.heading) for row in rows], MAX_NAMES)
    names = tuple(
        MentionedName(item.name, item.kind, len(item.passages), passages[item.passages[0]])
        for item in mentions.names
    )
    pairs = tuple(NamePair((first, second), count) for first, second, count in mentions.pairs)
    return _GroupedPassages(StoreThemes(themes, names, pairs, len(rows), passage_count), theme_of)


def _passage(store_name: str, file: HitRow | StoreFileRow, chunk: ChunkRow) -> Passage:
    return Passage(1, 1.0, chunk.text, chunk.file_id, file.filename, chunk.place, store_name, file.attributes)
