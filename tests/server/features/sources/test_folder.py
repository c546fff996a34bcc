"""A store that mirrors a folder."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.readers.unreadable import forbid
from tests.server.features.stores.store_services import TURN, StoreServices, store_services

from portico.wire import Failed, Progressed
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Search, SearchResult
from portico_server.db.stores import StoreRow
from portico_server.features.sources import folder as following
from portico_server.features.sources.walk import Walk, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "a.md").write_text("# Harbour\n\nIt opens at six.\n")
    (folder / "deep" / "deeper" / "文档 😀.txt").write_text("雪莲花生长在高山。")
    return folder


async def names(shop: StoreServices, store: StoreRow) -> dict[str, str]:
    page = await shop.stores.contents.list(store, limit=1000, order="asc")
    return {row.filename: row.status for row in page.data}


def blobs(folder: Path) -> list[Path]:
    return [path for path in (folder.parent / "home" / "blobs").rglob("*") if path.is_file()]


async def test_a_folder_is_mirrored_with_names_relative_to_it(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    assert (store.name, store.owner, store.app) == ("handbook", None, True)
    result = await shop.sync(store)
    assert (result["added"], result["indexed"], result["failed"]) == (2, 2, 0)
    assert await names(shop, store) == {"a.md": "completed", "deep/deeper/文档 😀.txt": "completed"}
    assert (await shop.search(store, "雪莲花")).passages[0].filename == "deep/deeper/文档 😀.txt"


async def test_removed_files_stay_indexed_if_the_store_keeps_them(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.create("handbook", LOCAL, folder=folder, keep_removed=True)
    await shop.sync(store)
    (folder / "a.md").rename(folder / "b.md")
    shutil.rmtree(folder / "deep")
    plan = await shop.stores.plan(store)
    assert (plan.added, plan.moved, plan.removed) == (("b.md",), (), ())
    result = await shop.sync(store)
    assert (result["added"], result["removed"]) == (1, 0)
    assert set(await names(shop, store)) == {"a.md", "b.md", "deep/deeper/文档 😀.txt"}
    store = await shop.stores.update(store.id, LOCAL, {"keep_removed": False})
    await shop.sync(store)  # from the run that the change started
    assert set(await names(shop, store)) == {"b.md"}


async def test_unchanged_files_are_not_read_again(
    shop: StoreServices, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    request_count = len(shop.model.asked)

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    with monkeypatch.context() as patched:
        patched.setattr(following, "_digest", unread)
        patched.setattr(shop.files, "copy", unread)
        result = await shop.sync(store)
    assert (result["unchanged"], result["indexed"]) == (2, 0)
    os.utime(folder / "a.md", (1, 1))  # another time, the same bytes
    result = await shop.sync(store)
    assert (result["unchanged"], result["indexed"]) == (2, 0)
    assert len(shop.model.asked) == request_count


async def test_added_changed_renamed_and_deleted_files_are_mirrored(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    (folder / "a.md").write_text("# Harbour\n\nIt opens at seven, since the winter.\n")
    (folder / "new.txt").write_text("A new pier.")
    (folder / "deep" / "deeper" / "文档 😀.txt").rename(folder / "moved.txt")
    result = await shop.sync(store)
    assert (result["added"], result["changed"], result["moved"], result["removed"]) == (1, 1, 1, 0)
    assert await names(shop, store) == {"a.md": "completed", "moved.txt": "completed", "new.txt": "completed"}
    search_result = await shop.search(store, "When does it open?")
    assert search_result.passages[0].text.endswith("It opens at seven, since the winter.")
    assert not any("at six" in passage.text for passage in search_result.passages)
    (folder / "a.md").unlink()
    assert (await shop.sync(store))["removed"] == 1
    assert "a.md" not in {passage.filename for passage in (await shop.search(store, "harbour")).passages}
    assert len(blobs(folder)) == 2


async def test_a_file_that_vanishes_between_looking_and_reading_is_skipped(
    shop: StoreServices, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    real = walk

    def too_late(root: Path, **limits: Any) -> Walk:
        walk_result = real(root, **limits)
        (folder / "a.md").unlink(missing_ok=True)
        return walk_result

    monkeypatch.setattr(following, "walk", too_late)
    result = await shop.sync(store)
    assert (result["failed"], await names(shop, store)) == (0, {"deep/deeper/文档 😀.txt": "completed"})


async def test_a_lost_copy_of_a_file_is_restored_by_the_next_sync(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    for blob in blobs(folder):
        blob.unlink()
    result = await shop.sync(store)
    assert (result["changed"], result["failed"], len(blobs(folder))) == (2, 0, 2)
    assert len(await names(shop, store)) == 2


async def test_a_sync_of_a_suddenly_empty_folder_fails_and_keeps_its_files(
    shop: StoreServices, folder: Path
) -> None:
    for number in range(10):
        (folder / f"{number}.md").write_text(f"Page {number}\n")
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    shutil.move(folder, folder.with_name("disk"))
    os.mkdir(folder)
    last = (await shop.events(await shop.stores.sync(store)))[-1]
    assert isinstance(last, Failed)
    assert last.error.code == "folder_empty"
    assert "12 of its files are indexed" in last.error.message
    assert len(await names(shop, store)) == 12
    (folder / "kept.md").write_text("The others are gone for good.\n")
    assert (await shop.sync(store))["removed"] == 12
    assert await names(shop, store) == {"kept.md": "completed"}


async def test_a_vanished_folder_fails_the_sync_and_keeps_its_files(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    away = shutil.move(folder, folder.with_name("away"))
    last = (await shop.events(await shop.stores.sync(store)))[-1]
    assert isinstance(last, Failed)
    assert last.error.code == "folder_unreadable"
    assert "The files indexed so far are kept" in last.error.message
    assert len(await names(shop, store)) == 2
    assert (await shop.search(store, "harbour")).passages
    shutil.move(away, folder)
    assert (await shop.sync(store))["unchanged"] == 2


async def test_an_emptied_small_folder_is_reported_and_its_files_removed(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    shutil.rmtree(folder)
    os.mkdir(folder)
    events = await shop.events(await shop.stores.sync(store))
    messages = [event.message for event in events if isinstance(event, Progressed)]
    assert any("contains no readable documents" in message for message in messages)
    assert await names(shop, store) == {}


async def test_a_followed_folder_is_synced_again_at_the_next_start(tmp_path: Path, folder: Path) -> None:
    async with store_services(tmp_path / "home") as first:
        await first.sync(await first.stores.follow("handbook", folder, LOCAL))
    (folder / "later.txt").write_text("Written while nobody looked.")
    async with store_services(tmp_path / "home") as second:
        [run] = second.begun
        assert (await second.result(run))["added"] == 1
        store = await second.stores.get("handbook", LOCAL)
        assert (await second.search(store, "nobody looked")).passages[0].filename == "later.txt"
        assert len(second.model.asked) <= 3  # the new chunk and the question, but not the old chunks


async def test_following_under_an_existing_name_changes_that_store(
    shop: StoreServices, folder: Path, tmp_path: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    (other_folder / "b.txt").write_text("Another folder.")
    again = await shop.stores.follow("handbook", other_folder, LOCAL)
    assert again.id == store.id
    await shop.sync(again)
    assert await names(shop, store) == {"b.txt": "completed"}


async def test_deleting_a_mirrored_file_through_the_store_is_refused(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    row = (await shop.stores.contents.list(store)).data[0]
    for attempt in (shop.stores.contents.detach(store, row.file_id), shop.files.delete(row.file_id, LOCAL)):
        with pytest.raises(Conflict) as error:
            await attempt
        assert error.value.code == "mirrored_file"
    assert (await shop.files.list(LOCAL)).data == ()


async def test_deleting_a_store_keeps_its_folder_and_removes_stored_copies(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    await shop.stores.delete("handbook", LOCAL)
    assert (folder / "a.md").is_file()
    assert blobs(folder) == []


async def test_only_an_administrator_makes_the_daemon_read_folders(shop: StoreServices, folder: Path) -> None:
    manager = Principal("key_m", frozenset({"stores:*:manage"}))
    with pytest.raises(Forbidden):
        await shop.stores.create("mine", manager, folder=folder)
    with pytest.raises(Forbidden):
        await shop.stores.follow("mine", folder, manager)
    with pytest.raises(InvalidRequest, match="does not exist"):
        await shop.stores.follow("gone", folder / "nowhere", LOCAL)
    with pytest.raises(InvalidRequest, match="is a file"):
        await shop.stores.follow("file", folder / "a.md", LOCAL)


async def test_syncing_a_large_folder_does_not_block_the_event_loop(
    shop: StoreServices, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(120):
        (folder / f"{i:03}.txt").write_text(f"Document number {i} of many.")
    store = await shop.stores.follow("many", folder, LOCAL)
    task = asyncio.create_task(shop.sync(store))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 120
    assert task.result()["failed"] == 0
    assert list((await names(shop, store)).values()) == ["completed"] * 120


async def test_files_in_a_temporarily_unreadable_folder_stay_indexed(
    shop: StoreServices, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    (folder / "a.md").unlink()
    with monkeypatch.context() as patched:
        forbid(patched, "deeper")
        result = await shop.sync(store)
    assert (result["removed"], result["skipped_because"]) == (1, {"not permitted": 1})
    assert await names(shop, store) == {"deep/deeper/文档 😀.txt": "completed"}


async def test_a_file_that_is_moved_keeps_its_id_its_chunks_and_its_vectors(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    ids_before = {row.filename: row.file_id for row in (await shop.stores.contents.list(store)).data}
    request_count = len(shop.model.asked)
    (folder / "a.md").rename(folder / "deep" / "port.md")
    plan = await shop.stores.plan(store)
    assert (plan.moved, plan.added, plan.removed, plan.unchanged) == ((("a.md", "deep/port.md"),), (), (), 1)
    result = await shop.sync(store)
    assert (result["moved"], result["indexed"]) == (1, 0)
    ids_after = {row.filename: row.file_id for row in (await shop.stores.contents.list(store)).data}
    assert ids_after["deep/port.md"] == ids_before["a.md"]
    assert len(shop.model.asked) == request_count
    search_result = await shop.runner.call(
        "search", f"store/{store.id}", Search("harbour", ranker="lexical"), LOCAL
    )
    assert isinstance(search_result, SearchResult)
    assert search_result.passages[0].filename == "deep/port.md"
    search_result = await shop.runner.call(
        "search", f"store/{store.id}", Search("port", ranker="lexical"), LOCAL
    )
    assert [passage.filename for passage in search_result.passages] == ["deep/port.md"], (
        "its new name is a word of it"
    )


async def test_a_file_renamed_to_another_format_is_parsed_again(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    (folder / "a.md").rename(folder / "a.txt")
    result = await shop.sync(store)
    assert (result["moved"], result["added"], result["removed"]) == (0, 1, 1)


async def test_two_moved_copies_keep_their_two_file_ids(shop: StoreServices, folder: Path) -> None:
    shutil.copy(folder / "a.md", folder / "b.md")
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    ids = {row.file_id for row in (await shop.stores.contents.list(store)).data}
    (folder / "a.md").rename(folder / "c.md")
    (folder / "b.md").rename(folder / "d.md")
    assert (await shop.sync(store))["moved"] == 2
    assert {row.file_id for row in (await shop.stores.contents.list(store)).data} == ids
    assert set(await names(shop, store)) == {"c.md", "d.md", "deep/deeper/文档 😀.txt"}


async def test_a_plan_tells_what_a_sync_does_and_changes_nothing(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.follow("handbook", folder, LOCAL)
    await shop.sync(store)
    rows_before = list((await shop.stores.contents.list(store)).data)
    (folder / "a.md").write_text("# Harbour\n\nIt opens at nine.\n")
    (folder / "new.txt").write_text("A new pier.")
    (folder / "photo.bin").write_bytes(b"\x00\x01")
    shutil.rmtree(folder / "deep")
    plan = await shop.stores.plan(store)
    assert (plan.added, plan.changed, plan.removed) == (("new.txt",), ("a.md",), ("deep/deeper/文档 😀.txt",))
    assert (plan.unchanged, plan.skipped) == (0, {"of an unsupported format": 1})
    assert list((await shop.stores.contents.list(store)).data) == rows_before
    result = await shop.sync(store)
    assert (result["added"], result["changed"], result["removed"]) == (1, 1, 1)
    with pytest.raises(InvalidRequest, match="does not follow a folder"):
        await shop.stores.plan(await shop.stores.create("empty", LOCAL))


async def test_a_paused_store_is_brought_up_to_date_when_it_is_resumed(tmp_path: Path, folder: Path) -> None:
    async with store_services(tmp_path / "home") as first:
        store = await first.stores.follow("handbook", folder, LOCAL)
        await first.sync(store)
        assert (await first.stores.update(store.id, LOCAL, {"paused": True})).paused
    (folder / "late.txt").write_text("A late word.")
    async with store_services(tmp_path / "home") as second:
        assert second.begun == []
        assert "late.txt" not in await names(second, store)
        await second.stores.update(store.id, LOCAL, {"paused": False})
        await second.sync(store)
        assert "late.txt" in await names(second, store)


async def test_folder_changes_are_synced_while_the_daemon_runs(tmp_path: Path, folder: Path) -> None:
    async with store_services(tmp_path / "home", watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        await shop.sync(store)
        (folder / "deep" / "noticed.txt").write_text("A word that was noticed.")
        (folder / "a.md").unlink()
        while set(await names(shop, store)) != {"deep/noticed.txt", "deep/deeper/文档 😀.txt"}:  # noqa: ASYNC110
            await asyncio.sleep(TURN)
        shutil.move(folder, folder.with_name("elsewhere"))
        await shop.stores.delete(store.id, LOCAL)


async def test_following_a_folder_that_contains_the_home_does_not_sync_endlessly(
    tmp_path: Path, folder: Path
) -> None:
    home = folder / "home"
    async with store_services(home, watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        await shop.sync(store)
        (home / "logs").mkdir()
        (home / "logs" / "daemon.log").write_text("a line")
        (folder / "last.txt").write_text("The last word.")
        while "last.txt" not in await names(shop, store):  # noqa: ASYNC110
            await asyncio.sleep(TURN)
        runs = [run for run in shop.runner.list() if run.kind == "sync"]
        assert len(runs) <= 4
