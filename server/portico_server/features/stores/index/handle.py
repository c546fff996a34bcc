"""The open index of one store: one index for words and one for vectors, both updated by a single task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Listener
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.db import changes, chunks
from portico_server.db.database import Database
from portico_server.db.pgvector import PGVECTOR
from portico_server.db.store_index import IndexName
from portico_server.features.readers.pool import TermPrefetch
from portico_server.features.stores.index.embedded import EmbeddedVectors
from portico_server.features.stores.index.offset import DamagedIndex
from portico_server.features.stores.index.opening import open_lexical
from portico_server.features.stores.index.pgvector import PgVectors
from portico_server.features.stores.index.replay import LogReplayer
from portico_server.features.stores.index.vector_engine import LocalIndex, Ranges, Ranking, VectorEngine

if TYPE_CHECKING:
    from portico_server.features.stores.index.lexical import LexicalIndex

logger = logging.getLogger(__name__)

LAG_WAIT_S = 2.0
"""Maximum time in seconds that a search waits for recent commits before it runs without them."""

BUILD_WAIT_S = 30.0
"""Maximum time in seconds that a search waits for an index build before it asks the client to retry."""

LEXICAL = "lexical"
"""Folder of the lexical index, within the folder of the index."""

_REPORT_INTERVAL_S = 0.5
"""Interval between progress events in seconds."""


@dataclass(frozen=True, slots=True)
class FoundSides:
    """Candidates found by words and by vectors. ``between`` is the `time.perf_counter` time after the search by
    words.
    """

    lexical: Ranking
    dense: Ranking
    between: float


class IndexHandle:
    """The index of one group, as `IndexManager.use` yields it. ``model`` is the model whose vectors are searched, ""
    for none. ``engine`` is where its vectors are.
    """

    def __init__(
        self,
        database: Database,
        store_id: str,
        group: str,
        model: str,
        engine: IndexName,
        folder: Path,
        ahead: TermPrefetch,
    ) -> None:
        self.store_id = store_id
        self.group = group
        self.model = model
        self.engine = engine
        self.last_used = asyncio.get_running_loop().time()
        self._users = 0
        self._free = asyncio.Event()
        self._free.set()
        self._database = database
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

        async def texts(chunk_ids: Sequence[int]) -> Sequence[Any]:
            return await database.read(chunks.indexed_texts, chunk_ids)

        self._lexical = LogReplayer(
            database, store_id, group, folder / LEXICAL, partial(open_lexical, ahead=ahead), texts
        )
        self._vectors: VectorEngine | None = None
        if model and engine == PGVECTOR:
            self._vectors = PgVectors(database, store_id, group, model)
        elif model:
            self._vectors = EmbeddedVectors(database, store_id, group, model, folder, engine)

    @property
    def users(self) -> int:
        """Number of searches that use this index."""
        return self._users

    @users.setter
    def users(self, count: int) -> None:
        self._users = count
        if count:
            self._free.clear()
        else:
            self._free.set()

    async def wait_until_unused(self) -> None:
        """Wait until no search uses this index."""
        while self._users:
            await self._free.wait()

    @property
    def has_vectors(self) -> bool:
        """Return whether the index has vectors to search."""
        return self._vectors is not None and self._vectors.has_vectors

    async def catch_up(
        self, limit: float | None, listener: Listener | None = None, last_change: int | None = None
    ) -> int:
        """Wait at most ``limit`` seconds until all commits can be found, and return the number of missing changes.

        If ``limit`` is set and the index is being opened or built, wait up to `BUILD_WAIT_S` instead. After that,
        searches use only words if the lexical index is ready; otherwise, raise `Unavailable` with a request to retry.
        ``listener`` receives `Progressed` events of a build. ``last_change`` is the store's newest change, if the
        caller has read it.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        if last_change is not None and last_change <= self._behind():
            return 0
        while lag := await self._lag():
            if self._stopping:
                raise Unavailable("The daemon is shutting down.", code="shutting_down")
            task = self._advancing_task()
            end = None if limit is None else begin + (limit if self._behind() >= 0 else BUILD_WAIT_S)
            wait = _REPORT_INTERVAL_S if end is None else max(0.0, min(_REPORT_INTERVAL_S, end - loop.time()))
            await asyncio.wait({task}, timeout=wait)
            if task.done():
                task.result()
                continue
            if listener is not None:
                await self._report(listener)
            if end is not None and loop.time() >= end:
                if self._lexical.seq >= 0:
                    return lag
                raise self._still_building()
        return 0

    async def search_words(self, text: str, limit: int, files: Sequence[str] | None) -> Ranking:
        """Return the best chunks by words; see `LexicalIndex.search`. Rebuilds a damaged index first."""
        for _ in range(2):
            index = self._lexical.index
            if index is None:
                await self.catch_up(LAG_WAIT_S)
                index = self._lexical.index
            if index is None:
                raise self._still_building()
            try:
                return await pools.SEARCH.run(index.search, text, limit, files)
            except DamagedIndex:
                await self._lexical.discard(index)
        raise self._still_building()

    def gloss_language(self, text: str) -> str:
        """Return the language of the glosses with which words are searched; see `LexicalIndex.gloss_language`."""
        index = self._lexical.index
        return "" if index is None else index.gloss_language(text)

    def is_foreign(self, text: str) -> bool:
        """Return whether all texts are in the other language than ``text``; see `LexicalIndex.is_foreign`."""
        index = self._lexical.index
        return index is not None and index.is_foreign(text)

    def postings(
        self, tokens: Sequence[tuple[str, str]], limit: int, files: Sequence[str] | None
    ) -> Sequence[frozenset[int] | None]:
        """Return the chunks of each term; see `LexicalIndex.postings`. Blocks.

        A missing or damaged index has no chunks. The next search rebuilds it.
        """
        index = self._lexical.index
        if index is not None:
            with suppress(DamagedIndex):
                return index.postings(tokens, limit, files)
        return [frozenset()] * len(tokens)

    async def search(
        self,
        text: str,
        vector: bytes,
        limit: int,
        files: Sequence[str] | None,
        permitted_ranges: Ranges | None,
    ) -> FoundSides:
        """Run `search_words` and `search_vectors`, one after another in one thread if both indexes are in memory.

        Running those in parallel would save less time than a second thread switch costs.
        """

        def search_both(lexical: LexicalIndex, vectors: LocalIndex) -> FoundSides:
            words = lexical.search(text, limit, files)
            between = perf_counter()
            return FoundSides(words, vectors.search(vector, limit, permitted_ranges), between)

        lexical = self._lexical.index
        vectors = self._vectors.index if self._vectors is not None else None
        if lexical is not None and vectors is not None:
            try:
                return await pools.SEARCH.run(search_both, lexical, vectors)
            except DamagedIndex:
                await self._lexical.discard(lexical)
        words = await self.search_words(text, limit, files)
        between = perf_counter()
        return FoundSides(words, await self.search_vectors(vector, limit, permitted_ranges), between)

    async def search_vectors(self, vector: bytes, limit: int, permitted_ranges: Ranges | None) -> Ranking:
        """Return the chunks with the nearest vectors; see `VectorEngine.search`."""
        return [] if self._vectors is None else await self._vectors.search(vector, limit, permitted_ranges)

    async def close(self) -> None:
        """Stop running work, save the index, and close the files."""
        self._stopping = True
        self._lexical.stop()
        if self._vectors is not None:
            self._vectors.stop()
        if self._task is not None:
            await asyncio.wait({self._task})
        await self._lexical.close()
        if self._vectors is not None:
            await self._vectors.close()

    async def _lag(self) -> int:
        """Return the number of changes that at least one of the two indexes lacks; at least 1 if an index does not
        exist yet.
        """
        last = await self._database.read(changes.last, self.store_id)
        return max(0, last - self._behind())

    def _behind(self) -> int:
        """Return the number of the last change that both indexes contain; -1 if an index does not exist yet."""
        return min([self._lexical.seq, *([self._vectors.seq] if self._vectors else [])])

    def _advancing_task(self) -> asyncio.Task[None]:
        """Return the task that updates both indexes; start it if it is not running."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._advance(), name=f"catch up {self.store_id}")
            self._task.add_done_callback(_log_failure)
        return self._task

    async def _advance(self) -> None:
        updates = [self._lexical.catch_up(), *([self._vectors.catch_up()] if self._vectors else [])]
        results = await asyncio.gather(*updates, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _report(self, listener: Listener) -> None:
        """Report the progress of a build, measured by the lexical index: reading vectors takes much less time than
        indexing words.
        """
        progress = self._lexical.progress
        if progress.total:
            await listener(Progressed("index", "building the index", progress.done, progress.total, "chunks"))

    def _still_building(self) -> Unavailable:
        progress = self._lexical.progress
        share = f" ({100 * progress.done // progress.total} % done)" if progress.total else ""
        return Unavailable(
            f"The index of this store is being built{share}. Retry the search in a few seconds.",
            code="index_building",
            retry_after=5,
        )


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log the error that ended a task, because nobody may be waiting for the task anymore."""
    if not task.cancelled() and (error := task.exception()) is not None:
        is_known = isinstance(error, PorticoError)
        logger.warning("%s: %s", task.get_name(), error, exc_info=None if is_known else error)
