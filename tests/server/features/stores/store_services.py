"""Files, stores, a scheduler and an embedding model together in one process, over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.features.stores.store_fixture import MODEL, LetterEmbedding

from portico.wire import ErrorBody, Event, Failed, Finished
from portico_server.blobs.place import FolderBlobs
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Search, SearchResult
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.features.files.files import FILE_BLOBS, FileStorage
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.stores import StoreService
from portico_server.http.fetch.fetcher import OutwardFetcher
from portico_server.http.fetch.policy import AddressPolicy
from portico_server.launchers.local import this_machine
from portico_server.launchers.protocol import Launcher
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog
from portico_server.settings import Settings


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


TURN = 0.002
"""Seconds between two polls for changes that send no notice: polling at every turn of the loop would use a full
core.
"""


@dataclass
class StoreServices:
    """A daemon's knowledge services in one process."""

    database: Database
    registry: Registry
    runner: Runner
    scheduler: Scheduler
    files: FileStorage
    stores: StoreService
    model: LetterEmbedding
    begun: list[str]

    async def upload(
        self, name: str, data: bytes | str, caller: Principal = LOCAL, purpose: str = "assistants"
    ) -> FileRow:
        raw = data.encode() if isinstance(data, str) else data
        return await self.files.create(name, purpose, pieces(raw), caller)

    async def filled(
        self,
        texts: Mapping[str, str],
        *,
        name: str = "book",
        linked: bool = False,
        attributes: Mapping[str, dict[str, Any]] | None = None,
        chunking: Mapping[str, Any] | None = None,
    ) -> StoreRow:
        """Create a store with indexed files and return it.

        ``texts`` are by file name, ``attributes`` by name; ``chunking`` applies to all files.
        """
        store = await self.stores.create(name, LOCAL, links=linked)
        rows = [(file, await self.upload(file, text)) for file, text in texts.items()]
        await self.stores.contents.attach(
            store, [FileToAttach(row.id, (attributes or {}).get(file), chunking) for file, row in rows], LOCAL
        )
        await self.settled(store)
        return await self.stores.get(name, LOCAL)

    async def events(self, run_id: str) -> list[Event]:
        """Return all events of a durable run once it has ended."""
        # The scheduler picks the run up in a later turn of the loop, without notice.
        while (run := self.runner.get(run_id)) is None:  # noqa: ASYNC110
            await asyncio.sleep(TURN)
        return [event async for _number, event in run.log.follow()]

    async def result(self, run_id: str) -> dict[str, Any]:
        last = (await self.events(run_id))[-1]
        assert isinstance(last, Finished), last
        outcome: dict[str, Any] = last.result
        return outcome

    async def failure(self, run_id: str) -> ErrorBody:
        """Return the error of a failed run."""
        last = (await self.events(run_id))[-1]
        assert isinstance(last, Failed), last
        return last.error

    async def sync(self, store: StoreRow) -> dict[str, Any]:
        return await self.result(await self.stores.sync(store))

    async def settled(self, store: StoreRow) -> list[StoreFileRow]:
        """Return the files of a store, oldest first, once none is pending, however the run ended."""
        await self.events(await self.stores.contents.queue(store))
        return list((await self.stores.contents.list(store, limit=1000, order="asc")).data)

    async def searched(self, store: StoreRow, query: str) -> SearchResult:
        """Search as `search` does, with the trace."""
        result = await self.runner.call("search", f"store/{store.id}", Search(query, trace=True), LOCAL)
        assert isinstance(result, SearchResult)
        return result

    async def search(self, store: StoreRow, query: str, caller: Principal = LOCAL) -> SearchResult:
        result = await self.runner.call("search", f"store/{store.id}", Search(query), caller)
        assert isinstance(result, SearchResult)
        return result


@asynccontextmanager
async def store_services(
    home: Path,
    *,
    find_launcher: Callable[[str], Awaitable[Launcher]] = this_machine,
    postgres_url: str = "",
    **settings: Any,
) -> AsyncIterator[StoreServices]:
    """Yield a `StoreServices` over ``home``, which may have had one before. It uses SQLite unless ``postgres_url`` is
    given.
    """
    home.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    # Tests sync explicitly, and a second reader process would take longer to start than to read these files.
    configured = Settings(home=home, **{"watch": False, "ingest_workers": 1, **settings})
    database = Database(postgres_url) if postgres_url else Database.at(configured.database_path)
    database.prepare()
    registry = Registry()
    model = LetterEmbedding()
    registry.add(model)
    registry.aliases.set("default-embedding", MODEL)
    runner = Runner(registry, UsageLog(database), timeout=60)
    scheduler = Scheduler(database, runner)
    files = FileStorage(
        database,
        FolderBlobs(database, configured.files_folder / "blobs", FILE_BLOBS),
        max_bytes=configured.max_file_mb * 1024 * 1024,
    )
    stores = StoreService(
        database,
        registry,
        runner,
        scheduler,
        files,
        OutwardFetcher(AddressPolicy.of(configured.tool_hosts)),
        configured,
        find_launcher,
    )
    registry.add_source(stores.served)
    await files.start()
    startup_runs = await stores.start()
    working = asyncio.create_task(scheduler.run(is_alone=True))
    try:
        yield StoreServices(database, registry, runner, scheduler, files, stores, model, startup_runs)
    finally:
        working.cancel()
        await asyncio.wait([working])
        await runner.close()
        await stores.close()
        database.close()
