"""Indexes follow the log, survive restarts, and are rebuilt when damaged or outdated."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import tantivy
from tests.server.features.stores.store_fixture import STORE, StoreFixture

from portico.wire import Event, Progressed
from portico_server.core.errors import NotFound, Unavailable
from portico_server.db import changes, chunks
from portico_server.features.stores.index import handle, manager, replay
from portico_server.features.stores.index.offset import LogOffset, is_outdated


@pytest.fixture
async def stocked(tmp_path: Path) -> AsyncIterator[StoreFixture]:
    stocked = await StoreFixture(tmp_path).open()
    yield stocked
    await stocked.close()


def lexical(stocked: StoreFixture) -> Path:
    return stocked.home / "indexes" / STORE / "lexical"


async def test_committed_chunks_are_found_immediately(stocked: StoreFixture) -> None:
    await stocked.put("f1", "bread is baked")
    assert await stocked.find("bread") == ["bread is baked"]
    await stocked.put("f2", "bread is eaten")
    assert set(await stocked.find("bread")) == {"bread is baked", "bread is eaten"}


async def test_replaced_or_removed_chunks_are_no_longer_found(stocked: StoreFixture) -> None:
    await stocked.put("f1", "bread is baked", "bread rises")
    await stocked.put("f2", "wine is pressed")
    assert len(await stocked.find("bread", ranker="lexical")) == 2
    await stocked.put("f1", "cheese is aged")
    assert await stocked.find("bread", ranker="lexical") == []
    assert await stocked.find("cheese", ranker="lexical") == ["cheese is aged"]
    await stocked.remove("f1")
    assert await stocked.find("cheese", ranker="lexical") == []
    assert await stocked.find("cheese", ranker="vector") == ["wine is pressed"]


async def test_words_of_a_file_name_are_searchable(stocked: StoreFixture) -> None:
    for name, text in (
        ("acme/2024/invoice_017", "payable within thirty days"),
        ("globex/2024/invoice_018", "payable within ten days"),
        ("minutes/unitPriceList", "all agreed"),
        ("发票/二〇二四年合同", "三十天内付款"),
    ):
        await stocked.put(name, text)

    async def first(question: str) -> str:
        result = await stocked.search(question, ranker="lexical")
        return result.passages[0].text if result.passages else ""

    assert await first("Acme invoice 2024") == "payable within thirty days"
    assert await first("globex") == await first("invoice_018.txt") == "payable within ten days"
    assert await first("unit price") == await first("unitpricelist") == "all agreed"
    assert await first("合同") == await first("發票") == "三十天内付款"
    assert await first("payable within ten days") == "payable within ten days"


async def test_words_of_a_large_files_name_are_not_ranked_as_common(stocked: StoreFixture) -> None:
    """The name of a large file is not a common word: nearly every chunk of the store has it, but only one file."""
    await stocked.put("voyages-1899", *[f"the ship went to sea on day {number}" for number in range(300)])
    await stocked.put("notes", "voyages are long", "in 1899 it rained")
    await stocked.put("other", "nothing of that")
    result = await stocked.search("voyages 1899", ranker="lexical")
    assert result.passages[0].filename == "voyages-1899.txt"


async def test_a_renamed_file_is_found_only_by_its_new_name(stocked: StoreFixture) -> None:
    await stocked.put("draft", *[f"part {number}" for number in range(3)])
    await stocked.put("other", "something else")
    assert len(await stocked.find("draft", ranker="lexical")) == 3
    request_count = len(stocked.letters.asked)
    await stocked.rename("draft", "final.txt")
    assert await stocked.find("draft", ranker="lexical") == []
    assert set(await stocked.find("final", ranker="lexical")) == {"part 0", "part 1", "part 2"}
    assert (await stocked.find("part 1", ranker="vector"))[0] == "part 1"
    assert stocked.letters.asked[request_count:] == ["part 1"], "nothing but the question"
    await stocked.restart()
    assert len(await stocked.find("final", ranker="lexical")) == 3


async def test_an_empty_store_answers_with_nothing(stocked: StoreFixture) -> None:
    assert await stocked.find("bread") == []


async def test_an_index_is_reused_after_a_restart(stocked: StoreFixture) -> None:
    await stocked.put("f1", "bread is baked")
    await stocked.find("bread")
    names_before = sorted(path.name for path in lexical(stocked).glob("*.term"))
    await stocked.restart()
    assert await stocked.find("bread") == ["bread is baked"]
    assert sorted(path.name for path in lexical(stocked).glob("*.term")) == names_before
    await stocked.restart()
    await stocked.put("f2", "wine is pressed")
    assert await stocked.find("wine", ranker="lexical") == ["wine is pressed"]


def _truncate(folder: Path) -> None:
    path = max(folder.glob("*.term"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-20])


def _flip(folder: Path) -> None:
    path = max(folder.glob("*.term"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[5] ^= 0xFF
    path.write_bytes(data)


def _lose(folder: Path) -> None:
    next(folder.glob("*.idx")).unlink()


def _scribble(folder: Path) -> None:
    (folder / "meta.json").write_text("{]")


def _age(folder: Path) -> None:
    (folder / "meta.json").write_text('{"segments": [], "schema": [], "opstamp": 0}')


def _older(folder: Path) -> None:
    """Change the index to the older format without file names."""
    shutil.rmtree(folder)
    folder.mkdir()
    builder = tantivy.SchemaBuilder().add_unsigned_field("chunk", indexed=True, fast=True)
    for name in ("file", "words", "grams", "heads", "mark"):
        builder.add_text_field(name, stored=name == "mark", tokenizer_name="raw", index_option="basic")
    writer = tantivy.Index(builder.build(), str(folder)).writer()
    writer.add_document(tantivy.Document(file="", mark=LogOffset(2, 3).to_json()))
    writer.commit()
    writer.wait_merging_threads()


@pytest.mark.parametrize("damage", [_truncate, _flip, _lose, _scribble, _age, _older, shutil.rmtree])
async def test_a_damaged_index_is_built_again(stocked: StoreFixture, damage: Callable[[Path], None]) -> None:
    await stocked.put("f1", "bread is baked", "bread rises")
    await stocked.put("f2", "wine is pressed")
    await stocked.remove("f2")
    await stocked.find("bread")
    await stocked.indexes.close()
    damage(lexical(stocked))
    await stocked.restart()
    assert len(await stocked.find("bread", ranker="lexical")) == 2
    assert await stocked.find("wine", ranker="lexical") == []


async def test_an_outdated_index_is_rebuilt_before_the_first_search(
    stocked: StoreFixture,
) -> None:
    await stocked.put("f1", "bread is baked")
    await stocked.find("bread")
    await stocked.indexes.close()
    _older(lexical(stocked))
    await stocked.restart()
    await stocked.indexes.rebuild_if_outdated(STORE, stocked.model)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("index ")))
    assert not is_outdated(lexical(stocked))
    await stocked.indexes.rebuild_if_outdated(STORE, stocked.model)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("index ")], "once"
    assert await stocked.find("f1", ranker="lexical") == ["bread is baked"]


async def test_an_index_newer_than_a_restored_database_is_rebuilt(
    stocked: StoreFixture, tmp_path: Path
) -> None:
    """An index from a later state is rebuilt: the database is restored from a backup and continues differently.

    The index still contains what came after the backup.
    """
    await stocked.put("f1", "bread is baked")
    await stocked.put("f2", "wine is pressed")
    await stocked.find("wine")
    await stocked.indexes.close()
    elsewhere = tmp_path / "backup"
    elsewhere.mkdir()
    backup = await StoreFixture(elsewhere).open()
    await backup.put("f1", "bread is baked")
    await backup.put("f3", "cheese is aged")
    shutil.copytree(stocked.home / "indexes", elsewhere / "indexes")
    try:
        assert await backup.find("wine", ranker="lexical") == []
        assert await backup.find("cheese", ranker="lexical") == ["cheese is aged"]
    finally:
        await backup.close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """An event that is set when a build, slowed to one chunk at a time, is half done."""
    monkeypatch.setattr(replay, "MAX_BATCH_CHUNKS", 1)
    event = asyncio.Event()

    class Watched(replay.BuildProgress):
        def __setattr__(self, name: str, value: int) -> None:
            super().__setattr__(name, value)
            if name == "done" and value > 2:
                event.set()

    monkeypatch.setattr(replay, "BuildProgress", Watched)
    return event


async def test_an_interrupted_build_starts_again(stocked: StoreFixture, begun: asyncio.Event) -> None:
    await stocked.put("f1", *[f"bread number {i}" for i in range(200)])
    async with stocked.indexes.use(STORE, stocked.model) as index:
        task = asyncio.create_task(index.catch_up(None))
        await begun.wait()
        closing = asyncio.create_task(index.close())
        with pytest.raises(Unavailable):
            await task
        await closing
    await stocked.restart()
    assert len(await stocked.find("bread", ranker="lexical", max_num_results=50)) == 50
    async with stocked.indexes.use(STORE, stocked.model) as index:
        assert len(await index.search_words("bread", 500, None)) == 200


async def test_chunks_changed_during_a_build_are_found_once(
    stocked: StoreFixture, begun: asyncio.Event
) -> None:
    for i in range(30):
        await stocked.put(f"f{i}", f"bread number {i}")
    async with stocked.indexes.use(STORE, stocked.model) as index:
        task = asyncio.create_task(index.catch_up(None))
        await begun.wait()
        await stocked.remove("f29")
        await stocked.put("f28", "bread anew")
        await stocked.put("new", "bread at last")
        await task
        await index.catch_up(None)
        ids = [chunk for chunk, _ in await index.search_words("bread", 500, None)]
        assert sorted(ids) == list(await stocked.database.read(chunks.ids, STORE))


async def test_an_index_build_reports_its_progress(
    stocked: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_BATCH_CHUNKS", 1)
    monkeypatch.setattr(handle, "_REPORT_INTERVAL_S", 0.001)
    await stocked.put("f1", *[f"bread number {i}" for i in range(100)])
    events: list[Event] = []

    async def listen(event: Event) -> None:
        events.append(event)

    await stocked.indexes.ready(STORE, stocked.model, listen)
    reports = [event for event in events if isinstance(event, Progressed)]
    assert reports
    assert all(event.stage == "index" and event.unit == "chunks" and event.total == 100 for event in reports)
    assert [event.done for event in reports] == sorted(event.done or 0 for event in reports)


async def test_a_search_during_a_long_build_is_refused_as_unavailable(
    stocked: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_BATCH_CHUNKS", 1)
    monkeypatch.setattr(handle, "BUILD_WAIT_S", 0.0)
    await stocked.put("f1", *[f"bread number {i}" for i in range(100)])
    with pytest.raises(Unavailable) as caught:
        await stocked.find("bread")
    assert caught.value.code == "index_building"
    assert caught.value.retry_after


async def test_changes_are_indexed_in_the_background(
    stocked: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "COALESCE_S", 0.0)
    await stocked.put("f1", "bread is baked")
    stocked.indexes.note_change(STORE, stocked.model)
    await stocked.put("f2", "wine is pressed")
    stocked.indexes.note_change(STORE, stocked.model)
    await asyncio.gather(*stocked.indexes._replays.values())
    async with stocked.indexes.use(STORE, stocked.model) as index:
        assert len(await index.search_words("bread wine", 10, None)) == 2


async def test_the_number_of_open_indexes_is_limited(
    stocked: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "MAX_OPEN_INDEXES", 2)
    for i in range(5):
        await stocked.indexes.ready(f"vs_{i}", "")
    assert [store for store, _group in stocked.indexes._open] == ["vs_3", "vs_4"]


async def test_an_index_in_use_stays_open(stocked: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "MAX_OPEN_INDEXES", 1)
    async with stocked.indexes.use("vs_1", ""):
        await stocked.indexes.ready("vs_2", "")
        assert ("vs_1", "chunk") in stocked.indexes._open


async def test_a_dropped_store_leaves_nothing_on_disk(stocked: StoreFixture) -> None:
    await stocked.put("f1", "bread is baked")
    await stocked.find("bread")
    stocked.indexes.note_change(STORE, stocked.model)
    await stocked.indexes.drop(STORE)
    assert not (stocked.home / "indexes" / STORE).exists()


async def test_late_work_for_a_removed_store_does_not_recreate_its_index(
    stocked: StoreFixture,
) -> None:
    await stocked.put("f1", "bread is baked")
    await stocked.indexes.drop(STORE)
    stocked.indexes.note_change(STORE, stocked.model)  # an ingest that was writing
    await stocked.indexes.ready(STORE, stocked.model)  # an ingest that waits for its end
    await asyncio.gather(*stocked.indexes._replays.values())
    with pytest.raises(NotFound, match="deleted"):
        await stocked.find("bread")  # a search in progress
    assert not (stocked.home / "indexes" / STORE).exists()


async def test_indexes_of_stores_that_are_gone_are_swept(stocked: StoreFixture) -> None:
    await stocked.put("f1", "bread is baked")
    await stocked.find("bread")
    (stocked.home / "indexes" / "vs_gone" / "lexical").mkdir(parents=True)
    await stocked.indexes.sweep({STORE})
    assert [path.name for path in (stocked.home / "indexes").iterdir()] == [STORE]


async def test_an_unwritable_index_is_reported_as_index_failed(stocked: StoreFixture) -> None:
    (stocked.home / "indexes").write_text("a file where the folder should be")
    await stocked.put("f1", "bread is baked")
    with pytest.raises(Unavailable) as caught:
        await stocked.find("bread")
    assert caught.value.code == "index_failed"


async def test_a_compacted_log_causes_an_index_too_far_behind_to_be_rebuilt(
    stocked: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_LOG_ENTRIES", 5)
    await stocked.put("first", "the first word")
    assert await stocked.find("first") == ["the first word"]
    for i in range(8):
        await stocked.put("again", f"version number {i}")
    assert await stocked.database.write(changes.compact, STORE) > 0
    assert len(await stocked.database.read(changes.list_after, STORE, 0, 100)) == 5
    assert await stocked.database.write(changes.compact, STORE) == 0
    assert await stocked.find("first version", ranker="lexical") == ["the first word", "version number 7"]
    await stocked.restart()
    assert await stocked.find("first version", ranker="lexical") == ["the first word", "version number 7"]


async def test_a_rebuilt_index_answers_as_the_incrementally_built_one(stocked: StoreFixture) -> None:
    texts = [
        f"Note {i} is about the {'harbour' if i % 3 else 'mountain'} and number {i % 17}." for i in range(300)
    ]
    for i in range(0, 300, 10):
        await stocked.put(f"f{i}", *texts[i : i + 10])
        if i % 50 == 0:
            await stocked.find("harbour")  # so that the index grows in steps
    await stocked.remove("f20")
    questions = ("harbour number 3", "mountain", "note 44", "about number 16")
    rankers = ("lexical", "vector", "hybrid")
    queries = [(question, ranker) for question in questions for ranker in rankers]
    results_before = {
        key: [(p.file_id, p.place) for p in (await stocked.search(key[0], ranker=key[1])).passages]
        for key in queries
    }
    await stocked.indexes.close()
    shutil.rmtree(stocked.home / "indexes")
    await stocked.restart()
    results_after = {
        key: [(p.file_id, p.place) for p in (await stocked.search(key[0], ranker=key[1])).passages]
        for key in queries
    }
    assert results_after == results_before
    assert all(results_before.values())
