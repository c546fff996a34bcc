"""A full or stalled disk: clear errors, no loss of acknowledged data, and no manual repair afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.server.faults.conftest import Disk

from portico import AsyncClient
from portico.errors import PorticoError

pytestmark = pytest.mark.slow

QUESTION = "which port does the lighthouse listen on"


async def refused(what: Any) -> str:
    """Return the code of the error that ends a call."""
    with pytest.raises(PorticoError) as caught:
        await what
    assert caught.value.status == 503
    return str(caught.value.code)


async def upload(client: AsyncClient, text: str) -> str:
    return (await client.files.add(text.encode(), filename="note.txt")).id


async def works(client: AsyncClient) -> None:
    """Check that work without disk space continues."""
    assert (await client.health())["status"] == "ok"
    assert (await client.search("handbook", QUESTION)).passages
    assert "".join([piece async for piece in client.chat("hello")])


async def test_on_a_full_disk_only_writes_are_refused(disk: Disk, tmp_path: Path) -> None:
    async with AsyncClient(disk.daemon.url) as client:
        file_id = await upload(client, "kept before")
        await works(client)  # what it needs has started: a model may not start without disk space
        disk.become("full")
        for _ in range(3):
            assert await refused(upload(client, "no room")) in ("disk_full", "disk_failed")
            assert await refused(client.keys.add("late", ["chat"])) in ("disk_full", "disk_failed")
            assert await refused(client.backup(tmp_path / "b.zip")) in ("disk_full", "disk_failed")
            await works(client)
        assert "b.zip" not in os.listdir(tmp_path)
        disk.recover()
        late = await upload(client, "kept after")
        assert (await client.backup(tmp_path / "b.zip")).missing == 0
        await works(client)
        assert [key.name for key in await client.keys.list()] == []
    disk.daemon.stop(signal.SIGKILL)
    disk.start()
    async with AsyncClient(disk.daemon.url) as client:
        assert await client.files.content(file_id) == b"kept before"
        assert await client.files.content(late) == b"kept after"
        assert len(await client.files.list()) == 2, "what was refused left nothing"
        await works(client)


async def test_a_file_uploaded_before_the_disk_was_full_is_indexed_after_recovery(
    disk: Disk,
) -> None:
    async with AsyncClient(disk.daemon.url) as client:
        await client.stores.add("book")
        file = await upload(client, "The harbour opens at six.")
        disk.become("full")
        assert await refused(client.stores.add("other")) in ("disk_full", "disk_failed")
        disk.recover()
        await client.stores.attach("book", file)
        await settled(client)
        assert "six" in (await client.search("book", "harbour")).passages[0].text


async def settled(client: AsyncClient, store: str = "book") -> None:
    """Wait until no file of a store is being processed."""
    async with asyncio.timeout(60):
        while (await client.stores.get(store)).file_counts.in_progress:
            await client.health()


@pytest.mark.timeout(300)
async def test_a_hanging_disk_delays_only_writes(disk: Disk) -> None:
    async with AsyncClient(disk.daemon.url) as client:
        await works(client)  # what it needs has started: a model may not start without writing
        with closing(sqlite3.connect(disk.daemon.home / "portico.db")) as database, database:
            database.execute("update stores set last_active_at = last_active_at - 3600")
        disk.become("still")
        upload_task = asyncio.create_task(upload(client, "waits for the disk"))
        behind = asyncio.create_task(client.keys.add("late", ["chat"]))  # blocks the only thread that writes
        for _ in range(5):
            await works(client)
        assert not upload_task.done(), "nothing is acknowledged that is not on the disk"
        disk.recover()
        file = await upload_task
        assert (await behind).name == "late"
    disk.daemon.stop(signal.SIGKILL)
    disk.start()
    async with AsyncClient(disk.daemon.url) as client:
        assert await client.files.content(file) == b"waits for the disk"


@pytest.mark.parametrize("part", ["/indexes/", "/portico.db-wal"])
async def test_a_slow_disk_slows_writes_without_blocking_searches(disk: Disk, part: str) -> None:
    async with AsyncClient(disk.daemon.url) as client:
        await client.stores.add("book")
        disk.become("slow", part)
        texts = [f"The harbour number {number} opens at six." for number in range(2)]
        coming = asyncio.create_task(added(client, texts))
        while not coming.done():
            assert (await client.health())["status"] == "ok"
            assert (await client.search("handbook", QUESTION)).passages
        assert await coming == len(texts)


async def added(client: AsyncClient, texts: list[str]) -> int:
    """Put texts into the store ``book``, and return how many can be found afterwards."""
    for text in texts:
        await client.stores.attach("book", await upload(client, text))
    await settled(client)
    results = await client.search("book", "harbour", max_num_results=len(texts))
    return len(results.passages)


async def appears(client: AsyncClient, text: str, query: str) -> None:
    """Wait until a search finds a text; a text that arrives while the index is behind waits at most two seconds
    for it.
    """
    async with asyncio.timeout(60):
        while not any(text in passage.text for passage in (await client.search("book", query)).passages):
            await client.health()


async def test_an_index_without_disk_space_refuses_searches_and_catches_up_later(
    disk: Disk,
) -> None:
    async with AsyncClient(disk.daemon.url) as client:
        await client.stores.add("book")
        assert await added(client, ["The harbour opens at six."]) == 1
        disk.become("full", "/indexes/")
        await client.stores.attach("book", await upload(client, "The lighthouse is white."))
        await settled(client)  # acknowledged texts are in the database, with their embeddings
        with pytest.raises(PorticoError) as caught:
            await client.search("book", "lighthouse")
        assert (caught.value.status, caught.value.code) == (503, "disk_full")
        assert "free some disk space" in str(caught.value)
        await works(client)
        disk.recover()
        await appears(client, "white", "lighthouse")
        disk.become("full", "/indexes/")
        await client.stores.attach("book", await upload(client, "The keeper is old."))
        await settled(client)
    disk.daemon.stop(signal.SIGKILL)
    disk.recover()
    disk.start()
    async with AsyncClient(disk.daemon.url) as client:
        await appears(client, "old", "keeper")
