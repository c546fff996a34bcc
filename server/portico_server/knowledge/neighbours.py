"""The links of a store as a caller may see them: the neighbours of a passage, and all of them as GraphML."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet

from portico.schemas.stores import LinkedPassage
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.db import chunks, hits, links
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.db.links import LinkRow
from portico_server.knowledge.graphml import GRAPH_HEAD, graph_elements
from portico_server.knowledge.store import StoreView

MAX_NEIGHBOURS_ROWS = 100
"""Neighbours in one page."""

MAX_PAGE_CHUNKS = 100
"""Passages of a graph that are written together."""


@dataclass(frozen=True, slots=True)
class NeighbourPage:
    """One page of neighbours of the passage ``chunk``, those by the rarest terms first."""

    chunk: int
    data: tuple[LinkedPassage, ...]
    has_more: bool


class StoreLinks:
    """Works on a `StoreView` that `Stores.get` has handed out for ``read``; of files that it does not permit nothing is
    shown or counted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chunk_at(self, store: StoreView, file_id: str, start: int) -> int:
        """The passage of a file in which the character ``start`` lies, as `Place.start` counts. Raises `NotFound`."""
        found = await self._database.read(chunks.id_at, store.id, file_id, start)
        if found is None or not await self._hits(store, [found]):
            raise NotFound(
                f"The store '{store.name or store.id}' has no passage there: no file '{file_id[:80]}' with a character "
                f"{start}.",
                code="chunk_not_found",
                param="file",
            )
        return found

    async def neighbours(
        self, store: StoreView, chunk: int, *, after: int = 0, limit: int = 20
    ) -> NeighbourPage:
        """The passages that name what the passage ``chunk`` names, ``limit`` of them behind the first ``after``.

        Raises `NotFound`, `InvalidRequest` for a store without links.
        """
        require_links(store)
        row = (await self._hits(store, [chunk])).get(chunk)
        if row is None or row.group != DEFAULT_GROUP:
            raise NotFound(
                f"The store '{store.name or store.id}' has no passage {chunk}.",
                code="chunk_not_found",
                param="chunk",
            )
        own = {link.term: link for link in await self._database.read(links.of_chunks, [chunk])}
        named = await self._naming(list(own), await self._permitted(store))
        named = {term: [link for link in rows if link.chunk_id != chunk] for term, rows in named.items()}
        ordered: dict[int, LinkRow] = {}
        best_first = sorted(
            named, key=lambda term: (-own[term].weight, len(named[term]), own[term].kind, term)
        )
        for term in best_first:
            for link in named[term]:
                ordered.setdefault(link.chunk_id, link)
        page = list(ordered.values())[after : after + limit]
        found = await self._hits(store, [link.chunk_id for link in page])
        texts = await pools.SEARCH.run(_texts, store.id, [row])
        data = tuple(
            _linked(found[link.chunk_id], texts.get(link.term, ""), link.kind)
            for link in page
            if link.chunk_id in found
        )
        return NeighbourPage(chunk, data, len(ordered) > after + limit)

    async def graph(self, store: StoreView) -> AsyncIterator[bytes]:
        """All passages and the terms that link at least two of them, as GraphML, piece by piece."""
        yield GRAPH_HEAD.encode()
        permitted = await self._permitted(store)
        ids = await self._database.read(chunks.ids, store.id)
        for at in range(0, len(ids), MAX_PAGE_CHUNKS):
            part = list(ids[at : at + MAX_PAGE_CHUNKS])
            found = await self._hits(store, part)
            kept = [found[chunk] for chunk in part if chunk in found]
            own = await self._database.read(links.of_chunks, [row.id for row in kept])
            named: dict[int, list[LinkRow]] = {}
            terms = list(dict.fromkeys(link.term for link in own))
            for i in range(0, len(terms), _TERMS_READ_ROWS):
                named |= await self._naming(terms[i : i + _TERMS_READ_ROWS], permitted)
            texts = await pools.SEARCH.run(_texts, store.id, kept)
            yield "".join(graph_elements(kept, own, named, texts)).encode(errors="replace")
        yield b"</graph>\n</graphml>\n"

    async def _hits(self, store: StoreView, wanted: Sequence[int]) -> dict[int, HitRow]:
        """Those of the passages ``wanted`` that are of this store and that the caller may read."""
        rows = await self._database.read(hits.get, store.id, wanted)
        ours = await self._database.read(chunks.of_store, store.id, list(rows))
        return {chunk: row for chunk, row in rows.items() if chunk in ours and store.permits(row.attributes)}

    async def _permitted(self, store: StoreView) -> AbstractSet[str] | None:
        """The files that the caller may read; ``None``: all of them."""
        if store.whole:
            return None
        found = await self._database.read(hits.attributes, store.id)
        return frozenset(file_id for file_id, attributes in found if store.permits(attributes))

    async def _naming(
        self, terms: Sequence[int], permitted: AbstractSet[str] | None
    ) -> dict[int, list[LinkRow]]:
        """Who names terms, among the passages of those files."""
        named: dict[int, list[LinkRow]] = {}
        for link in await self._database.read(links.naming, terms, with_files=permitted is not None):
            if permitted is None or link.file_id in permitted:
                named.setdefault(link.term, []).append(link)
        return named


_TERMS_READ_ROWS = links.MAX_LINKS_READ_ROWS // links.MAX_TERM_CHUNKS
"""Terms whose links fit into one statement, however many each has."""


def require_links(store: StoreView) -> None:
    """Raise `InvalidRequest` for a store whose passages are not linked."""
    if not store.links:
        raise InvalidRequest(
            f"The store '{store.name or store.id}' has no links between its passages. Turn them on with 'links': true "
            f"of the store: portico stores change {store.name or store.id} --links.",
            code="links_off",
            param="store",
        )


def _texts(store_id: str, rows: Sequence[HitRow]) -> dict[int, str]:
    """What the keys of terms in passages stand for: found again in their texts, as it is not kept."""
    from portico_server.knowledge.links.rules import LinkSource, terms

    return {
        term.key(store_id): term.text
        for row in rows
        for term in terms(
            LinkSource(row.text, row.place.heading, row.file_id, row.filename, first=row.ordinal == 0)
        )
    }


def _linked(row: HitRow, term: str, kind: int) -> LinkedPassage:
    return LinkedPassage(
        row.id, term, links.KINDS.get(kind, "name"), row.text, row.file_id, row.filename, row.place
    )
