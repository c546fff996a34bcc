"""Links the existing passages of a store after its ``links`` setting has changed."""

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
"""Kind of these runs."""


MAX_LINKED_CHUNKS = 500
"""Number of chunks whose links are computed and written together."""


class LinkCatchUp:
    """Creates or removes links until all chunks match `StoreRow.links`.

    The progress is stored in the store's row, so that an interrupted run can continue.
    """

    def __init__(
        self, database: Database, writing: Callable[[str], AbstractAsyncContextManager[None]]
    ) -> None:
        self._database = database
        self._writing = writing

    async def run(self, store_id: str, context: Context) -> JSON:
        """Create or remove the links of all chunks as the store's setting requires. Return the number of chunks
        examined.
        """
        async with self._writing(store_id):
            pass  # ingests that began under the old setting have ended, and later ingests use the new setting
        done_count = 0
        while (store := await self._database.read(rows.get, store_id)) and store.linked_to is not None:
            array = await self._database.read(chunks.ids, store_id)
            at = bisect_right(array, store.linked_to)
            total = done_count + len(array) - at
            while part := list(array[at : at + MAX_LINKED_CHUNKS]):
                links: Mapping[int, Sequence[NewLink]] = {}
                if store.links:
                    texts = await self._database.read(chunks.indexed_texts, part)
                    links = await pools.INDEX.run(_match_names, store_id, texts)
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


def _match_names(
    store_id: str, texts: Sequence[tuple[int, str, str, str, str, int]]
) -> Mapping[int, Sequence[NewLink]]:
    from portico_server.features.stores.links.rules import LinkSource, new_links

    return {
        chunk: new_links(
            store_id,
            LinkSource(text, heading.split("\n") if heading else (), file_id, name, first=ordinal == 0),
        )
        for chunk, file_id, text, heading, name, ordinal in texts
    }
