"""Files and artifacts in a bucket: acknowledged data remains, data without a row is removed, faults give one clear
error.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.server.features.sources.store import ACCESS, REGION, SECRET, ObjectStore, serving

from portico_server.blobs import bucket as bucket_module
from portico_server.blobs.bucket import BlobPlaces, open_bucket
from portico_server.blobs.cache import BlobCache
from portico_server.blobs.place import StorageUnavailable
from portico_server.core.errors import InvalidRequest, NotFound, Unavailable
from portico_server.core.principal import LOCAL, SYSTEM
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.schema import blob_marks
from portico_server.features.files.files import FILE_BLOBS, FileStorage
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore, Author, NewArtifact
from portico_server.settings import Settings, load

LARGE = b"many bytes " * 50_000


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setattr(bucket_module, "RETRY_S", 0.0)
    with serving() as store:
        store.buckets["shop"] = {}
        yield store


@dataclass(frozen=True, slots=True)
class Side:
    """A daemon's own home and the bucket that it shares."""

    home: Path
    places: BlobPlaces
    files: FileStorage
    artifacts: ArtifactStore

    async def put(self, content: bytes) -> FileRow:
        async def sent() -> AsyncIterator[bytes]:
            yield content

        return await self.files.create("a.txt", "user_data", sent(), SYSTEM)

    async def content(self, row: FileRow) -> bytes:
        name, data = await UploadedFiles(self.files, self.artifacts).read(row.id, LOCAL, limit=10_000_000)
        assert name == row.filename
        return data

    def cached(self) -> list[Path]:
        return sorted(path for path in (self.home / "cache").rglob("*") if path.is_file())


def settings(home: Path, store: ObjectStore, **more: Any) -> Settings:
    return Settings(
        home=home,
        database="postgresql://me@host/name",
        files="s3://shop/portico",
        s3_endpoint=store.url,
        s3_region=REGION,
        s3_access_key=ACCESS,
        s3_secret_key=SECRET,
        **more,
    )


@pytest.fixture
async def sides(tmp_path: Path, store: ObjectStore) -> AsyncIterator[tuple[Side, Side, Database]]:
    """Two daemons on one database. SQLite counts too: no test needs a feature that only PostgreSQL has."""
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    all_sides = []
    for name in "ab":
        places = BlobPlaces(database, settings(tmp_path / name, store, files_cache_mb=1))
        files = FileStorage(database, places.of(FILE_BLOBS), max_bytes=10_000_000)
        await files.start()
        all_sides.append(
            Side(tmp_path / name, places, files, ArtifactStore(database, places.of(ARTIFACT_BLOBS)))
        )
    yield all_sides[0], all_sides[1], database
    for side in all_sides:
        await side.places.close()
    database.close()


Sides = tuple[Side, Side, Database]


def marked(database: Database) -> Callable[..., Any]:
    async def count() -> int:
        return len(await database.read(lambda c: c.execute(select(blob_marks)).all()))

    return count


async def test_daemons_share_stored_bytes_until_the_last_row_is_deleted(
    sides: Sides, store: ObjectStore
) -> None:
    a, b, database = sides
    small, large = await a.put(b"small"), await a.put(LARGE)
    again = await b.put(LARGE)
    objects = store.buckets["shop"]
    names = {row.sha256: f"portico/blobs/{row.sha256[:2]}/{row.sha256[2:]}" for row in (small, large)}
    assert objects == {names[small.sha256]: b"small", names[large.sha256]: LARGE}
    operations = [operation for operation, key in store.asked if key == names[large.sha256]]
    assert operations == ["head", "put", "head"], "it was there at B"
    assert await b.content(small) == b"small" and await a.content(again) == LARGE
    [figure] = await a.artifacts.keep(
        [NewArtifact("f.svg", "image/svg+xml", b"<svg/>")], Author("run_1", SYSTEM)
    )
    assert await b.artifacts.read(figure.id, LOCAL) == b"<svg/>"
    await b.artifacts.delete(figure.id, LOCAL)
    await b.files.remove(large)
    assert await a.content(again) == LARGE
    await b.files.remove(again)
    assert set(objects) == {names[small.sha256]}
    assert len(a.cached()) == 3, "A has not heard of it"
    await a.files.expire()
    await a.artifacts.sweep()
    assert [path.read_bytes() for path in a.cached()] == [b"small"]
    assert await marked(database)() == 0
    objects.clear()
    (a.cached()[0]).unlink()
    with pytest.raises(NotFound, match="no longer in the bucket") as caught:
        await a.content(small)
    assert caught.value.code == "file_content_missing"


async def test_no_acknowledged_upload_loses_its_bytes_while_another_daemon_deletes_the_same(
    sides: Sides, store: ObjectStore
) -> None:
    a, b, database = sides
    uploads = []
    for number in range(40):
        content = f"content {number % 4}".encode()
        first = await a.put(content)
        _gone, row = await asyncio.gather(a.files.remove(first), b.put(content))
        uploads.append((row, content))
    objects = store.buckets["shop"]
    for row, content in uploads:
        assert objects[f"portico/blobs/{row.sha256[:2]}/{row.sha256[2:]}"] == content
    assert await marked(database)() == 0


async def test_an_upload_of_bytes_being_removed_waits_and_stores_them_again(
    sides: Sides, store: ObjectStore
) -> None:
    a, b, _database = sides
    row = await a.put(b"the same")
    reached, go = threading.Event(), threading.Event()
    store.gates["DELETE"] = (reached, go)
    removing = asyncio.create_task(a.files.remove(row))
    await asyncio.to_thread(reached.wait, 60)
    bringing = asyncio.create_task(b.put(b"the same"))
    store.asked.clear()
    go.set()
    await removing
    await bringing
    assert [operation for operation, _key in store.asked] == ["delete", "put"]
    assert list(store.buckets["shop"].values()) == [b"the same"]


async def test_bytes_of_a_killed_daemon_are_removed_but_pending_uploads_stay(
    sides: Sides, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    a, b, database = sides

    async def killed(*_arguments: object) -> None:
        raise KilledError

    blobs = a.files._blobs
    with monkeypatch.context() as patched:
        patched.setattr(blobs, "_abandon", killed)  # a killed process runs no further line of ours
        patched.setattr(blobs, "_adopt", killed)
        patched.setattr("portico_server.db.files.add", None)
        with pytest.raises(BaseException):  # noqa: B017
            await a.put(b"never acknowledged")
    early = await b.files.receive(_once(b"placed early"))
    await b.files.place_early(early)
    await a.files.expire()
    await a.files.release([early.sha256])
    assert len(store.buckets["shop"]) == 2, "they may be on their way"
    ours = blob_marks.c.sha256 != early.sha256
    await database.write(lambda c: c.execute(update(blob_marks).where(ours).values(expires_at=0.0)))
    await b.files.expire()
    assert list(store.buckets["shop"].values()) == [b"placed early"]
    await b.files.release([early.sha256])
    await b.files.forget([early.sha256])
    assert store.buckets["shop"] == {} and await marked(database)() == 0


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize(
    ("method", "fault", "words"),
    [
        ("PUT", (503, "SlowDown"), r"returned 503 \(SlowDown\). Nothing was lost; try again"),
        ("PUT", (0, ""), "cannot be reached. Nothing was lost; try again"),
        ("PUT", (403, "ExpiredToken"), r"rejects this daemon: 403 \(ExpiredToken\). The operator must renew"),
        ("PUT", (404, "NoSuchBucket"), r"does not exist \(NoSuchBucket\). The operator must create it"),
        ("GET", (500, "InternalError"), r"returned 500 \(InternalError\)"),
        ("GET", (0, ""), "cannot be reached"),
    ],
)
async def test_a_bucket_fault_is_a_503_with_a_reason_and_loses_nothing(
    sides: Sides,
    store: ObjectStore,
    method: str,
    fault: tuple[int, str],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b, database = sides
    row = await a.put(b"before")
    store.faults[method] = [fault] * 3

    async def work() -> object:
        return await (b.content(row) if method == "GET" else b.put(b"while it fails"))

    with pytest.raises(StorageUnavailable, match=words) as caught:
        await work()
    assert (caught.value.status, caught.value.code) == (503, "storage_unavailable")
    if method == "GET":  # the other methods then remove the started upload, which succeeds
        assert (await b.places.problem()).message == caught.value.message
    disclosed_text = caught.value.message + caplog.text
    assert (
        "127.0.0.1" not in disclosed_text
        and SECRET not in disclosed_text
        and ACCESS not in disclosed_text
        and "shop" not in disclosed_text
    )
    assert b.cached() == [] and [row.id for row in (await b.files.list(LOCAL)).data] == [row.id]
    assert await marked(database)() == 0
    store.faults[method] = [fault] if fault[0] in (0, 503, 500) else []  # a single failure is retried
    await work()
    assert await b.places.problem() is None


async def test_a_removal_that_fails_is_done_by_a_sweep(sides: Sides, store: ObjectStore) -> None:
    a, b, database = sides
    row = await a.put(b"to be removed")
    store.faults["DELETE"] = [(503, "SlowDown")]
    await a.files.remove(row)
    assert len(store.buckets["shop"]) == 1 and (await a.files.list(LOCAL)).data == ()
    await database.write(lambda c: c.execute(update(blob_marks).values(expires_at=0.0)))
    await b.files.expire()
    assert store.buckets["shop"] == {} and await marked(database)() == 0


async def test_a_password_for_all_hosts_in_netrc_goes_to_no_bucket(
    sides: Sides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    a, b, _database = sides
    assert await b.content(await a.put(b"signed all the same")) == b"signed all the same"


async def test_an_object_with_altered_bytes_is_never_returned(sides: Sides, store: ObjectStore) -> None:
    a, b, _database = sides
    row = await a.put(b"as they were put")
    [name] = store.buckets["shop"]
    store.buckets["shop"][name] = b"as somebody left them"
    with pytest.raises(Unavailable, match="contains other bytes") as caught:
        await b.content(row)
    assert caught.value.code == "file_content_damaged" and b.cached() == []


async def test_the_cache_evicts_files_beyond_its_size_except_open_ones(tmp_path: Path) -> None:
    fetched_names = []

    async def read(cache: BlobCache, name: str, *meanwhile: str) -> None:
        async def fetch(to: Path) -> None:
            fetched_names.append(name)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(bytes(100))  # noqa: ASYNC240

        async with cache.open(f"blobs/00/{name}", fetch) as path:
            assert path.stat().st_size == 100
            for name_read in meanwhile:
                await read(cache, name_read)
            assert path.is_file(), "it is open"

    def here() -> set[str]:
        return {path.name for path in tmp_path.rglob("*") if path.is_file()}

    (tmp_path / "arriving").mkdir()
    (tmp_path / "arriving" / "draft").write_bytes(b"half")
    cache = BlobCache(tmp_path, 250)
    await cache.start()
    await read(cache, "a", "b", "c", "d")
    assert here() == {"a", "d"}
    for name in "aebb":
        await read(cache, name)
    assert fetched_names == ["a", "b", "c", "d", "e", "b"]
    again = BlobCache(tmp_path, 100)
    await again.start()
    assert here() == {"b"}


async def test_a_file_opened_during_cache_eviction_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = BlobCache(tmp_path, 250)
    unlink, open_event = cache._unlink, asyncio.Event()
    removing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(name: str) -> None:
        loop.call_soon_threadsafe(removing.set)
        assert go_on.wait(60)
        unlink(name)

    async def fetch(to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(bytes(100))  # noqa: ASYNC240

    async def read(name: str) -> None:
        async with cache.open(f"blobs/00/{name}", fetch):
            pass

    for name in "ab":
        await read(name)
    monkeypatch.setattr(cache, "_unlink", slow)

    async def hold(name: str) -> None:
        async with cache.open(f"blobs/00/{name}", fetch) as path:
            open_event.set()
            await making_room
            assert path.stat().st_size == 100

    making_room = asyncio.create_task(read("c"))  # which evicts the oldest entry
    await removing.wait()
    holding = asyncio.create_task(hold("a"))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(making_room, holding)
    assert open_event.is_set()


@pytest.mark.parametrize("bound", ["size", "speed"])
async def test_an_oversized_or_too_slow_object_is_abandoned(
    sides: Sides, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _database = sides
    row = await a.put(b"as they were put")
    if bound == "size":
        monkeypatch.setattr(bucket_module, "MAX_OBJECT_BYTES", 5)
    else:
        monkeypatch.setattr(bucket_module, "_patience", lambda size: -1.0 if 0 < size < 1_000 else 60.0)
    with pytest.raises(
        StorageUnavailable, match="contains other bytes" if bound == "size" else "is too slow"
    ):
        await b.content(row)
    assert b.cached() == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"files": "s3://UPPER/x"}, "must be a folder or s3://BUCKET/PREFIX"),
        ({"files": "s3://"}, "must be a folder or s3://BUCKET/PREFIX"),
        ({"files": "s3://shop", "database": ""}, "share a PostgreSQL"),
        ({"files": "s3://shop"}, "Files in a bucket need credentials with write access"),
        (
            {"files": "s3://shop", "s3_access_key": ACCESS},
            "Only one of s3_access_key and s3_secret_key is set",
        ),
        (
            {"files": "s3://shop", "max_file_mb": 6_000, "s3_access_key": "a", "s3_secret_key": "b"},
            "5,120 MB",
        ),
    ],
)
def test_impossible_bucket_settings_are_refused_with_a_reason(
    given: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    flags = {"home": str(tmp_path), "database": "postgresql://me@host/name", **given}
    with pytest.raises(InvalidRequest, match=words):
        open_bucket(load(flags=flags, environment={}).settings)
