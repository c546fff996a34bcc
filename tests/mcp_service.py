"""The MCP endpoint behind a real HTTP server, with a stand-in for authentication: the bearer token names the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from portico.schemas.artifacts import Artifact
from portico.schemas.stores import StoreThemes
from portico_server.core.errors import NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.features.mcp import McpAdapter
from portico_server.features.mcp.library import Document, Position, StoredFile
from portico_server.features.mcp.tools import FoundTools
from portico_server.features.prompts.library import PromptLibrary
from portico_server.features.skills.library import SkillLibrary
from portico_server.features.stores.tool_search import ToolIndex
from portico_server.runs.artifacts import link_of
from portico_server.runs.quotas import StorageQuota
from tests.api_server import listening
from tests.registry_fixture import RegistryFixture, open_registry

READER = Principal("reader", frozenset({"stores:docs:read", "apps:docs:call", "chat"}))
OTHER = Principal("other", frozenset({"admin"}))

CALLERS = {"": LOCAL, "Bearer reader": READER, "Bearer other": OTHER}


MADE = [
    (Artifact("art_1", "figure.png", "image/png", 5, link_of("art_1")), b"\x89PNG\n"),
    (Artifact("art_2", "table.csv", "text/csv", 4, link_of("art_2")), b"a,b\n"),
]
"""Artifacts that runs of the daemon have created."""


class Shelves:
    """A library of files in memory."""

    def __init__(self, files: Mapping[str, Mapping[str, bytes]]) -> None:
        self._files = [
            (StoredFile(store, name, name, len(data)), data)
            for store, store_files in files.items()
            for name, data in store_files.items()
        ]
        self._watchers: list[Callable[[str], None]] = []

    async def files(
        self, caller: Principal, start: Position | None, limit: int, *, only: str | None = None
    ) -> tuple[Sequence[StoredFile], Position | None]:
        visible_files = [file for file, _data in self._files if caller.allows(f"stores:{file.store}:read")]
        visible_files = [file for file in visible_files if only in (None, file.store)]
        begin = 0 if start is None else int(start.after or 0)
        has_more = begin + limit < len(visible_files)
        page = visible_files[begin : begin + limit]
        return page, Position(page[-1].store, str(begin + limit)) if has_more else None

    async def read(self, caller: Principal, store: str, name: str) -> tuple[StoredFile, bytes]:
        for file, data in self._files:
            if (file.store, file.name) == (store, name) and caller.allows(f"stores:{store}:read"):
                return file, data
        raise NotFound(f"There is no file '{name}' in the store '{store}'.")

    async def document(self, caller: Principal, store: str, file_id: str) -> Document:
        file, data = await self.read(caller, store, file_id)
        return Document(file.filename, data.decode())

    async def themes(self, caller: Principal, store: str) -> StoreThemes:
        if not caller.allows(f"stores:{store}:read"):
            raise NotFound(f"There is no store '{store}'.")
        return StoreThemes()

    async def version(self, caller: Principal, store: str, name: str) -> str | None:
        if not caller.allows(f"stores:{store}:read"):
            raise NotFound(f"There is no store '{store}'.")
        return next(
            (data.hex() for file, data in self._files if (file.store, file.name) == (store, name)), None
        )

    def write(self, store: str, name: str, data: bytes) -> None:
        """Write a file, replacing any file of that name, and announce that the daemon's stores have changed."""
        self._files = [
            (file, content) for file, content in self._files if (file.store, file.name) != (store, name)
        ]
        self._files.append((StoredFile(store, name, name, len(data)), data))
        for watcher in self._watchers:
            watcher(store)

    def watch(self, watcher: Callable[[str], None]) -> None:
        self._watchers.append(watcher)

    async def read_artifact(self, caller: Principal, artifact_id: str) -> tuple[Artifact, bytes]:
        for artifact, data in MADE:
            if artifact.id == artifact_id:
                return artifact, data
        raise NotFound(f"There is no artifact '{artifact_id}'.")

    async def made_in(self, caller: Principal, run_id: str) -> Sequence[Artifact]:
        return []


@dataclass(frozen=True, slots=True)
class Service:
    """A registry with its MCP endpoint: the registry, the endpoint's address, its files and its prompts."""

    daemon: RegistryFixture
    url: str
    shelves: Shelves
    prompts: PromptLibrary


@asynccontextmanager
async def serving(
    folder: Path,
    files: Mapping[str, Mapping[str, bytes]],
    *,
    port: int = 0,
    sessions: int = 100,
    models: frozenset[str] = frozenset(),
    search_above: int = 0,
) -> AsyncIterator[Service]:
    """Serve a registry and some files for the duration of a ``with`` block, on a free port unless ``port`` is given."""
    async with open_registry(folder) as daemon:
        shelves, prompts = Shelves(files), PromptLibrary(daemon.database)
        face = McpAdapter(
            daemon.registry,
            daemon.runner,
            shelves,
            prompts,
            SkillLibrary(daemon.database, StorageQuota()),
            daemon.questions,
            daemon.database,
            max_body=1_000_000,
            watch_stores=shelves.watch,
            task_after_s=0.2,
            sessions=sessions,
            models=models,
            find=FoundTools(ToolIndex(daemon.registry), search_above),
        )

        async def gateway(scope: dict[str, Any], receive: Any, send: Any) -> None:
            token = dict(scope["headers"]).get(b"authorization", b"").decode()
            await face({**scope, "portico.caller": CALLERS[token]}, receive, send)

        listener = listening(port)
        config = uvicorn.Config(gateway, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)

        async def serve() -> None:
            async with face.lifespan():
                await server.serve(sockets=[listener])

        task = asyncio.create_task(serve())
        try:
            yield Service(daemon, f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", shelves, prompts)
        finally:
            server.should_exit = True
            await task
