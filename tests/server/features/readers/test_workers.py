"""Documents read by a launcher's workers: the same as in the daemon, once each, whichever worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.errors import Unavailable
from portico_server.core.principal import LOCAL
from portico_server.db import chunks
from portico_server.features.chunkers.document import Part, Unreadable
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.readers.workers import (
    MAX_LOST_WORKERS,
    DocumentWorker,
    DocumentWorkers,
    WorkersUnavailable,
)
from portico_server.features.stores.contents import FileToAttach
from portico_server.launchers.local import this_machine
from portico_server.launchers.protocol import Launcher

pytestmark = [pytest.mark.process]

LIMITS: dict[str, Any] = {"seconds": 60.0, "memory": 2**31, "languages": ""}

CHUNKING = {"type": "sentence", "size": 800, "overlap": 0}

LONG = "".join(f"Berth {number} lies east of the pier.\n\n" for number in range(60_000)).encode()
"""A document read in many answers; a killed worker may have sent some of the later ones."""


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[DocumentWorkers]:
    workers = DocumentWorkers(
        lambda: this_machine(""), count=2, limits=LIMITS, log=tmp_path / "documents.log"
    )
    yield workers
    await workers.close()
    assert not workers._tasks and not workers._launching


@pytest.fixture
async def pool(workers: DocumentWorkers) -> AsyncIterator[ReaderPool]:
    pool = ReaderPool(workers=1, **LIMITS, elsewhere=workers)
    yield pool
    await pool.close()


async def read(pool: ReaderPool, path: Path, name: str, *, elsewhere: bool) -> list[Part]:
    async with aclosing(pool.read(path, name, CHUNKING, is_indexed=elsewhere)) as runs:
        return [part async for run in runs for part in run]


def kill(workers: DocumentWorkers) -> set[DocumentWorker]:
    """Kill the workers that are reading, as if their machines were lost, and return them."""
    struck = {worker for worker in workers._busy if worker.alive}
    for worker in struck:
        worker.process.signal(signal.SIGKILL)
    return struck


@pytest.mark.slow
async def test_a_document_whose_worker_is_killed_is_read_by_another_without_a_gap(
    workers: DocumentWorkers, pool: ReaderPool, tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(LONG)
    expected_parts = await read(pool, path, "long.txt", elsewhere=False)
    parts: list[Part] = []
    killed: set[DocumentWorker] = set()
    async with aclosing(pool.read(path, "long.txt", CHUNKING, is_indexed=True)) as runs:
        async for run in runs:
            parts += run
            if len(killed) < 2:
                killed |= kill(workers)
    assert len(killed) == 2 and parts == expected_parts

    async def read_in_vain() -> None:
        async with aclosing(pool.read(path, "long.txt", CHUNKING, is_indexed=True)) as runs:
            async for _run in runs:
                kill(workers)

    with pytest.raises(Unreadable, match="3 workers ended while reading it"):
        await read_in_vain()


async def test_workers_receive_unshared_files_and_report_errors_as_local_readers_do(
    workers: DocumentWorkers, pool: ReaderPool, tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(LONG)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        elsewhere = Path(f"/proc/self/fd/{descriptor}")  # for each process a different file
        parts = await read(pool, elsewhere, "long.txt", elsewhere=True)
    finally:
        os.close(descriptor)
    assert parts == await read(pool, path, "long.txt", elsewhere=False)
    [worker] = workers._idle

    damaged_file = tmp_path / "broken.pdf"
    damaged_file.write_bytes(b"%PDF-1.7 nothing")
    missing_file = tmp_path / "gone.txt"
    for document in (damaged_file, missing_file):
        errors = []
        for is_remote in (False, True):
            with pytest.raises(Unreadable) as error:
                await read(pool, document, document.name, elsewhere=is_remote)
            errors.append((error.value.code, error.value.message))
        assert errors[0] == errors[1]
    assert workers._idle == [worker] and worker.alive, "the worker outlives what its reader does not"


async def test_without_workers_a_file_fails_with_the_scheduler_error(tmp_path: Path) -> None:
    async def refuse(_name: str = "") -> Launcher:
        raise Unavailable("Slurm refused the job: Invalid partition name.", code="launch_refused")

    workers = DocumentWorkers(refuse, count=1, limits=LIMITS, log=tmp_path / "documents.log")
    with pytest.raises(WorkersUnavailable, match="Invalid partition name") as error:
        async with aclosing(workers.answers(tmp_path, "a.txt", {}, None)) as answers:
            await anext(answers)
    assert error.value.code == "launch_refused"
    await workers.close()

    async with store_services(tmp_path / "home", find_launcher=refuse, ingest_launcher="slurm") as shop:
        store = await shop.stores.create("harbour", LOCAL)
        row = await shop.upload("a.txt", b"The lighthouse.")
        run = await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
        assert run is not None
        [file_row] = await shop.settled(store)
        assert file_row.status == "failed" and "Invalid partition name" in str(file_row.error_message)


@pytest.mark.slow
async def test_every_file_is_indexed_once_when_workers_are_killed_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number}.md": f"# Pier {number}\n\nBoat {number} has a berth.\n" for number in range(12)}
    files["long.txt"] = LONG.decode()

    killed: set[DocumentWorker] = set()
    send = DocumentWorker.send

    async def send_and_lose(worker: DocumentWorker, message: Mapping[str, Any]) -> None:
        await send(worker, message)
        if "path" in message and len(killed) < MAX_LOST_WORKERS - 1:
            killed.add(worker)
            worker.process.signal(signal.SIGKILL)

    monkeypatch.setattr(DocumentWorker, "send", send_and_lose)

    async def indexed(shop: StoreServices) -> dict[str, list[str]]:
        store = await shop.stores.create("harbour", LOCAL)
        rows = {name: await shop.upload(name, text.encode()) for name, text in files.items()}
        await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows.values()], LOCAL)
        file_rows = await shop.settled(store)
        assert [row.status for row in file_rows] == ["completed"] * len(files)
        texts_by_name = {}
        for name, row in rows.items():
            chunk_rows = await shop.database.read(chunks.of_file, store.id, row.id, -1, 100_000)
            texts_by_name[name] = [chunk.text for chunk in chunk_rows]
        return texts_by_name

    async with store_services(tmp_path / "here") as shop:
        expected_texts = await indexed(shop)
    async with store_services(
        tmp_path / "there", find_launcher=this_machine, ingest_launcher="slurm", ingest_workers=2
    ) as shop:
        assert await indexed(shop) == expected_texts
    assert len(killed) == MAX_LOST_WORKERS - 1
