"""The rights of followed sources: who may read the files of a folder, and how a store adopts that."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_services import StoreServices

from portico.schemas.stores import SourceRule
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.db.stores import StoreRow
from portico_server.features.sources.folder import FolderSource
from portico_server.features.sources.posix_rights import PosixRights
from portico_server.features.sources.rights import readers_by_name
from portico_server.features.sources.walk import Walk
from portico_server.features.stores.access import explain

OWNER = f"user:{pwd.getpwuid(os.getuid()).pw_name}"
GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "sets"),
    [
        (0o755, 0o644, []),
        (0o755, 0o640, [[GROUP, OWNER]]),
        (0o755, 0o600, [[OWNER]]),
        (0o750, 0o644, [[GROUP, OWNER]]),
        (0o750, 0o640, [[GROUP, OWNER]]),
        (0o700, 0o640, [[GROUP, OWNER], [OWNER]]),
        (0o755, 0o604, [[OWNER]]),  # the group is excluded, which sets cannot express: only the owner is left
        (0o755, 0o044, [[]]),
    ],
)
def test_modes_of_a_file_and_its_folders_become_sets_of_groups(
    tmp_path: Path, folder_mode: int, file_mode: int, sets: list[list[str]]
) -> None:
    file = tmp_path / "folder" / "a.md"
    file.parent.mkdir()
    file.write_text("text")
    file.chmod(file_mode)
    file.parent.chmod(folder_mode)
    tmp_path.chmod(0o755)
    assert PosixRights(tmp_path).readers(file) == sets


OTHER = 54_321
"""The number of a user and a group without a name."""


@pytest.mark.parametrize(
    ("entries", "sets"),
    [
        # (tag, permissions, number); tags: owner 1, user 2, group of the file 4, group 8, mask 16, others 32
        ([(1, 6, -1), (4, 4, -1), (8, 4, OTHER), (16, 4, -1), (32, 0, -1)], [[str(OTHER), GROUP, OWNER]]),
        ([(1, 6, -1), (4, 4, -1), (8, 4, OTHER), (16, 0, -1), (32, 0, -1)], [[OWNER]]),
        (
            [(1, 6, -1), (2, 4, OTHER), (4, 0, -1), (16, 4, -1), (32, 0, -1)],
            [sorted([f"user:{OTHER}", OWNER])],
        ),
        ([(1, 6, -1), (2, 0, OTHER), (4, 4, -1), (16, 4, -1), (32, 4, -1)], [[OWNER]]),
        ([(1, 6, -1), (4, 4, -1), (8, 0, OTHER), (16, 4, -1), (32, 4, -1)], [[GROUP, OWNER]]),
        ([(1, 6, -1), (4, 4, -1), (8, 4, OTHER), (16, 4, -1), (32, 4, -1)], []),
    ],
)
def test_access_control_lists_of_a_file_are_respected(
    tmp_path: Path, entries: list[tuple[int, int, int]], sets: list[list[str]]
) -> None:
    file = tmp_path / "a.md"
    file.write_text("text")
    tmp_path.chmod(0o755)
    data = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry[:2], entry[2] % 2**32) for entry in entries
    )
    try:
        os.setxattr(file, "system.posix_acl_access", data)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        pytest.skip("the file system has no access control lists")
    assert PosixRights(tmp_path).readers(file) == sets


def test_a_link_has_the_rights_of_the_folders_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.md").write_text("text")
    (tmp_path / "b.md").symlink_to(tmp_path / "closed" / "a.md")
    tmp_path.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    (tmp_path / "closed" / "a.md").chmod(0o644)
    assert PosixRights(tmp_path).readers(tmp_path / "b.md") == [[OWNER]]
    assert PosixRights(tmp_path).readers(tmp_path / "absent.md") is None


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("finance/2027/plan.md", [["board"]]),
        ("finance/costs.md", [["finance"]]),
        ("public/a.md", []),
        ("finances.md", [[]]),
    ],
)
def test_the_longest_matching_prefix_determines_the_readers(name: str, sets: list[list[str]]) -> None:
    rights = {"finance/": ["finance"], "finance/2027/": ["board"], "public/": ["*", "board"]}
    assert readers_by_name(name, rights) == sets


# --- stores ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    for name in ("open.md", "sales/prices.md"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(f"The harbour opens at six, says {name}.")
        (folder / name).chmod(0o644)
    folder.chmod(0o755)
    (folder / "sales").chmod(0o750)
    return folder


def caller(*groups: str) -> Principal:
    return Principal("key_1", frozenset({"stores:*:manage"}), groups=frozenset(groups))


async def seen(shop: StoreServices, store: StoreRow, who: Principal) -> set[str]:
    """Return the files that a caller sees in a list, which must be those that a search finds."""
    view = await shop.stores.get(store.id, who)
    names = {row.filename for row in (await shop.stores.contents.list(view, limit=100)).data}
    result = await shop.search(store, "harbour", caller=who)
    assert {passage.filename for passage in result.passages} == names
    [info] = await shop.stores.describe([store], who)
    assert info.counts.total == len(names)
    return names


async def test_a_store_adopts_the_rights_of_its_folder_and_their_changes(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.create("handbook", LOCAL, folder=folder, rights="source")
    await shop.sync(store)
    both_names = {"open.md", "sales/prices.md"}
    assert await seen(shop, store, caller(GROUP)) == both_names
    assert await seen(shop, store, caller("another")) == {"open.md"}
    (folder / "sales").chmod(0o700)  # no byte and no time of a file changes
    result = await shop.sync(store)
    assert (result["changed"], result["unchanged"]) == (0, 2)
    assert await seen(shop, store, caller(GROUP)) == {"open.md"}
    assert await seen(shop, store, caller(OWNER)) == both_names
    [row] = [
        row
        for row in (await shop.stores.contents.list(await shop.stores.get(store.id, LOCAL))).data
        if row.filename == "sales/prices.md"
    ]
    access = await explain(store, row, caller(GROUP))
    assert (access.permitted, access.rule, access.readers) == (False, "source", ((OWNER,),))
    assert access.source == (
        SourceRule("sales/prices.md", ("*",)),
        SourceRule("sales", (OWNER,)),
        SourceRule(".", ("*",)),
    )
    (folder / "open.md").rename(folder / "sales" / "open.md")
    assert (await shop.sync(store))["moved"] == 1
    assert await seen(shop, store, caller(GROUP)) == set()
    assert await seen(shop, store, LOCAL) == {"sales/open.md", "sales/prices.md"}


async def test_changed_rights_hide_all_files_until_the_next_sync(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.create("handbook", LOCAL, folder=folder)
    await shop.sync(store)
    assert await seen(shop, store, caller()) == {"open.md", "sales/prices.md"}
    store = await shop.stores.update(store.id, LOCAL, {"rights": {"sales/": ["sales"]}})
    await shop.sync(store)
    assert await seen(shop, store, caller("sales")) == {"sales/prices.md"}
    assert await seen(shop, store, caller()) == set()
    store = await shop.stores.update(store.id, LOCAL, {"rights": "off"})
    assert await seen(shop, store, caller()) == {"open.md", "sales/prices.md"}


async def test_a_refused_change_of_rights_hides_no_files(shop: StoreServices, folder: Path) -> None:
    await shop.stores.create("taken", LOCAL)
    store = await shop.stores.create("handbook", LOCAL, folder=folder, rights={"": ["*"]})
    await shop.sync(store)
    with pytest.raises(Conflict, match="already belongs to a store"):
        await shop.stores.update(store.id, LOCAL, {"rights": {"": ["board"]}, "name": "taken"})
    assert await seen(shop, store, caller()) == {"open.md", "sales/prices.md"}


async def test_a_sync_started_under_earlier_rights_exposes_no_file(
    shop: StoreServices, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await shop.stores.create("handbook", LOCAL, folder=folder, rights={"": ["*"]})
    await shop.sync(store)
    (folder / "new.md").write_text("The harbour has a new lamp.")
    (folder / "open.md").rename(folder / "opened.md")
    scan = FolderSource.scan

    async def scan_and_change(source: FolderSource) -> Walk:
        walk = await scan(source)
        await shop.stores.update(store.id, LOCAL, {"rights": {"": ["board"]}, "paused": True})
        return walk

    monkeypatch.setattr(FolderSource, "scan", scan_and_change)
    result = await shop.sync(store)
    assert (result["added"], result["moved"], result["unchanged"]) == (1, 1, 2)
    monkeypatch.undo()
    assert await seen(shop, store, caller()) == await seen(shop, store, caller("board")) == set()
    await shop.stores.update(store.id, LOCAL, {"paused": False})
    await shop.sync(store)
    assert await seen(shop, store, caller()) == set()
    assert await seen(shop, store, caller("board")) == {"new.md", "opened.md", "sales/prices.md"}


async def test_a_caller_with_partial_access_may_not_add_or_manage_files(
    shop: StoreServices, folder: Path
) -> None:
    store = await shop.stores.create("handbook", LOCAL, folder=folder, rights="source")
    await shop.sync(store)
    group_caller = caller(GROUP)
    view = await shop.stores.get(store.id, group_caller, "write")
    uploaded = await shop.upload("own.md", "text", group_caller)
    with pytest.raises(Forbidden, match="the source lets one of the caller's groups"):
        view.require({})
    with pytest.raises(NotFound):
        await shop.stores.contents.get(view, uploaded.id)
    with pytest.raises(Forbidden):
        await shop.stores.get(store.id, group_caller, "manage")
    [row] = [row for row in (await shop.stores.contents.list(view)).data if row.filename == "open.md"]
    updated_row = await shop.stores.contents.set_attributes(view, row.file_id, {"team": "sales"})
    assert updated_row.readers == []


@pytest.mark.parametrize(
    ("rights", "message"),
    [
        ("sources", "must be 'source', 'off', or an object"),
        ({}, "must be 'source', 'off', or an object"),
        ({"a/": []}, "a list of 1 to"),
        ({"a/": "finance"}, "a list of 1 to"),
        ({"a/": [7]}, "must be a text"),
        ({"a\n": ["finance"]}, "must be a text"),
        ({"sources": {"staff": ["employees"]}}, r"Did you mean 'source'\?"),
        ({"source": {"staff": ["employees"]}, "a/": ["finance"]}, "cannot occur with names of a source"),
        ({"source": {}}, "at least one name"),
        ({"source": {"*": ["employees"]}}, "cannot be mapped"),
        ({"source": {"staff": []}}, "a list of 1 to"),
        ({"source": {str(number): ["employees"] for number in range(1_001)}}, "at most 1,000"),
    ],
)
async def test_invalid_rights_are_refused_with_a_reason(
    shop: StoreServices, folder: Path, rights: Any, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        await shop.stores.create("handbook", LOCAL, folder=folder, rights=rights)


async def test_rights_are_refused_for_stores_without_a_supported_source(shop: StoreServices) -> None:
    with pytest.raises(InvalidRequest, match="follows no source"):
        await shop.stores.create("handbook", LOCAL, rights={"a/": ["finance"]})
    for rights in ("source", {"source": {"staff": ["employees"]}}):
        with pytest.raises(InvalidRequest, match="Only a folder"):
            await shop.stores.create("handbook", LOCAL, source="git+https://example.com/a", rights=rights)


async def test_names_of_a_source_are_mapped_to_groups_and_other_names_grant_nothing(
    shop: StoreServices, folder: Path
) -> None:
    rights: dict[str, Any] = {"source": {GROUP: ["employees", "board"]}}
    store = await shop.stores.create("handbook", LOCAL, folder=folder, rights=rights)
    await shop.sync(store)
    both_names = {"open.md", "sales/prices.md"}
    assert await seen(shop, store, caller("employees")) == both_names
    assert await seen(shop, store, caller("board")) == both_names
    assert await seen(shop, store, caller(GROUP)) == {"open.md"}
    assert await seen(shop, store, caller(OWNER)) == {"open.md"}
    view = await shop.stores.get(store.id, LOCAL)
    [row] = [row for row in (await shop.stores.contents.list(view)).data if row.filename == "sales/prices.md"]
    access = await explain(view, row, caller("employees"))
    assert (access.permitted, access.readers) == (True, (("board", "employees"),))
    assert access.source[1] == SourceRule("sales", ("employees", "board"), (OWNER, GROUP))
    rights = {"source": {OWNER: ["captains"]}}
    store = await shop.stores.update(store.id, LOCAL, {"rights": rights})
    await shop.sync(store)
    assert await seen(shop, store, caller("employees")) == {"open.md"}
    assert await seen(shop, store, caller("captains")) == both_names
