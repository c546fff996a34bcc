"""From an attached file to found passages."""

import asyncio
import gc
import os
import signal
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.readers import documents
from tests.server.features.stores.store_fixture import LetterEmbedding
from tests.server.features.stores.store_services import TURN, StoreServices, store_services

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Embed, Request, Search, Vectors
from portico_server.db import chunks as chunk_rows
from portico_server.db import runs as run_rows
from portico_server.db import stores
from portico_server.db.files import FileRow
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.stores import ingest, model_calls, write_queue
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.index.manager import IndexManager


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home", ingest_workers=2) as shop:
        yield shop


async def test_attached_files_of_every_format_are_searchable(shop: StoreServices) -> None:
    store = await shop.stores.create("harbour", LOCAL)
    files = {
        "guide.md": b"# Ports\n\nThe lighthouse listens on port 7419.\n",
        "fees.docx": documents.word(),
        "map.pdf": documents.pdf("Nothing here", "The anchorage lies east of the pier."),
        "高山.txt": "雪莲花生长在海拔四千米以上的高山。".encode("gb18030"),
        "boats.csv": b"name,fee\nSwallow,40\nAmazon,35\n",
        "code.py": b"def dredge(depth):\n    return depth + 1\n",
        "page.html": b"<h1>Tides</h1><p>Spring tides follow the full moon.</p>",
    }
    rows = {name: await shop.upload(name, data) for name, data in files.items()}
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows.values()], LOCAL)
    assert [row.status for row in await shop.settled(store)] == ["completed"] * len(files)
    for question, name, label in [
        ("Which port does the lighthouse listen on?", "guide.md", "line 1 · Ports"),
        ("What does a berth cost?", "fees.docx", "Fees"),
        ("Where is the anchorage?", "map.pdf", "page 2"),
        ("雪莲花在哪里生长？", "高山.txt", "line 1"),
        ("fee of the Amazon", "boats.csv", "row 2"),
        ("dredge", "code.py", "line 1 · dredge"),
        ("When are spring tides?", "page.html", "Tides"),
    ]:
        best = (await shop.search(store, question)).passages[0]
        assert best.filename == name, question
        assert best.place.label().endswith(label), question
    assert len(shop.model.asked) >= len(files)


async def test_an_unreadable_file_fails_with_a_reason_and_others_are_indexed(
    shop: StoreServices,
) -> None:
    store = await shop.stores.create("mixed", LOCAL)
    rows = [
        await shop.upload("empty.txt", b""),
        await shop.upload("noise.txt", bytes(range(256)) * 20),
        await shop.upload("secret.pdf", documents.pdf("x", encrypt=True)),
        await shop.upload("good.txt", "The harbour opens at six."),
    ]
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    file_rows = await shop.settled(store)
    assert [(row.status, row.error_code, row.error_message) for row in file_rows] == [
        ("failed", "invalid_file", "empty.txt is empty: it contains nothing to index."),
        ("failed", "unsupported_file", "noise.txt is binary, not text."),
        (
            "failed",
            "invalid_file",
            "secret.pdf is protected by a password. Add a copy without a password.",
        ),
        ("completed", None, None),
    ]
    [info] = await shop.stores.describe([store], LOCAL)
    assert (info.counts.failed, info.counts.completed, info.counts.total) == (3, 1, 4)
    assert info.usage_bytes > 0


async def test_a_file_that_is_attached_again_replaces_its_chunks(shop: StoreServices) -> None:
    store = await shop.stores.create("again", LOCAL)
    row = await shop.upload("long.txt", "One sentence about the sea. " * 200)
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    await shop.settled(store)
    count_before = await shop.database.read(chunk_rows.count, store.id)
    await shop.stores.contents.attach(
        store, [FileToAttach(row.id, None, {"type": "sentence", "size": 200, "overlap": 0})], LOCAL
    )
    await shop.settled(store)
    chunks_after = await shop.database.read(chunk_rows.of_file, store.id, row.id)
    assert len(chunks_after) > 3 * count_before
    assert [chunk.ordinal for chunk in chunks_after] == list(range(len(chunks_after)))


async def test_a_long_text_is_written_completely_in_several_transactions(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MAX_BATCH_CHUNKS", 50)
    monkeypatch.setattr(write_queue, "MAX_BATCH_CHUNKS", 50)
    text = "".join(f"Paragraph number {i} has words of its own. " + "sea " * 60 + "\n\n" for i in range(900))
    store = await shop.stores.create("long", LOCAL)
    row = await shop.upload("long.txt", text)
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    [file] = await shop.settled(store)
    chunks = await shop.database.read(chunk_rows.of_file, store.id, row.id, limit=10_000)
    assert len(chunks) > 200
    assert all(text[chunk.place.start : chunk.place.end] == chunk.text for chunk in chunks)
    assert file.usage_bytes > len(text)
    assert (await shop.search(store, "paragraph number 899")).passages[0].text.count("number 899") == 1


async def test_a_briefly_failing_model_is_retried(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def call(request: Request, context: Context) -> Vectors:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise EngineFailed("It crashed.")
        return await LetterEmbedding.call(shop.model, request, context)

    monkeypatch.setattr(shop.model, "call", call)
    monkeypatch.setattr(model_calls, "FIRST_RETRY_S", 0)
    store = await shop.stores.create("patient", LOCAL)
    row = await shop.upload("a.txt", "The harbour opens at six.")
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    assert [file.status for file in await shop.settled(store)] == ["completed"]
    assert asked == 3


async def test_a_persistently_failing_model_fails_the_file_with_a_reason(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "MAX_ATTEMPTS", 1)
    shop.model.broken = True
    store = await shop.stores.create("broken", LOCAL)
    row = await shop.upload("a.txt", "The harbour opens at six.")
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    [file] = await shop.settled(store)
    assert (file.status, file.error_code) == ("failed", "server_error")
    assert file.error_message == "a.txt could not be indexed: The process behind 'letters' crashed."
    shop.model.broken = False
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    assert [file.status for file in await shop.settled(store)] == ["completed"]


async def test_a_model_failing_for_every_file_fails_the_run_and_all_files(
    shop: StoreServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "MAX_ATTEMPTS", 1)
    folder = tmp_path / "harbour"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"Berth {number} is taken.")
    asked = 0

    async def call(request: Request, context: Context) -> Vectors:
        nonlocal asked
        asked += 1
        raise EngineFailed("It crashed.")

    with monkeypatch.context() as patch:
        patch.setattr(shop.model, "call", call)
        store = await shop.stores.create("harbour", LOCAL, folder=folder)
        failure = await shop.failure(await shop.stores.sync(store))
    assert (
        failure.message
        == "Nothing could be indexed in 'harbour' because its embedding model failed: It crashed."
    )
    assert asked <= 2, "the first files, and a single word to learn whether it was they"
    [info] = await shop.stores.describe([store], LOCAL)
    assert (info.counts.in_progress, info.counts.failed) == (0, 40)
    assert info.problem == "0.txt could not be indexed: It crashed."
    result = await shop.sync(store)
    assert (result["indexed"], result["failed"]) == (40, 0)
    [info] = await shop.stores.describe([store], LOCAL)
    assert info.problem is None


async def test_a_passage_is_found_by_the_headings_above_it(shop: StoreServices) -> None:
    store = await shop.stores.create("harbour", LOCAL, embedding_model="")
    moored = "\n\n".join(f"A boat of {i} feet lies at berth {i}. " * 12 for i in range(6))
    text = f"# Harbour\n\n## 停泊 Tariffs\n\n{moored}\n\n## Weather\n\nIt is mild. Tariffs are not told here."
    row = await shop.upload("a.md", text)
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    await shop.settled(store)
    for query in ("tariffs berth 4", "停泊 berth 4"):
        best = (await shop.search(store, query)).passages[0]
        assert "berth 4" in best.text and "Tariffs" not in best.text
        assert best.place.heading[-1] == "停泊 Tariffs"
    assert (
        len((await shop.search(store, "停泊")).passages) > 1
    )  # includes passages whose own text lacks the word


@pytest.mark.parametrize("killed", [False, True])
async def test_a_retry_after_a_model_failure_embeds_only_the_rest_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(model_calls, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(ingest, "MAX_BATCH_CHUNKS", 20)
    monkeypatch.setattr(write_queue, "MAX_BATCH_CHUNKS", 20)
    text = "".join(f"Paragraph number {i} has words of its own. " + "sea " * 60 + "\n\n" for i in range(300))
    async with store_services(tmp_path / "home", ingest_workers=2) as first:
        store = await first.stores.create("long", LOCAL)
        row = await first.upload("long.txt", text)
        first.model.breaks_after = 3
        await first.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
        [file] = await first.settled(store)
        assert (file.status, file.usage_bytes) == ("failed", 0)
        once = list(first.model.asked)
        assert 40 <= len(once) < 90
        assert not (await first.search(store, "paragraph number 3")).passages  # half a file is not searchable
        if killed:
            waits = {"status": "in_progress", "error_code": None, "error_message": None}
            await first.database.write(stores.set_file, store.id, row.id, waits)
    async with store_services(tmp_path / "home", ingest_workers=2) as second:
        if not killed:
            await second.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
        [file] = await second.settled(store)
        assert (file.status, file.error_message) == ("completed", None)
        chunks = await second.database.read(chunk_rows.of_file, store.id, row.id, limit=10_000)
        assert [chunk.text for chunk in chunks] == [
            *once,
            *second.model.asked,
        ]  # nothing duplicated, nothing omitted
        assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
        assert (
            (await second.search(store, "paragraph number 3"))
            .passages[0]
            .text.startswith("Paragraph number 3 ")
        )
        full_store = await second.stores.create("whole", LOCAL)
        await second.stores.contents.attach(full_store, [FileToAttach(row.id)], LOCAL)
        assert [file_row.usage_bytes for file_row in await second.settled(full_store)] == [file.usage_bytes]
        await second.stores.contents.attach(
            store, [FileToAttach(row.id, chunking={"type": "sentence", "size": 500})], LOCAL
        )
        await second.settled(store)
        again = await second.database.read(chunk_rows.of_file, store.id, row.id, limit=10_000)
        assert len(again) > len(chunks)  # with different chunking, the file is rebuilt


async def test_a_store_without_a_model_is_indexed_by_words(shop: StoreServices) -> None:
    store = await shop.stores.create("words", LOCAL, embedding_model="")
    row = await shop.upload("a.txt", "The harbour opens at six.")
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    await shop.settled(store)
    assert shop.model.asked == []
    assert (await shop.search(store, "When does the harbour open?")).passages[0].filename == "a.txt"


async def test_a_file_deleted_while_queued_leaves_no_chunks(shop: StoreServices) -> None:
    store = await shop.stores.create("gone", LOCAL)
    rows = [await shop.upload(f"{i}.txt", f"Word number {i} of many.") for i in range(6)]
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    await asyncio.gather(*(shop.files.delete(row.id, LOCAL) for row in rows[2:]))
    assert [row.filename for row in await shop.settled(store)] == ["0.txt", "1.txt"]
    assert await shop.database.read(chunk_rows.count, store.id) == 2
    result = await shop.search(store, "number many")
    assert {passage.filename for passage in result.passages} == {"0.txt", "1.txt"}


async def test_progress_is_reported_in_files(shop: StoreServices) -> None:
    store = await shop.stores.create("told", LOCAL)
    rows = [await shop.upload(f"{i}.txt", f"Word number {i} of many.") for i in range(3)]
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    await shop.settled(store)
    runs = [run for run in reversed(shop.runner.list()) if run.kind == "ingest"]
    events = [event for run in runs for event in await shop.events(run.id)]
    progress = [(event.done, event.total, event.unit) for event in events if isinstance(event, Progressed)]
    assert progress[:1] == [(0, 3, "files")]
    assert (3, 3, "files") in progress


async def test_progress_names_the_current_file_and_its_written_percentage(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MAX_BATCH_CHUNKS", 20)
    monkeypatch.setattr(write_queue, "MAX_BATCH_CHUNKS", 20)
    store = await shop.stores.create("told", LOCAL)
    row = await shop.upload("big.txt", "".join(f"Word number {i} of many. " for i in range(20_000)))
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    await shop.settled(store)
    runs = [run for run in reversed(shop.runner.list()) if run.kind == "ingest"]
    progress = [event for run in runs for event in await shop.events(run.id) if isinstance(event, Progressed)]
    shares = [
        int(event.message.removeprefix("big.txt ").removesuffix(" %"))
        for event in progress
        if event.message.endswith(" %")
    ]
    assert len(shares) > 2 and shares == sorted(shares) and shares[-1] <= 99
    assert (progress[0].done, progress[0].total) == (0, 1)


async def test_a_search_reports_how_many_files_are_not_yet_indexed(shop: StoreServices) -> None:
    store = await shop.stores.create("partly", LOCAL)
    first = await shop.upload("port.txt", "The lighthouse listens on port 7419.")
    await shop.stores.contents.attach(store, [FileToAttach(first.id)], LOCAL)
    await shop.settled(store)
    search = Search("port of the lighthouse", names=True)
    async with shop.stores.ingest.writing(store.id):  # no file is read meanwhile
        rows = [await shop.upload(f"{i}.txt", f"Word number {i}.") for i in range(2)]
        await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
        run = await shop.runner.start("search", f"store/{store.id}", search, LOCAL)
        result = await shop.runner.wait(run)
        assert (result.files, result.waiting, len(result.passages)) == (1, 2, 1)
        assert Progressed("index", "", done=1, total=3, unit="files") in await shop.events(run.id)
    await shop.settled(store)
    assert (await shop.runner.call("search", f"store/{store.id}", search, LOCAL)).waiting == 0


async def test_acknowledged_files_are_indexed_after_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with store_services(home, ingest_workers=2) as first:
        store = await first.stores.create("kept", LOCAL)
        rows = [await first.upload(f"{i}.txt", f"Word number {i} of many. " * 50) for i in range(30)]
        await first.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    async with store_services(home, ingest_workers=2) as second:
        assert second.begun
        store = await second.stores.get("kept", LOCAL)
        assert [row.status for row in await second.settled(store)] == ["completed"] * 30
        assert {row.filename for row in await second.settled(store)} == {f"{i}.txt" for i in range(30)}


@pytest.mark.process
async def test_a_worker_killed_in_the_middle_costs_one_file_at_most(shop: StoreServices) -> None:
    store = await shop.stores.create("killed", LOCAL)
    rows = [await shop.upload(f"{i}.txt", f"Word number {i}. " * 20_000) for i in range(4)]
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    killed = False
    run = await shop.stores.contents.queue(store)
    while not killed:
        await asyncio.sleep(0)
        for worker in shop.stores._readers._busy:
            if worker.returncode is None:
                os.kill(worker.pid, signal.SIGKILL)
                killed = True
                break
    await shop.result(run)
    statuses = [row.status for row in await shop.settled(store)]
    assert sorted(statuses) in (["completed"] * 3 + ["failed"], ["completed"] * 4)


async def test_two_writers_on_one_store_neither_lose_nor_duplicate_files(shop: StoreServices) -> None:
    store = await shop.stores.create("shared", LOCAL)
    rows = [await shop.upload(f"{i}.txt", f"Word number {i} of many.") for i in range(24)]

    async def writer(mine: list[FileRow]) -> None:
        for row in mine:
            await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)

    async with asyncio.TaskGroup() as writers:
        for mine in (rows[:16], rows[8:]):  # some of the files belong to both
            writers.create_task(writer(mine))
    assert [file.status for file in await shop.settled(store)] == ["completed"] * 24
    assert await shop.database.read(chunk_rows.count, store.id) == 24
    results = [await shop.search(store, f"number {i}") for i in range(24)]
    assert [result.passages[0].filename for result in results] == [f"{i}.txt" for i in range(24)]


async def test_uploads_of_one_key_do_not_delay_other_keys_in_a_shared_store(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key's uploads delay nobody else in a shared store.

    The uploads take long and are many. Another key's file is read alongside them, in the store and in a group, and
    keys whose files are still being read get their share of runs.
    """
    eve, bob = (Principal(name, frozenset({"chat", "stores:*:write"})) for name in ("key_eve", "key_bob"))
    store = await shop.stores.create("shared", LOCAL)
    start_event, end_event = asyncio.Event(), asyncio.Event()
    readers, read = shop.stores._readers, ReaderPool.read

    async def slowly(pool: ReaderPool, path: Path, name: str, *given: Any, **more: Any) -> AsyncIterator[Any]:
        if name.startswith("slow"):
            async with readers._slots.hold():
                start_event.set()
                await end_event.wait()
        async for parts in read(pool, path, name, *given, **more):
            yield parts

    monkeypatch.setattr(ReaderPool, "read", slowly)

    async def attach(name: str, key: Principal) -> None:
        row = await shop.upload(name, f"Of {name}.", key)
        view = await shop.stores.get("shared", key, "write")
        await shop.stores.contents.attach(view, [FileToAttach(row.id)], key)

    async def states() -> dict[str, str]:
        page = await shop.stores.contents.list(store, limit=100)
        return {row.filename: row.status for row in page.data}

    for number in range(8):
        await attach(f"slow-{number}.txt", eve)
    await start_event.wait()
    await attach("quick.txt", bob)
    while (await states())["quick.txt"] != "completed":  # noqa: ASYNC110  # as `StoreServices.events` waits
        await asyncio.sleep(TURN)
    assert {status for name, status in (await states()).items() if name != "quick.txt"} == {"in_progress"}
    page = await shop.database.read(run_rows.newest, 100)
    assert {(run.kind, run.key) for run in page.data} == {("ingest", "key_eve"), ("ingest", "key_bob")}
    end_event.set()
    assert {row.status for row in await shop.settled(store)} == {"completed"}


async def test_a_key_that_writes_endlessly_does_not_block_a_sync(
    shop: StoreServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that writes without end does not keep a sync from ending.

    A shared store follows a folder, and a key adds a new file whenever one was read. The run that indexes those files
    yields, the sync reads its own files and ends, and no file is forgotten.
    """
    monkeypatch.setattr(ingest, "MAX_TURN_S", 0.0)
    eve = Principal("key_eve", frozenset({"stores:*:write"}))
    folder = tmp_path / "followed"
    folder.mkdir()
    (folder / "first.txt").write_text("The first.")
    store = await shop.stores.follow("shared", folder, LOCAL)
    await shop.result(await shop.stores.sync(store))
    (folder / "second.txt").write_text("The second.")
    start_event, count, over = asyncio.Event(), 0, False

    async def attach() -> None:
        nonlocal count
        count += 1
        row = await shop.upload(f"eve-{count}.txt", f"Number {count}.", eve)
        view = await shop.stores.get("shared", eve, "write")
        await shop.stores.contents.attach(view, [FileToAttach(row.id)], eve)

    read = ReaderPool.read

    async def endlessly(
        pool: ReaderPool, path: Path, name: str, *given: Any, **more: Any
    ) -> AsyncIterator[Any]:
        if name.startswith("eve") and not over:
            await attach()
            start_event.set()
        async for parts in read(pool, path, name, *given, **more):
            yield parts

    monkeypatch.setattr(ReaderPool, "read", endlessly)
    await attach()
    await start_event.wait()
    result = await shop.result(await shop.stores.sync(store))
    assert (result["added"], result["failed"]) == (1, 0)
    page = await shop.stores.contents.list(await shop.stores.get("shared", LOCAL, "read"), limit=100)
    assert {row.status for row in page.data if row.filename == "second.txt"} == {"completed"}
    over = True
    assert {row.status for row in await shop.settled(store)} == {"completed"}


async def test_files_of_one_transaction_fail_independently(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(request: Request, context: Context) -> Vectors:
        assert isinstance(request, Embed)
        if any("poison" in text for text in request.input):
            raise EngineFailed("It cannot read this.")
        return await LetterEmbedding.call(shop.model, request, context)

    monkeypatch.setattr(shop.model, "call", call)
    monkeypatch.setattr(model_calls, "MAX_ATTEMPTS", 1)
    store = await shop.stores.create("mixed", LOCAL)
    texts = {"a.txt": "Sound.", "b.txt": "The poison.", "c.pdf": b"%PDF-1.4 no", "d.txt": "Sound as well."}
    rows = [await shop.upload(name, text) for name, text in texts.items()]
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    states = {file.filename: (file.status, file.error_message) for file in await shop.settled(store)}
    assert [states[name][0] for name in texts] == ["completed", "failed", "failed", "completed"]
    assert states["b.txt"][1] == "b.txt could not be indexed: It cannot read this."
    assert await shop.database.read(chunk_rows.count, store.id) == 2


async def test_writers_of_a_store_take_turns_and_their_lock_is_freed(
    shop: StoreServices, tmp_path: Path
) -> None:
    readers = ReaderPool(workers=1, seconds=1, memory=2**20)
    work = ingest.Ingest(shop.database, shop.files, readers, IndexManager(shop.database, tmp_path), workers=1)
    async with work.write_lock("one"), work.write_lock("two"):
        assert work.write_lock("one").locked()
        lock_reference = weakref.ref(work.write_lock("one"))
    gc.collect()
    assert lock_reference() is None
    assert not work.write_lock("one").locked()
