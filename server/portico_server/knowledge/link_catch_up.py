"""Link the passages of a store that were there before its setting changed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from portico.wire import JSON, Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.db import chunks, links_progress
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.links import NewLink

LINK_RUN_KIND = "link"
"""The kind of these runs."""


MAX_LINKED_CHUNKS = 500
"""Chunks whose links are found and written together."""


class LinkCatchUp:
    """Makes or removes what `StoreRow.links` says. How far it is stands in the store's row, so that a run that was cut
    off continues there.
    """

    def __init__(
        self, database: Database, writing: Callable[[str], AbstractAsyncContextManager[None]]
    ) -> None:
        self._database = database
        self._writing = writing

    async def run(self, store_id: str, context: Context) -> JSON:
        """Bring all chunks of a store in line with its setting; how many were looked at."""
        async with self._writing(store_id):
            pass  # an ingest that began under the old setting has ended; later ones know the new one
        done_count = 0
        while (store := await self._database.read(rows.get, store_id)) and store.linked_to is not None:
            array = await self._database.read(chunks.ids, store_id)
            at = bisect_right(array, store.linked_to)
            total = done_count + len(array) - at
            while part := list(array[at : at + MAX_LINKED_CHUNKS]):
                links: Mapping[int, Sequence[NewLink]] = {}
                if store.links:
                    texts = await self._database.read(chunks.indexed_texts, part)
                    links = await pools.INDEX.run(_named, store_id, texts)
                if not await self._database.write(
                    links_progress.catch_up, store_id, part, links, keep=store.links
                ):
                    break  # changed again
                at += len(part)
                done_count += len(part)
                await context.emit(Progressed("link", "", done=done_count, total=total, unit="chunks"))
            else:
                await self._database.write(links_progress.caught_up, store_id, keep=store.links)
        return {"linked": done_count}


def _named(
    store_id: str, texts: Sequence[tuple[int, str, str, str, str, int]]
) -> Mapping[int, Sequence[NewLink]]:
    from portico_server.knowledge.links.rules import LinkSource, new_links

    return {
        chunk: new_links(
            store_id,
            LinkSource(text, heading.split("\n") if heading else (), file_id, name, first=ordinal == 0),
        )
        for chunk, file_id, text, heading, name, ordinal in texts
    }
