"""The properties that several daemons on one PostgreSQL need: one writer, leases by its clock, notices, durable
bytes.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, func, insert, select, text
from tests import postgres

from portico_server.blobs.place import FolderBlobs
from portico_server.core.errors import InvalidRequest, NotFound, Unavailable
from portico_server.core.principal import SYSTEM
from portico_server.db import conversations, responses, rows, runs
from portico_server.db import feed as feed_module
from portico_server.db.database import MAX_READERS, Database
from portico_server.db.feed import Feed
from portico_server.db.models import put_model
from portico_server.db.responses import ResponseRow
from portico_server.db.rows import DriverQuery
from portico_server.db.runs import NewRun
from portico_server.db.schema import HEAD, aliases
from portico_server.features.files.files import FILE_BLOBS, FileStorage
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore, Author, NewArtifact
from portico_server.settings import load

ALIASES = DriverQuery(select(aliases.c.name).where(aliases.c.name == bindparam("name")))


@pytest.fixture(scope="module")
def template(server: postgres.Server) -> str:
    """The name of a migrated database without connections."""
    url = server.new()
    database = Database(url)
    database.prepare()
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture
def url(server: postgres.Server, template: str) -> str:
    return server.new(template)


@pytest.fixture
def pair(url: str) -> Iterator[tuple[Database, Database]]:
    """The database as two daemons see it."""
    first, second = Database(url), Database(url)
    yield first, second
    first.close()
    second.close()


@asynccontextmanager
async def following(*feeds: Feed) -> AsyncIterator[None]:
    """Wait until all feeds listen: a message sent before a feed listens is lost to that feed."""
    listen = [asyncio.Event() for _ in feeds]
    for feed, listens in zip(feeds, listen, strict=True):
        feed.report("listening", partial(_collected, listens))
    tasks = [asyncio.create_task(feed.run()) for feed in feeds]
    try:
        async with asyncio.timeout(60):
            for listens in listen:
                await listens.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _collected(listens: asyncio.Event, _all: bool) -> dict[str, Any]:
    listens.set()
    return {}


def alias(connection: Connection, name: str) -> None:
    connection.execute(insert(aliases).values(name=name, target="x"))


def test_daemons_that_open_an_empty_database_at_once_migrate_it_once(server: postgres.Server) -> None:
    url = server.new()
    together = threading.Barrier(4)

    def opened() -> None:
        database = Database(url)
        try:
            together.wait(60)
            database.prepare()
        finally:
            database.close()

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(opened) for _ in range(4)]:
            done.result()
    assert [row[0] for row in server.execute("select version_num from alembic_version", url)] == [HEAD]


async def test_a_read_and_dependent_write_are_atomic_across_daemons(
    pair: tuple[Database, Database],
) -> None:
    def count_up(connection: Connection) -> None:
        target = connection.execute(text("select target from aliases where name = 'n'")).scalar()
        if target is None:
            connection.execute(text("insert into aliases values ('n', '1')"))
        else:
            number = str(int(target) + 1)
            connection.execute(text("update aliases set target = :n where name = 'n'"), {"n": number})

    await asyncio.gather(*(database.write(count_up) for database in pair for _ in range(20)))
    number = await pair[0].read(
        lambda c: c.execute(text("select target from aliases where name = 'n'")).scalar()
    )
    assert number == "40"


async def test_a_daemon_with_a_clock_45_seconds_ahead_takes_over_no_live_run(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = NewRun("run_1", "flow", "name", "owner", {})
    await pair[0].write(runs.begin, new, "A", 30.0)
    with monkeypatch.context() as patch:
        ahead = time.time() + 45
        patch.setattr(time, "time", lambda: ahead)
        assert await pair[1].write(runs.claim, ["flow"], "B", 30.0) is None
        await pair[1].write(runs.begin, NewRun("run_2", "flow", "other", "owner", {}), "B", 30.0)
    await pair[0].write(
        lambda c: c.execute(text("update runs set lease_expires = 0 where id = 'run_1'")) and None
    )
    run = await pair[0].write(runs.claim, ["flow"], "C", 30.0)
    assert run is not None
    assert run.id == "run_1", "the lease of the daemon whose clock is ahead has not run out"


async def test_a_connection_that_was_dropped_is_replaced(
    pair: tuple[Database, Database], server: postgres.Server, url: str
) -> None:
    database = pair[0]
    await database.write(alias, "one")
    await database.read(rows.database_time)
    assert await asyncio.gather(*(database.fetch(ALIASES, name="one") for _ in range(3))) == [[["one"]]] * 3
    await asyncio.to_thread(
        server.execute,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'portico%'",
    )
    assert await asyncio.gather(*(database.fetch(ALIASES, name="one") for _ in range(3))) == [[["one"]]] * 3
    await database.write(alias, "two")
    assert await database.read(lambda c: c.execute(text("select count(*) from aliases")).scalar()) == 2


async def test_a_statement_outside_a_transaction_fails_as_one_within(
    pair: tuple[Database, Database], server: postgres.Server
) -> None:
    database = pair[0]
    with pytest.raises(InvalidRequest, match=r"U\+0000"):
        await database.fetch(ALIASES, name="a\0b")
    assert await database.fetch(ALIASES, name="a") == [], (
        "the connection works after an error of the statement"
    )
    with pytest.raises(Unavailable) as caught:
        await database.fetch(DriverQuery(select(func.pg_terminate_backend(func.pg_backend_pid()))))
    assert (caught.value.status, caught.value.code) == (503, "database_unavailable")
    assert await database.fetch(ALIASES, name="a") == []


async def test_a_statement_that_was_cancelled_leaves_the_next_one_a_connection(
    pair: tuple[Database, Database], server: postgres.Server
) -> None:
    database = pair[0]
    sleeping = (
        "select count(*) from pg_stat_activity where query like 'SELECT pg_sleep%' and state = 'active'"
    )
    for _ in range(MAX_READERS + 1):
        task = asyncio.create_task(database.fetch(DriverQuery(select(func.pg_sleep(60)))))
        while not (await asyncio.to_thread(server.execute, sleeping))[0][0]:
            continue
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert await database.fetch(ALIASES, name="a") == []


async def test_a_connection_that_is_dropped_within_a_transaction_is_503_and_nothing_is_changed(
    pair: tuple[Database, Database],
) -> None:
    def cut_off(connection: Connection) -> None:
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    def change(connection: Connection) -> None:
        alias(connection, "lost")
        cut_off(connection)

    for work in (pair[0].write(change), pair[0].read(cut_off)):
        with pytest.raises(Unavailable) as caught:
            await work
        assert (caught.value.status, caught.value.code) == (503, "database_unavailable")
    await pair[0].write(alias, "kept")
    names = await pair[0].read(lambda c: c.execute(text("select name from aliases")).scalars().all())
    assert names == ["kept"]


async def test_an_unavailable_database_is_503_and_is_used_again_when_it_returns(
    pair: tuple[Database, Database], server: postgres.Server, url: str
) -> None:
    database, name = pair[0], url.rpartition("/")[2]
    await database.write(alias, "one")

    def switch(on: bool) -> None:
        server.execute(f'alter database "{name}" allow_connections {str(on).lower()}')
        server.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")

    await asyncio.to_thread(switch, False)
    for work in (
        lambda: database.write(alias, "two"),
        lambda: database.read(rows.database_time),
        lambda: database.fetch(ALIASES, name="one"),
    ):
        with pytest.raises(Unavailable) as caught:
            await work()
        assert (caught.value.status, caught.value.code) == (503, "database_unavailable")
    await asyncio.to_thread(switch, True)
    await database.write(alias, "two")
    await database.read(rows.database_time)
    assert await database.fetch(ALIASES, name="two") == [["two"]]


async def test_a_change_notifies_other_daemons_but_not_its_own(
    pair: tuple[Database, Database],
) -> None:
    refresh_events = [asyncio.Event(), asyncio.Event()]
    feeds = [Feed(database) for database in pair]
    for feed, event in zip(feeds, refresh_events, strict=True):

        async def refresh(event: asyncio.Event = event) -> None:
            event.set()

        feed.refresh("aliases", refresh)
    async with following(*feeds):
        await pair[0].write(alias, "one")
        async with asyncio.timeout(60):
            await refresh_events[1].wait()
        refresh_events[0].clear()
        await pair[0].write(alias, "two")
        await pair[0].read(rows.database_time)
    assert not refresh_events[0].is_set()


async def test_a_lost_notification_is_made_up_for_by_polling(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Feed, "_listener", lambda *_: None)
    refreshed = asyncio.Event()

    async def refresh() -> None:
        refreshed.set()

    first, second = Feed(pair[0]), Feed(pair[1])
    first.refresh("aliases", refresh)
    second.refresh("aliases", refresh)
    async with following(second):
        for number in range(2):
            refreshed.clear()
            await pair[0].write(alias, str(number))
            async with asyncio.timeout(60):
                await refreshed.wait()


@pytest.mark.slow
async def test_asking_other_daemons_reports_answers_failures_and_timeouts(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[str] = []

    async def answer(question: str) -> Any:
        questions.append(question)
        match question:
            case "known":
                return {"large": "é" * 100_000}
            case "full":
                raise Unavailable("The disk is full.")
            case "wrong":
                raise ValueError(question)
            case "too large":
                return random.Random(0).randbytes(2**21).hex()
            case "silent":
                await asyncio.Event().wait()
            case "ended":
                monkeypatch.setattr(feed_module, "PRESENT_S", 0.0)
                await asyncio.Event().wait()
        return None

    first, second = Feed(pair[0]), Feed(pair[1])
    assert await first.ask("word", "known") is None, "nobody else is there"
    second.answer("word", answer)
    greeting_event = asyncio.Event()
    first.receive("here I am", lambda *_: greeting_event.set())
    second.report("here I am", lambda each_second: {"": 1} if each_second else {})
    async with following(first, second), asyncio.timeout(60):
        await greeting_event.wait()
        reply = await first.ask("word", "known")
        assert reply == (pair[1].postgres.origin, {"large": "é" * 100_000})  # type: ignore[union-attr]
        assert reply is not None and await first.ask("word", "known", reply[0]) == reply
        assert await first.ask("word", "unknown") is await first.ask("other", "known") is None
        assert await first.ask("word", "known", "gone") is None
        for question, reason in (("full", "disk is full"), ("wrong", "log"), ("too large", "too large")):
            with pytest.raises(Unavailable, match=reason):
                await first.ask("word", question)
        monkeypatch.setattr(feed_module, "ANSWER_TIMEOUT_S", 1.0)
        with pytest.raises(Unavailable, match="has not answered") as silent:
            await first.ask("word", "silent")
        assert silent.value.code == "daemon_silent" and "silent" in questions
        monkeypatch.setattr(feed_module, "MAX_ASK_ATTEMPTS", 1)
        assert await first.ask("word", "ended") is None


async def test_an_exclusive_name_is_locked_for_other_daemons_until_released(
    pair: tuple[Database, Database],
) -> None:
    order: list[str] = []
    async with pair[0].exclusive("session") as ours:
        assert ours
        for seconds in (0, 0.1):
            async with pair[1].exclusive("session", wait_s=seconds) as theirs:
                assert not theirs

        async def second() -> None:
            async with pair[1].exclusive("session"):
                order.append("second")

        second_task = asyncio.create_task(second())
        async with pair[1].exclusive("another", wait_s=0) as free:
            assert free
        order.append("first")
    await second_task
    assert order == ["first", "second"]


async def test_a_cancelled_caller_leaves_no_exclusive_name_locked(pair: tuple[Database, Database]) -> None:
    async def use() -> None:
        async with pair[0].exclusive("session"):
            pass

    for turns in range(12):  # cancelled at each of its possible suspension points
        using = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        using.cancel()
        await asyncio.wait([using])
        async with asyncio.timeout(60), pair[1].exclusive("session") as ours:
            assert ours


async def test_a_failing_refresh_of_one_table_does_not_block_others(pair: tuple[Database, Database]) -> None:
    refreshed, tries = asyncio.Event(), asyncio.Queue[int]()

    async def fail() -> None:
        tries.put_nowait(1)
        raise KeyError("a row of a newer version")

    async def refresh() -> None:
        refreshed.set()

    writer, feed = Feed(pair[0]), Feed(pair[1])
    writer.refresh("aliases", refresh)
    feed.refresh("aliases", fail)
    writer.refresh("models", refresh)
    feed.refresh("models", refresh)
    async with following(feed), asyncio.timeout(60):
        await pair[0].write(alias, "one")
        for _ in range(2):
            await tries.get()
        await pair[0].write(put_model, "m", None, {})
        await refreshed.wait()


def files_in(database: Database, folder: Path) -> FileStorage:
    return FileStorage(database, FolderBlobs(database, folder, FILE_BLOBS), max_bytes=1_000)


def artifacts_in(database: Database, folder: Path) -> ArtifactStore:
    return ArtifactStore(database, FolderBlobs(database, folder, ARTIFACT_BLOBS))


async def sent(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_no_acknowledged_upload_loses_its_bytes_while_another_daemon_deletes_the_same(
    pair: tuple[Database, Database], tmp_path: Path
) -> None:
    stores = [files_in(database, tmp_path / "blobs") for database in pair]
    uploads = []

    async def upload(store: FileStorage, content: bytes) -> Any:
        return await store.create("a.txt", "user_data", sent(content), SYSTEM)

    for number in range(40):
        content = f"content {number % 4}".encode()
        first = await upload(stores[0], content)
        _gone, row = await asyncio.gather(stores[0].remove(first), upload(stores[1], content))
        uploads.append((row, content))
    for row, content in uploads:
        async with stores[0].open(row.sha256) as path:
            assert path.read_bytes() == content


async def test_no_artifact_loses_its_bytes_while_another_daemon_deletes_the_same(
    pair: tuple[Database, Database], tmp_path: Path
) -> None:
    stores = [artifacts_in(database, tmp_path / "artifacts") for database in pair]
    by = Author("run_1", SYSTEM)
    new = NewArtifact("a.txt", "text/plain", b"the same")
    for _ in range(40):
        (first,) = await stores[0].keep([new], by)
        _gone, (second,) = await asyncio.gather(stores[0].delete(first.id, SYSTEM), stores[1].keep([new], by))
        assert await stores[0].read(second.id, SYSTEM) == b"the same"
        await stores[0].delete(second.id, SYSTEM)


async def test_a_starting_daemon_keeps_files_another_daemon_is_receiving(
    pair: tuple[Database, Database], tmp_path: Path
) -> None:
    stores = [files_in(database, tmp_path / "blobs") for database in pair]
    upload = await stores[0].receive(sent(b"on its way"))
    early = await stores[0].receive(sent(b"in its place"))
    await stores[0].place_early(early)
    await stores[1].start()
    await stores[1].release([early.sha256])
    row = await stores[0].keep(upload, "a.txt", "user_data", SYSTEM)
    async with stores[1].open(row.sha256) as path:
        assert path.read_bytes() == b"on its way"
    async with stores[0].open(early.sha256) as path:
        assert path.read_bytes() == b"in its place"


async def test_bytes_stored_only_by_another_daemon_are_a_404_naming_the_setting(
    pair: tuple[Database, Database], tmp_path: Path
) -> None:
    first, second = (files_in(database, tmp_path / name) for database, name in zip(pair, "ab", strict=True))
    row = await first.create("a.txt", "user_data", sent(b"at A"), SYSTEM)
    with pytest.raises(NotFound, match="Set the setting 'files' of all of them") as caught:
        await UploadedFiles(second, artifacts_in(pair[1], tmp_path)).read(row.id, SYSTEM, limit=1_000)
    assert caught.value.code == "file_content_missing"


def test_a_separate_files_folder_requires_postgresql(tmp_path: Path) -> None:
    apart = {"home": str(tmp_path), "files": str(tmp_path / "files")}
    with pytest.raises(InvalidRequest, match="PostgreSQL") as caught:
        load(flags=apart, environment={})
    assert caught.value.param == "files"
    settings = load(flags={**apart, "database": "postgresql://me@host/name"}, environment={}).settings
    assert settings.files_folder == tmp_path / "files"
    assert load(flags={"home": str(tmp_path)}, environment={}).settings.files_folder == tmp_path


@pytest.mark.parametrize(
    "work",
    [
        lambda c: c.execute(text("select 1/0")),
        lambda c: c.execute(text("select * from nowhere")),
        lambda c: c.execute(text("insert into aliases values ('n', null)")),
    ],
)
async def test_database_errors_reveal_no_table_names_or_values(
    pair: tuple[Database, Database], work: Callable[[Connection], Any]
) -> None:
    from portico_server.core.errors import PorticoError

    with pytest.raises(PorticoError) as caught:
        await pair[0].write(work)
    assert "nowhere" not in caught.value.message
    with suppress(PorticoError):
        await pair[0].read(work)
    await pair[0].write(alias, "after")


async def test_a_text_with_a_nul_character_is_refused_as_invalid_request(
    pair: tuple[Database, Database],
) -> None:
    for work in (partial(responses.get, row_id="a\0b"), partial(alias, name="a\0b")):
        with pytest.raises(InvalidRequest, match=r"U\+0000"):
            await pair[0].write(work)
    with pytest.raises(InvalidRequest, match=r"U\+0000"):
        await pair[0].read(responses.get, "a\0b")
    await pair[0].write(alias, "after")


async def test_a_chain_of_responses_is_read_up_to_its_bounds(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = pair
    document = '{"output": []}'
    links = [
        ResponseRow(
            *(f"resp_{number}", "key_a", "", f"resp_{number - 1}" if number else None, None, "completed"),
            background=False,
            input='[{"id": "msg_1"}]',
            document=document,
            created_at=1.0,
        )
        for number in range(12)
    ]
    await first.write(lambda connection: [responses.keep(connection, row) for row in links])
    chain = await first.read(responses.chain, "resp_11", "key_a")
    assert chain is not None and [row.id for row in chain] == [row.id for row in links]
    assert await first.read(responses.chain, "resp_11", "key_b") == []
    assert len(await first.read(responses.several, [row.id for row in links]) or ()) == 12
    monkeypatch.setattr(conversations, "MAX_WHOLE_ITEMS", 11)
    assert await first.read(responses.chain, "resp_11", None) is None
    assert len(await first.read(responses.chain, "resp_10", None) or ()) == 11
    monkeypatch.setattr(conversations, "MAX_WHOLE_CHARS", 3 * len(links[0].input + document))
    assert await first.read(responses.chain, "resp_3", None) is None
    assert len(await first.read(responses.chain, "resp_2", None) or ()) == 3
    assert await first.read(responses.several, [row.id for row in links]) is None
