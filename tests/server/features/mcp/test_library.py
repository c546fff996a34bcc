"""The files of stores, as the MCP endpoint lists and reads them: pages, equal names, limits."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.registry_fixture import FixedStore

from portico_server.blobs.place import FolderBlobs
from portico_server.core.errors import NotFound, TooLarge
from portico_server.core.principal import LOCAL, SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.features.files.files import FILE_BLOBS, FileStorage
from portico_server.features.mcp import library as library_module
from portico_server.features.mcp.library import Position, StoredFile, StoreLibrary
from portico_server.features.stores.contents import StoreContents
from portico_server.features.stores.store import StoreView, view
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore


class Held:
    """Stands in for `Stores` where rows suffice."""

    def __init__(self, database: Database, files: FileStorage) -> None:
        self._database = database
        placeholder: Any = None
        self.contents = StoreContents(database, files, placeholder, placeholder, placeholder, Registry())

    async def get(self, ref: str, caller: Principal, action: str) -> StoreView:
        row = await self._database.read(rows.get, ref) or await self._database.read(rows.get, f"vs_{ref}")
        assert row is not None and action == "read"
        return view(row, caller)


class Case:
    """A library over a real database and real files."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.at(folder / "portico.db")
        self.database.prepare()
        self.registry = Registry()
        self._files = FileStorage(
            self.database, FolderBlobs(self.database, folder / "blobs", FILE_BLOBS), max_bytes=1_000_000
        )
        artifacts = ArtifactStore(
            self.database, FolderBlobs(self.database, folder / "artifacts", ARTIFACT_BLOBS)
        )
        stores: Any = Held(self.database, self._files)
        self.library = StoreLibrary(
            self.registry,
            stores,
            self._files,
            artifacts,
        )

    async def store(self, name: str, *files: tuple[str, bytes], status: str = "completed") -> list[str]:
        """Create a store with files and return their ids."""
        now = time.time()
        row = StoreRow(f"vs_{name}", name, "", None, None, False, "", {}, None, now, now)
        await self.database.write(rows.add, row)
        self.registry.add(FixedStore(name, labels={"id": row.id}))
        ids = []
        for filename, data in files:
            stored_file = await self._files.create(filename, "user_data", _once(data), SYSTEM)
            await self.database.write(rows.attach, row.id, stored_file.id, {}, {})
            await self.database.write(rows.set_file, row.id, stored_file.id, {"status": status})
            ids.append(stored_file.id)
        return ids

    async def pages(self, limit: int, caller: Principal = LOCAL) -> list[Sequence[StoredFile]]:
        file_pages: list[Sequence[StoredFile]] = []
        position: Position | None = None
        while True:
            page, position = await self.library.files(caller, position, limit)
            file_pages.append(page)
            if position is None:
                return file_pages


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    case = Case(tmp_path)
    yield case
    case.database.close()


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
async def test_pages_go_through_every_store_once(case: Case, limit: int) -> None:
    await case.store("a", ("1.md", b"1"), ("2.md", b"2"), ("3.md", b"3"))
    await case.store("b")
    await case.store("c", ("1.md", b"4"))
    pages = await case.pages(limit)
    entries = [(file.store, file.name) for page in pages for file in page]
    assert entries == [("a", "1.md"), ("a", "2.md"), ("a", "3.md"), ("c", "1.md")]
    assert all(len(page) <= limit for page in pages)


async def test_a_caller_sees_the_stores_that_it_may_read(case: Case) -> None:
    await case.store("a", ("1.md", b"1"))
    await case.store("b", ("2.md", b"2"))
    (page,) = await case.pages(10, Principal("k", frozenset({"stores:b:read"})))
    assert [file.store for file in page] == ["b"]


async def test_files_that_are_not_indexed_yet_are_not_listed(case: Case) -> None:
    await case.store("a", ("1.md", b"1"), status="failed")
    assert await case.pages(10) == [[]]


async def test_of_files_with_one_name_the_newest_keeps_it_and_others_use_ids(case: Case) -> None:
    old, _new = await case.store("a", ("x.txt", b"old"), ("x.txt", b"new"))
    (page,) = await case.pages(10)
    assert [file.name for file in page] == [old, "x.txt"]
    read = [(await case.library.read(LOCAL, "a", file.name))[1] for file in page]
    assert read == [b"old", b"new"]


async def test_unknown_and_too_large_files_are_refused_with_a_hint(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    await case.store("a", ("guide.md", b"12345"))
    with pytest.raises(NotFound, match=r"The store 'a' has no file 'giude.md'.* Did you mean 'guide.md'"):
        await case.library.read(LOCAL, "a", "giude.md")
    monkeypatch.setattr(library_module, "LARGEST", 4)
    with pytest.raises(TooLarge, match=r"/v1/files/file-\w+/content"):
        await case.library.read(LOCAL, "a", "guide.md")
