"""Followed folders with odd names and links, whose files change while the daemon runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server.features.stores.store_services import TURN, StoreServices, store_services

from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow


async def names(shop: StoreServices, store: StoreRow) -> set[str]:
    return {row.filename for row in (await shop.stores.contents.list(store, limit=1000)).data}


async def wait_for_names(shop: StoreServices, store: StoreRow, expected_names: set[str]) -> None:
    async with asyncio.timeout(60):
        while await names(shop, store) != expected_names:  # noqa: ASYNC110
            await asyncio.sleep(TURN)


def write_odd_file(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/a\xe9.md")).write_text("An odd name.")


def make_odd_folder(folder: Path) -> None:
    odd_folder = Path(os.fsdecode(os.fsencode(folder) + b"/\xb2\xe9"))
    odd_folder.mkdir()
    (odd_folder / "in.md").write_text("In an odd folder.")


def link_to(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "link").symlink_to(target)


def make_and_remove_link(folder: Path) -> None:
    (folder / "link").symlink_to("../good")
    (folder / "link").unlink()


@pytest.mark.parametrize(
    ("prepare", "odd_names"),
    [
        pytest.param(write_odd_file, {"a%E9.md"}, id="watchdog 812"),
        pytest.param(make_odd_folder, {"%B2%E9/in.md"}, id="a folder, rust-analyzer 16914"),
        pytest.param(link_to(".."), set(), id="opengrok 233, to the parent"),
        pytest.param(link_to("../good"), set(), id="to a sibling"),
        pytest.param(link_to("."), set(), id="to itself"),
        pytest.param(link_to("link"), set(), id="a loop"),
        pytest.param(link_to("nowhere"), set(), id="broken"),
        pytest.param(make_and_remove_link, set(), id="a link that is removed"),
    ],
)
@pytest.mark.parametrize("is_early", [True, False], ids=["before the watch", "under watch"])
async def test_an_odd_entry_in_a_folder_hides_no_change_in_any_folder(
    tmp_path: Path, prepare: Callable[[Path], None], odd_names: set[str], is_early: bool
) -> None:
    odd, good = tmp_path / "odd", tmp_path / "good"
    for folder in (odd, good):
        folder.mkdir()
        (folder / "old.md").write_text(f"Old text of {folder.name}.")
    if is_early:
        prepare(odd)
    async with store_services(tmp_path / "home", watch=True) as shop:
        stores = [await shop.stores.follow(folder.name, folder, LOCAL) for folder in (odd, good)]
        for store in stores:
            await shop.sync(store)
        if not is_early:
            prepare(odd)
        await wait_for_names(shop, stores[0], {"old.md"} | odd_names)
        for folder, store, more_names in ((good, stores[1], set()), (odd, stores[0], odd_names)):
            (folder / "new.md").write_text(f"New text of {folder.name}.")
            await wait_for_names(shop, store, {"old.md", "new.md"} | more_names)
            (folder / "old.md").unlink()
            await wait_for_names(shop, store, {"new.md"} | more_names)
            assert not any(
                "Old" in passage.text for passage in (await shop.search(store, "Old text")).passages
            )


async def test_folders_within_folders_and_one_folder_twice_are_watched_apart(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "deep").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(top)
    async with store_services(tmp_path / "home", watch=True) as shop:
        folders = {"whole": top, "same": top, "reached": tmp_path / "linked", "part": top / "deep"}
        stores = {name: await shop.stores.follow(name, folder, LOCAL) for name, folder in folders.items()}
        for number in range(3):
            (top / "deep" / f"{number}.md").write_text(f"Text {number}.")
            for name, store in stores.items():
                start = "" if name == "part" else "deep/"
                await wait_for_names(shop, store, {f"{start}{count}.md" for count in range(number + 1)})
            if number == 1:
                await shop.stores.delete(stores.pop("whole").id, LOCAL)


async def test_a_folder_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    folder, other_folder = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    (folder / "first.md").write_text("First.")
    async with store_services(tmp_path / "home", watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        await shop.sync(store)
        folder.rename(other_folder)
        folder.mkdir()
        (folder / "second.md").write_text("Second.")
        await wait_for_names(shop, store, {"second.md"})
        (other_folder / "first.md").write_text("First, changed.")
        shutil.rmtree(folder)
        other_folder.rename(folder)
        await wait_for_names(shop, store, {"first.md"})
        (folder / "third.md").write_text("Third.")
        await wait_for_names(shop, store, {"first.md", "third.md"})
