"""For a watched folder, only changed paths are examined, with the same result as a full scan."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest
from tests.server.features.stores.store_services import TURN, StoreServices, store_services

from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow
from portico_server.features.sources.changed_paths import MAX_CHANGED_PATHS, ChangedPaths
from portico_server.features.sources.walk import Walk, glance, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    for name in (
        "a.md",
        "b.txt",
        "deep/c.txt",
        "deep/d e.txt",
        "deep/deeper/文档 😀.txt",
        "web/venv/x.txt",
        "deeps.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"This is {name}.")
    (folder / "deep" / ".gitignore").write_text("*.log\ntmp/\n")
    for name in ("deep/x.log", "deep/tmp/y.txt", "deep/tmp/z/w.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("ignored")
    return folder


def look(folder: Path, *paths: str) -> Walk | None:
    return glance(folder, [PurePath(path) for path in paths], max_bytes=1_000_000)


@pytest.mark.parametrize(
    "paths",
    [
        ("a.md",),
        ("deep",),
        ("deep/deeper", "deep/deeper/文档 😀.txt", "b.txt"),
        ("deep/x.log", "deep/tmp/y.txt", "deep/tmp/z"),
        ("gone.txt", "deep/gone", "a.md/under"),
        ("web/venv", "web"),
        (".hidden", "deep/.git/x"),
    ],
)
def test_a_partial_scan_finds_the_same_files_as_a_full_walk(folder: Path, paths: tuple[str, ...]) -> None:
    scan = look(folder, *paths)
    assert scan is not None and scan.only is not None
    full_walk = walk(folder, max_bytes=1_000_000)
    below = {
        name: state
        for name, state in full_walk.files.items()
        if any(name == path or name.startswith(f"{path}/") for path in paths)
    }
    assert scan.files == below
    assert all(any(path == prefix or path.startswith(f"{prefix}/") for prefix in scan.only) for path in paths)


def test_changes_that_need_a_full_walk_are_not_scanned_partially(folder: Path) -> None:
    assert look(folder, "deep/.gitignore") is None  # other files may be readable now
    assert look(folder, ".") is None
    (folder / "link.txt").symlink_to(folder / "a.md")
    assert walk(folder, max_bytes=1_000_000).linked
    assert look(folder, "link.txt") is None
    (folder / "elsewhere").symlink_to(folder / "deep")
    assert look(folder, "elsewhere/c.txt") is None
    shutil.rmtree(folder)
    assert look(folder, "a.md") is None


def test_changed_paths_are_reported_only_since_the_last_full_scan() -> None:
    touched = ChangedPaths()
    touched.add([PurePath("a")])
    assert touched.take() is None  # the folder was not scanned yet
    touched.add([PurePath("a")])
    assert touched.take() is None  # whether it contains links is not known yet
    touched.linked = False
    touched.add([PurePath("a")])
    touched.add([PurePath("b")])
    assert touched.take() == {PurePath("a"), PurePath("b")}
    assert touched.take() == set()
    touched.all_changed()
    touched.add([PurePath("a")])
    assert touched.take() is None
    touched.add([PurePath(str(n)) for n in range(MAX_CHANGED_PATHS + 1)])
    assert touched.take() is None


async def names(shop: StoreServices, store: StoreRow) -> set[str]:
    return {row.filename for row in (await shop.stores.contents.list(store, limit=100)).data}


@pytest.mark.asyncio
async def test_a_watched_folder_is_mirrored_through_moves_ignores_and_deletions(
    tmp_path: Path, folder: Path
) -> None:
    def moved() -> None:
        (folder / "deep" / "deeper").rename(folder / "other")

    def came() -> None:
        (folder / "new" / "in").mkdir(parents=True)
        (folder / "new" / "in" / "e.txt").write_text("It is new.")

    steps: list[tuple[Callable[[], object], set[str], set[str]]] = [
        (lambda: (folder / "b.txt").write_text("Another text."), set(), set()),
        (moved, {"other/文档 😀.txt"}, {"deep/deeper/文档 😀.txt"}),
        (came, {"new/in/e.txt"}, set()),
        (lambda: (folder / ".gitignore").write_text("new/"), set(), {"new/in/e.txt"}),
        (lambda: shutil.rmtree(folder / "deep"), set(), {"deep/c.txt", "deep/d e.txt"}),
        (lambda: (folder / "link.txt").symlink_to(folder / "a.md"), {"link.txt"}, set()),
        (lambda: (folder / ".gitignore").unlink(), {"new/in/e.txt"}, set()),
    ]
    async with store_services(tmp_path / "home", watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        await shop.sync(store)
        expected_names = await names(shop, store)
        assert len(expected_names) == 6
        ids = {row.filename: row.file_id for row in (await shop.stores.contents.list(store, limit=100)).data}
        for act, come, go in steps:
            act()
            expected_names = (expected_names | come) - go
            async with asyncio.timeout(60):
                while await names(shop, store) != expected_names:  # noqa: ASYNC110
                    await asyncio.sleep(TURN)
        assert {
            row.filename: row.file_id for row in (await shop.stores.contents.list(store, limit=100)).data
        }["other/文档 😀.txt"] == ids["deep/deeper/文档 😀.txt"]  # moved, not rebuilt


@pytest.mark.asyncio
async def test_a_noticed_change_does_not_rescan_the_whole_folder(tmp_path: Path, folder: Path) -> None:
    async with store_services(tmp_path / "home", watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        assert (await shop.sync(store))["unchanged"] + 6 >= 6
        (folder / "noticed.txt").write_text("A word that was noticed.")
        async with asyncio.timeout(60):
            while "noticed.txt" not in await names(shop, store):  # noqa: ASYNC110
                await asyncio.sleep(TURN)
        newest = max(
            (run for run in shop.runner.list() if run.kind == "sync"), key=lambda run: run.created_at
        )
        result = await shop.result(newest.id)
        assert (result["added"], result["unchanged"]) == (1, 0)
        assert (await shop.sync(store))["unchanged"] == 7  # a requested sync scans everything


@pytest.mark.asyncio
async def test_skipped_files_are_listed_by_name_and_updated_after_changes(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "old.bin").write_bytes(b"\x00\x01")
    async with store_services(tmp_path / "home", watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        await shop.sync(store)
        by_rule = "ignored by .gitignore or .porticoignore"
        ignored_files = {"deep/x.log": by_rule, "deep/tmp": by_rule}
        skipped_files = await shop.stores.list_skipped(store)
        assert skipped_files.names == {"old.bin": "of an unsupported format", **ignored_files}
        assert skipped_files.reasons == {"of an unsupported format": 1, by_rule: 2}
        [info] = await shop.stores.describe([store], LOCAL)
        assert info.skipped == skipped_files.reasons
        (folder / "old.bin").unlink()
        (folder / "new.txt").write_bytes(b"words")
        (folder / "empty").touch()
        async with asyncio.timeout(60):
            while (await shop.stores.list_skipped(store)).names != {"empty": "empty", **ignored_files}:  # noqa: ASYNC110
                await asyncio.sleep(TURN)
