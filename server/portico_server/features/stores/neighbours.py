"""The links of a store as a caller may see them: the neighbours of a passage, and the whole link graph as GraphML."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from portico.schemas.stores import LinkedPassage, Theme
from portico.wire import Place
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.registry import Registry
from portico_server.db import chunks, hits, links
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.db.links import LinkRow
from portico_server.features.stores.graphml import GRAPH_HEAD, graph_elements
from portico_server.features.stores.store import StoreView, pass_content
from portico_server.features.stores.themes.store_themes import ThemeReader

MAX_NEIGHBOURS_ROWS = 100
"""Maximum number of neighbours in a page."""

MAX_PAGE_CHUNKS = 100
"""Number of passages of a link graph that are written together."""

MAX_KIND_PASSAGES = 5
"""Maximum number of passages from which the kind of a name in a link graph is estimated."""


@dataclass(frozen=True, slots=True)
class NeighbourPage:
    """One page of the neighbours of the passage ``chunk``. Neighbours that share the rarest terms come first."""

    chunk: int
    data: tuple[LinkedPassage, ...]
    has_more: bool


class StoreLinks:
    """Reads the links of a store. The caller must get a `StoreView` from `Stores.get` for ``read``, which checks the
    rights.

    Files that the view does not permit are neither shown nor counted.
    """

    def __init__(self, database: Database, themes: ThemeReader, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._themes = themes

    async def chunk_at(self, store: StoreView, file_id: str, start: int) -> int:
        """Return the id of a file's passage that contains the character at ``start``, counted like `Place.start`.
        Raises `NotFound`.
        """
        chunk_id = await self._database.read(chunks.id_at, store.id, file_id, start)
        if chunk_id is None or not await self._hits(store, [chunk_id]):
            raise NotFound(
                f"The store '{store.name or store.id}' contains no passage of the file '{file_id[:80]}' at "
                f"character {start}.",
                code="chunk_not_found",
                param="file",
            )
        return chunk_id

    async def neighbours(
        self, store: StoreView, chunk: int, *, after: int = 0, limit: int = 20
    ) -> NeighbourPage:
        """Return up to ``limit`` passages that share a term with the passage ``chunk``, skipping the first ``after``.

        Raises `NotFound` if the passage does not exist, and `InvalidRequest` for a store without links.
        """
        require_links(store)
        row = (await self._hits(store, [chunk])).get(chunk)
        if row is None or row.group != DEFAULT_GROUP:
            raise NotFound(
                f"The store '{store.name or store.id}' has no passage {chunk}.",
                code="chunk_not_found",
                param="chunk",
            )
        own_links = {link.term: link for link in await self._database.read(links.of_chunks, [chunk])}
        links_by_term = await self._naming(list(own_links), await self._permitted(store))
        links_by_term = {
            term: [link for link in rows if link.chunk_id != chunk] for term, rows in links_by_term.items()
        }
        link_rows: dict[int, LinkRow] = {}
        best_first = sorted(
            links_by_term,
            key=lambda term: (-own_links[term].weight, len(links_by_term[term]), own_links[term].kind, term),
        )
        for term in best_first:
            for link in links_by_term[term]:
                link_rows.setdefault(link.chunk_id, link)
        page = list(link_rows.values())[after : after + limit]
        hit_rows = await self._hits(store, [link.chunk_id for link in page])
        texts = await pools.SEARCH.run(_texts, store.id, [row])
        data = tuple(
            _linked(hit_rows[link.chunk_id], texts.get(link.term, ""), link.kind)
            for link in page
            if link.chunk_id in hit_rows
        )
        linked_passages = await pass_content(self._registry, store, data)
        return NeighbourPage(chunk, linked_passages, len(link_rows) > after + limit)

    async def graph(self, store: StoreView) -> AsyncIterator[bytes]:
        """Yield a GraphML document, in pieces, with all passages and the terms that link at least two of them."""
        yield GRAPH_HEAD.encode()
        theme_of = await self._passage_themes(store)
        abstract_set = await self._permitted(store)
        ids = await self._database.read(chunks.ids, store.id)
        for at in range(0, len(ids), MAX_PAGE_CHUNKS):
            part = list(ids[at : at + MAX_PAGE_CHUNKS])
            found_hit_rows = await self._hits(store, part)
            hit_rows = await self._guarded_rows(
                store, [found_hit_rows[n] for n in part if n in found_hit_rows]
            )
            own_links = await self._database.read(links.of_chunks, [row.id for row in hit_rows])
            link_rows: dict[int, list[LinkRow]] = {}
            terms = list(dict.fromkeys(link.term for link in own_links))
            for i in range(0, len(terms), _TERMS_READ_ROWS):
                link_rows |= await self._naming(terms[i : i + _TERMS_READ_ROWS], abstract_set)
            texts = await pools.SEARCH.run(_texts, store.id, hit_rows)
            kinds = await self._kinds(store, link_rows, texts)
            elements = graph_elements(hit_rows, own_links, link_rows, texts, kinds, theme_of)
            yield "".join(elements).encode(errors="replace")
        yield b"</graph>\n</graphml>\n"

    async def _guarded_rows(self, store: StoreView, hit_rows: Sequence[HitRow]) -> Sequence[HitRow]:
        """Return passages as the guards of the store let them pass; blocked passages stay in the graph without text."""
        passed_rows = {row.id: row for row in await pass_content(self._registry, store, hit_rows)}
        return [passed_rows.get(row.id) or replace(row, text="", place=Place()) for row in hit_rows]

    async def _passage_themes(self, store: StoreView) -> Mapping[int, Theme]:
        """Return the themes of passages that the guards of the store let pass."""
        theme_of = await self._themes.passage_themes(store.id, store.name or store.id, store.condition)
        passed_themes = {}
        for theme in {theme.words: theme for theme in theme_of.values()}.values():
            for passed_theme in await pass_content(self._registry, store, (theme,)):
                passed_themes[theme.words] = passed_theme
        return {
            chunk: passed_themes[theme.words]
            for chunk, theme in theme_of.items()
            if theme.words in passed_themes
        }

    async def _kinds(
        self, store: StoreView, link_rows: Mapping[int, Sequence[LinkRow]], texts: Mapping[int, str]
    ) -> Mapping[int, str]:
        """Return the kind of each name that links passages: a person, a place, an organisation, or a name."""
        holders = {
            term: [row.chunk_id for row in rows[:MAX_KIND_PASSAGES]]
            for term, rows in link_rows.items()
            if len(rows) > 1 and rows[0].kind == links.NAME and term in texts
        }
        hit_rows = await self._hits(
            store, sorted({chunk for chunk_ids in holders.values() for chunk in chunk_ids})
        )
        passages = {
            term: [hit_rows[chunk].text for chunk in chunk_ids if chunk in hit_rows]
            for term, chunk_ids in holders.items()
        }
        return await pools.SEARCH.run(_name_kinds, texts, passages)

    async def _hits(self, store: StoreView, chunk_ids: Sequence[int]) -> dict[int, HitRow]:
        """Return the passages among ``chunk_ids`` that belong to this store and that the caller may read."""
        rows = await self._database.read(hits.get, store.id, chunk_ids)
        store_chunks = await self._database.read(chunks.of_store, store.id, list(rows))
        return {chunk: row for chunk, row in rows.items() if chunk in store_chunks and store.permits(row)}

    async def _permitted(self, store: StoreView) -> AbstractSet[str] | None:
        """Return the ids of the files that the caller may read, or ``None`` if the caller may read all files."""
        if store.whole:
            return None
        file_labels = await self._database.read(hits.labels, store.id)
        return frozenset(file_id for file_id, labels in file_labels if store.permits(labels))

    async def _naming(
        self, terms: Sequence[int], abstract_set: AbstractSet[str] | None
    ) -> dict[int, list[LinkRow]]:
        """Return the links of terms, limited to passages of the files in ``abstract_set`` if it is given."""
        link_rows: dict[int, list[LinkRow]] = {}
        for link in await self._database.read(links.naming, terms, with_files=abstract_set is not None):
            if abstract_set is None or link.file_id in abstract_set:
                link_rows.setdefault(link.term, []).append(link)
        return link_rows


_TERMS_READ_ROWS = links.MAX_LINKS_READ_ROWS // links.MAX_TERM_CHUNKS
"""Number of terms whose links can be read in one SQL statement, even if each term has the maximum number of links."""


def require_links(store: StoreView) -> None:
    """Raise `InvalidRequest` if the passages of a store are not linked."""
    if not store.links:
        raise InvalidRequest(
            f"The store '{store.name or store.id}' has no links between its passages. Set 'links': true for "
            f"the store to enable them: portico stores change {store.name or store.id} --links.",
            code="links_off",
            param="store",
        )


def _texts(store_id: str, rows: Sequence[HitRow]) -> dict[int, str]:
    """Return the text of each term by the term's key. Texts are not stored, so they are extracted again from the
    passages.
    """
    from portico_server.features.stores.links.rules import LinkSource, terms

    return {
        term.key(store_id): term.text
        for row in rows
        for term in terms(
            LinkSource(row.text, row.place.heading, row.file_id, row.filename, first=row.ordinal == 0)
        )
    }


def _name_kinds(names: Mapping[int, str], passages: Mapping[int, Sequence[str]]) -> dict[int, str]:
    from portico_server.features.stores.themes.mentions import kind_of

    return {term: kind_of(names[term], texts) for term, texts in passages.items()}


def _linked(row: HitRow, term: str, kind: int) -> LinkedPassage:
    return LinkedPassage(
        row.id, term, links.KINDS.get(kind, "name"), row.text, row.file_id, row.filename, row.place
    )
