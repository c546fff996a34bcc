"""Followed folders with odd names and links, whose files change while the daemon runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server.features.stores.store_services import TURN, StoreServices, store_services

from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow
from portico_server.features.stores import follow


async def names(shop: StoreServices, store: StoreRow) -> set[str]:
    return {row.filename for row in (await shop.stores.contents.list(store, limit=1000)).data}


async def wait_for_names(shop: StoreServices, store: StoreRow, expected_names: set[str]) -> None:
    async with asyncio.timeout(60):
        while await names(shop, store) != expected_names:  # noqa: ASYNC110
            await asyncio.sleep(TURN)


def write_odd_file(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/a\xe9.md")).write_text("An odd name.")


def write_rules(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n")
    write_odd_file(folder)


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
        pytest.param(write_rules, {"a%E9.md"}, id="beside ignore rules"),
        pytest.param(make_odd_folder, {"%B2%E9/in.md"}, id="a folder, rust-analyzer 16914"),
        pytest.param(link_to(".."), set(), id="opengrok 233, to the parent"),
        pytest.param(link_to("/"), set(), id="syft 615, to the root"),
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


PARTS: tuple[bytes, ...] = (
    *(
        part.encode()
        for part in (
            "😀",
            "👩‍👩‍👧",
            "a\nb",
            "tab\there",
            "'",
            '"',
            "`$(id)`",
            "%",
            "%E9",
            "100%",
            "#",
            "?q=1&r",
            "=",
        )
    ),
    *(
        part.encode()
        for part in (
            "\\",
            "a:b",
            "C:",
            "<b>",
            "|",
            "*",
            "[x]",
            "{y}",
            "~",
            "-rf",
            "con",
            "dot.",
            " space ",
            "dots...",
        )
    ),
    *(
        part.encode()
        for part in (
            "\u05e9\u05dc\u05d5\u05dd",
            "\u202egnp",
            "caf\u00e9",
            "cafe\u0301",
            "README",
            "ReadMe",
            "文档",
            "x" * 240,
        )
    ),
    "café".encode("latin-1"),
    "文档".encode("gbk"),
    "日本語".encode("shift-jis"),
    b"\x01\x7f",
    b"\xff\xfe",
)


def odd_files(folder: Path) -> dict[str, Path]:
    """Return files with odd names by the marker of their text: in the folder, in odd folders and with two suffixes."""
    raw_folder = os.fsencode(folder)
    raw_paths = [
        raw_folder + b"/" + name
        for part in PARTS
        for name in (
            part + b".md",
            part + b".txt",
            b"v " + part + b".md",
            part[:200] + b" dir/in.md",
            b"w" + part + b".MD",
        )
    ]
    return {f"mark{number:03}word": Path(os.fsdecode(path)) for number, path in enumerate(raw_paths)}


async def wait_for_markers(shop: StoreServices, store: StoreRow, present: set[str], absent: set[str]) -> None:
    """Wait until the store has as many files as markers, then check that these and no others are found."""
    async with asyncio.timeout(120):
        while len(await names(shop, store)) != len(present):  # noqa: ASYNC110
            await asyncio.sleep(TURN)
        for marker in sorted(present | absent):
            while (marker in present) != any(  # noqa: ASYNC110
                marker in passage.text for passage in (await shop.search(store, marker)).passages
            ):
                await asyncio.sleep(TURN)


async def test_files_of_any_name_are_found_until_they_are_removed(tmp_path: Path) -> None:
    odd, good = tmp_path / "odd", tmp_path / "good"
    odd.mkdir()
    good.mkdir()
    async with store_services(tmp_path / "home", watch=True) as shop:
        stores = [await shop.stores.follow(folder.name, folder, LOCAL) for folder in (odd, good)]
        for store in stores:
            await shop.sync(store)
        (odd / ".gitignore").write_text("*.log\n")
        for place, target in {
            "broken": "nowhere",
            "loop": "loop",
            "out": "..",
            "in": ".",
            "sibling": "../good",
        }.items():
            (odd / place).symlink_to(target)
        os.mkfifo(odd / "pipe.md")
        files = odd_files(odd)
        for marker, path in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"The text {marker}.")
        (good / "a.md").write_text("The text markgood1.")
        await wait_for_markers(shop, stores[1], {"markgood1"}, set())
        shown_names = {path.relative_to(odd).as_posix() for path in files.values()}
        assert len(shown_names) == len(files) > 190
        await wait_for_markers(shop, stores[0], set(files), set())
        removed_markers = set(list(files)[::2])
        for marker in removed_markers:
            files[marker].unlink()
        (good / "a.md").rename(good / "b.md")
        (good / "c.md").write_text("The text markgood2.")
        await wait_for_markers(shop, stores[0], set(files) - removed_markers, removed_markers)
        await wait_for_markers(shop, stores[1], {"markgood1", "markgood2"}, set())
        for path in odd.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (good / "b.md").unlink()
        await wait_for_markers(shop, stores[1], {"markgood2"}, {"markgood1"})


async def test_a_folder_whose_path_is_not_valid_unicode_cannot_be_followed(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"f\xe9")
    folder.mkdir()
    async with store_services(tmp_path / "home") as shop:
        with pytest.raises(InvalidRequest) as caught:
            await shop.stores.follow("odd", folder, LOCAL)
    assert caught.value.code == "invalid_folder"
    assert "is not valid UTF-8" in str(caught.value)


async def test_a_store_reports_that_its_folder_is_missing_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MISSING_FOLDER_INTERVAL_MS", 50)
    folder = tmp_path / "handbook"
    folder.mkdir()
    async with store_services(tmp_path / "home", watch=True) as shop:
        store = await shop.stores.follow("handbook", folder, LOCAL)
        await shop.sync(store)
        for act, expected_problem in ((folder.rmdir, "not watched"), (folder.mkdir, "")):
            act()
            async with asyncio.timeout(60):
                while expected_problem not in (problem := await problem_of(shop, store)) or (  # noqa: ASYNC110
                    problem and not expected_problem
                ):
                    await asyncio.sleep(TURN)


async def problem_of(shop: StoreServices, store: StoreRow) -> str:
    [info] = await shop.stores.describe([store], LOCAL)
    return info.problem or ""


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
