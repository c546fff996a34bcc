"""Files: bytes stored once, rows that own them, unambiguous names."""

import asyncio
import base64
import errno
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.server.features.stores.store_services import pieces

from portico_server.blobs.place import FolderBlobs
from portico_server.core import pools
from portico_server.core.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    PorticoError,
    TooLarge,
    Unavailable,
)
from portico_server.core.principal import LOCAL, SYSTEM, Principal
from portico_server.db import files as file_rows
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.features.files.files import FILE_BLOBS, FileStorage
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.stores.attachments import AttachmentReader
from portico_server.features.stores.names import is_store_name, store_name
from portico_server.runs.artifacts import ArtifactStore

ALICE = Principal("key_alice", frozenset({"chat"}))
BOB = Principal("key_bob", frozenset({"chat"}))


@pytest.fixture
def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield database  # type: ignore[misc]
    database.close()


@pytest.fixture
def files(database: Database, tmp_path: Path) -> FileStorage:
    return FileStorage(database, FolderBlobs(database, tmp_path / "blobs", FILE_BLOBS), max_bytes=1024 * 1024)


def place(tmp_path: Path, row: FileRow) -> Path:
    return tmp_path / "blobs" / row.sha256[:2] / row.sha256[2:]


async def content(files: FileStorage, row: FileRow) -> bytes:
    async with files.open(row.sha256) as path:
        return path.read_bytes()


def blobs(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())


async def test_a_file_is_kept_under_its_digest(files: FileStorage, tmp_path: Path) -> None:
    row = await files.create("notes 😀.md", "assistants", pieces(b"hello ", b"world"), ALICE)
    assert (row.filename, row.bytes, row.owner) == ("notes 😀.md", 11, ALICE.id)
    assert await content(files, row) == b"hello world"
    assert blobs(tmp_path) == [place(tmp_path, row)]
    assert await files.get(row.id, ALICE) == row


async def test_identical_bytes_are_stored_once_and_removed_with_the_last_row(
    files: FileStorage, tmp_path: Path
) -> None:
    first_file = await files.create("a.txt", "assistants", pieces(b"same"), ALICE)
    two = await files.create("b.txt", "user_data", pieces(b"sa", b"me"), BOB)
    assert len(blobs(tmp_path)) == 1
    await files.delete(first_file.id, ALICE)
    assert await content(files, two) == b"same"
    await files.delete(two.id, BOB)
    assert blobs(tmp_path) == []


async def test_concurrent_uploads_and_deletions_of_the_same_bytes_are_safe(
    files: FileStorage, tmp_path: Path
) -> None:
    async def come_and_go(i: int) -> None:
        row = await files.create(f"{i}.txt", "assistants", pieces(b"same"), ALICE)
        assert await content(files, row) == b"same"
        await files.delete(row.id, ALICE)

    await asyncio.gather(*(come_and_go(i) for i in range(20)))
    assert blobs(tmp_path) == []


async def test_a_file_of_one_key_is_invisible_to_another_key(files: FileStorage) -> None:
    row = await files.create("a.txt", "assistants", pieces(b"a"), ALICE)
    for attempt in (files.get(row.id, BOB), files.delete(row.id, BOB), files.list(BOB, after=row.id)):
        with pytest.raises(NotFound):
            await attempt
    assert (await files.list(BOB)).data == ()
    assert (await files.list(ALICE)).data == (await files.list(LOCAL)).data == (row,)


async def test_a_shared_file_is_visible_to_all_and_deleted_only_by_administrators(files: FileStorage) -> None:
    row = await files.create("a.txt", "assistants", pieces(b"a"), SYSTEM)
    assert await files.get(row.id, BOB) == row
    with pytest.raises(Forbidden):
        await files.delete(row.id, BOB)
    await files.delete(row.id, LOCAL)


async def test_a_list_has_pages_in_both_orders(files: FileStorage) -> None:
    rows = [await files.create(f"{i}.txt", "assistants", pieces(b"%d" % i), ALICE) for i in range(5)]
    names = sorted(row.id for row in rows)
    first = await files.list(ALICE, limit=2, order="asc")
    second = await files.list(ALICE, limit=2, order="asc", after=first.data[-1].id)
    last = await files.list(ALICE, limit=2, order="asc", after=second.data[-1].id)
    assert [row.id for page in (first, second, last) for row in page.data] == names
    assert (first.has_more, second.has_more, last.has_more) == (True, True, False)
    assert [row.id for row in (await files.list(ALICE)).data] == names[::-1]
    assert (await files.list(ALICE, purpose="vision")).data == ()


async def test_a_file_over_the_limit_is_refused_while_it_arrives(files: FileStorage, tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(256 * 1024)

    with pytest.raises(TooLarge, match="1 MB"):
        await files.create("big.bin", "assistants", endless(), ALICE)
    assert sent == 5
    assert blobs(tmp_path) == []


async def test_an_aborted_upload_leaves_no_bytes(files: FileStorage, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, PorticoError)):
        await files.create("a.txt", "assistants", broken(), ALICE)
    assert blobs(tmp_path) == []
    assert (await files.list(LOCAL)).data == ()


async def test_an_upload_that_is_cancelled_while_its_row_is_written_keeps_its_bytes(
    files: FileStorage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, add = asyncio.get_running_loop(), file_rows.add

    def add_after_cancellation(connection: Any, row: FileRow) -> None:
        loop.call_soon_threadsafe(upload.cancel)
        while not upload.done() and not database.load()["write"].waiting:
            pass  # the upload removes its bytes, or waits for the end of this write
        add(connection, row)

    monkeypatch.setattr(file_rows, "add", add_after_cancellation)
    upload = asyncio.create_task(files.create("a.txt", "assistants", pieces(b"a"), ALICE))
    with pytest.raises(asyncio.CancelledError):
        await upload
    await database.write(lambda _connection: None)
    (row,) = (await files.list(ALICE)).data
    assert await content(files, row) == b"a"


async def test_unfinished_and_expired_files_are_removed_after_a_crash(
    files: FileStorage, tmp_path: Path
) -> None:
    live_file = await files.create("kept.txt", "assistants", pieces(b"kept"), ALICE)
    await files.receive(pieces(b"never acknowledged"))
    expired_file = await files.create(
        "old.txt", "assistants", pieces(b"expired"), ALICE, expires_at=time.time() - 1
    )
    with pytest.raises(NotFound):
        await files.get(expired_file.id, ALICE)
    assert len(blobs(tmp_path)) == 3
    await files.start()
    assert await files.expire(dry_run=True) == 1 and len(blobs(tmp_path)) == 2
    assert await files.expire() == 1
    assert blobs(tmp_path) == [place(tmp_path, live_file)]


async def test_bytes_without_a_row_are_removed_at_the_next_start(
    files: FileStorage, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    async def killed(*_arguments: object) -> None:
        raise KilledError

    row = await files.create("b.txt", "assistants", pieces(b"known"), ALICE)
    with monkeypatch.context() as patched:
        # A killed process runs no further line of ours: neither the row write nor any cleanup.
        patched.setattr(database, "write", killed)
        patched.setattr(Path, "unlink", lambda *_a, **_k: None)
        patched.setattr(files._blobs, "_release", killed)
        with pytest.raises(BaseException):  # noqa: B017
            await files.create("a.txt", "assistants", pieces(b"orphan"), ALICE)
    assert len([path for path in blobs(tmp_path) if path.parent.name != "arriving"]) == 2
    await files.start()
    assert blobs(tmp_path) == [place(tmp_path, row)]


async def test_a_full_disk_is_reported_as_disk_full(
    files: FileStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="is full") as error:
            await files.create("a.txt", "assistants", pieces(b"a"), ALICE)
    assert error.value.code == "disk_full"
    assert blobs(tmp_path) == []
    assert await files.create("a.txt", "assistants", pieces(b"a"), ALICE)


async def test_a_purpose_that_does_not_exist_is_refused(files: FileStorage, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as error:
        await files.create("a.txt", "fun", pieces(b"a"), ALICE)
    assert error.value.param == "purpose"
    assert blobs(tmp_path) == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [("docs", "docs"), ("My Docs", "My Docs"), ("手册", "手册"), ("a:b", "a-b"), ("vs_x", "docs-vs_x")],
)
def test_a_store_is_named_after_its_folder(folder: str, name: str) -> None:
    assert store_name(folder) == name
    assert is_store_name(name)


@pytest.mark.parametrize("name", ["", " x", "a/b", "a:b", "vs_1", "a\nb", "x" * 129])
def test_invalid_store_names_are_rejected(name: str) -> None:
    assert not is_store_name(name)


async def test_a_cancelled_call_leaves_no_temporary_attachment_file(
    files: FileStorage, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    readers = ReaderPool(workers=1, seconds=10, memory=2**30)
    data = base64.b64encode(b"x" * 2**24).decode()
    part = {"type": "file", "file": {"filename": "a.txt", "file_data": data}}
    reader = AttachmentReader(readers, UploadedFiles(files, cast("ArtifactStore", None)))
    reading = asyncio.create_task(reader.as_text([{"role": "user", "content": [part]}], ALICE))
    async with asyncio.timeout(60):
        while not list(folder.iterdir()):  # noqa: ASYNC110  # nobody is told of it
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        await pools.FILES.run(int)
    assert reading.cancelled() and list(folder.iterdir()) == []
    await readers.close()
