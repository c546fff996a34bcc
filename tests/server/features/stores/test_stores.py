"""Stores: who sees which store, under which name, and what stores record."""

import math
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_fixture import MODEL
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, PorticoError
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Filter, Search
from portico_server.core.servable import Card
from portico_server.db import chunks, hits
from portico_server.db import database as db
from portico_server.db import stores as rows
from portico_server.features.stores.contents import FileToAttach, _attach_all, _set_attributes

ALICE = Principal("key_alice", frozenset({"stores:*:manage"}))
BOB = Principal("key_bob", frozenset({"stores:*:manage"}))
READER = Principal("key_reader", frozenset({"stores:public:read"}))
SALES = Principal("key_sales", frozenset({"stores:*:write"}), filters=(("*", Filter("eq", "team", "sales")),))


def act_before_write(
    shop: StoreServices,
    monkeypatch: pytest.MonkeyPatch,
    named: Callable[..., object],
    act: Callable[[], Awaitable[object]],
) -> None:
    """Make the next write by the function ``named`` wait until ``act`` has ended, as if another caller had been
    faster.
    """
    write = shop.database.write

    async def interleaved(function: Any, *arguments: Any, **options: Any) -> Any:
        if function is named:
            monkeypatch.setattr(shop.database, "write", write)
            await act()
        return await write(function, *arguments, **options)

    monkeypatch.setattr(shop.database, "write", interleaved)


async def test_a_store_is_reached_by_name_and_by_id(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", LOCAL, description="What we wrote")
    assert store.id.startswith("vs_")
    assert await shop.stores.get("papers", LOCAL) == await shop.stores.get(store.id, LOCAL) == store
    for key in ("store/papers", f"store/{store.id}"):
        card = (await shop.registry.resolve(key, LOCAL)).card
        assert (card.name, card.key, card.description) == ("papers", "store/papers", "What we wrote")
        assert card.labels["id"] == store.id


async def test_a_store_records_the_concrete_name_of_its_model(shop: StoreServices) -> None:
    assert (await shop.stores.create("a", LOCAL)).embedding_model == MODEL
    assert (await shop.stores.create("b", LOCAL, embedding_model="")).embedding_model == ""
    with pytest.raises(InvalidRequest, match="Available: letters") as error:
        await shop.stores.create("c", LOCAL, embedding_model="lettres")
    assert "Did you mean 'letters'?" in error.value.message


async def test_a_store_of_one_key_is_invisible_to_another_key(shop: StoreServices) -> None:
    store = await shop.stores.create("private", ALICE)
    assert [row.id for row in await shop.stores.list(ALICE)] == [store.id]
    assert await shop.stores.list(BOB) == []
    for attempt in (
        shop.stores.get("private", BOB),
        shop.stores.get(store.id, BOB),
        shop.stores.delete(store.id, BOB),
        shop.runner.call("search", "store/private", Search("x"), BOB),
        shop.runner.call("search", f"store/{store.id}", Search("x"), BOB),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert [row.id for row in await shop.stores.list(LOCAL)] == [store.id]


async def test_a_shared_store_is_open_to_keys_with_its_scope(shop: StoreServices) -> None:
    public = await shop.stores.create("public", LOCAL)
    await shop.stores.create("other", LOCAL)
    assert [row.name for row in await shop.stores.list(READER)] == ["public"]
    assert (await shop.stores.get("public", READER)).id == public.id
    assert (await shop.stores.get(public.id, READER)).id == public.id
    for attempt in (
        shop.stores.get("public", READER, "write"),
        shop.stores.get("other", READER),
        shop.stores.create("third", READER),
        shop.runner.call("search", "store/other", Search("x"), READER),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def test_a_store_name_is_unique_per_owner_and_among_shared_stores(shop: StoreServices) -> None:
    await shop.stores.create("papers", LOCAL)
    for caller in (LOCAL, ALICE):
        with pytest.raises(Conflict):
            await shop.stores.create("papers", caller)
    await shop.stores.create("notes", ALICE)
    await shop.stores.create("notes", BOB)


async def test_the_oldest_of_several_stores_with_one_name_holds_it(shop: StoreServices) -> None:
    first = await shop.stores.create("same", ALICE, unique=False)
    second = await shop.stores.create("same", ALICE, unique=False)
    nameless = await shop.stores.create("", ALICE, unique=False)
    odd = await shop.stores.create("what: a/name", ALICE, unique=False)
    cards = {card.name: card.labels["id"] for card in await shop.registry.cards(ALICE, "store")}
    assert cards == {"same": first.id, second.id: second.id, nameless.id: nameless.id, odd.id: odd.id}
    assert (await shop.stores.get("same", ALICE)).id == first.id
    for row in (second, nameless, odd):
        assert (await shop.registry.resolve(f"store/{row.id}", ALICE)).card.name == row.id
    await shop.stores.delete(first.id, ALICE)
    assert (await shop.stores.get("same", ALICE)).id == second.id


async def test_a_chat_app_cannot_take_the_name_of_a_model(shop: StoreServices, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="belongs to a model"):
        await shop.stores.create(MODEL, LOCAL, app=True)
    folder = tmp_path / MODEL
    folder.mkdir()
    assert (await shop.stores.follow(MODEL, folder, LOCAL)).name == f"docs-{MODEL}"


async def test_a_changed_name_and_metadata_are_stored(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", LOCAL)
    await shop.stores.create("taken", LOCAL)
    updated_store = await shop.stores.update(store.id, LOCAL, {"name": "drafts", "metadata": {"a": "b"}})
    assert (updated_store.name, updated_store.metadata) == ("drafts", {"a": "b"})
    with pytest.raises(Conflict):
        await shop.stores.update(store.id, LOCAL, {"name": "taken"})
    with pytest.raises(NotFound):
        await shop.stores.get("papers", LOCAL)


async def test_a_long_unused_store_is_expired_and_refuses_searches(shop: StoreServices) -> None:
    store = await shop.stores.create("old", LOCAL, expires_after_days=1)
    assert store.expires_at is not None
    await shop.database.write(rows.change, store.id, {"last_active_at": 0.0})
    [info] = await shop.stores.describe([await shop.stores.get("old", LOCAL)], LOCAL)
    assert info.status == "expired"
    with pytest.raises(InvalidRequest, match="has expired"):
        await shop.search(store, "anything")


async def test_an_expired_store_is_emptied_and_can_be_revived(tmp_path: Path) -> None:
    async with store_services(tmp_path / "home") as first:
        store = await first.stores.create("old", LOCAL, expires_after_days=1)
        other_store = await first.stores.create("other", LOCAL)
        for name, into in (("a.txt", store), ("b.txt", other_store), ("c.txt", store)):
            row = await first.upload(name, f"The harbour of {name} opens at six.")
            await first.stores.contents.attach(into, [FileToAttach(row.id)], LOCAL)
            await first.settled(into)
        assert len((await first.search(store, "harbour")).passages) == 2
        await first.database.write(rows.change, store.id, {"last_active_at": 0.0})
    async with store_services(tmp_path / "home") as second:
        assert second.begun == []
        assert await second.database.read(chunks.count, store.id) == 0
        assert await second.database.read(chunks.count, other_store.id) == 1
        await second.stores.update("old", LOCAL, {"expires_after_days": 7})
        await second.settled(store)
        assert len((await second.search(store, "harbour")).passages) == 2
        assert len((await second.search(other_store, "harbour")).passages) == 1


async def test_a_store_that_is_revived_before_it_is_emptied_keeps_its_chunks(shop: StoreServices) -> None:
    store = await shop.filled({"a.txt": "The harbour opens at six."})
    await shop.stores.update(store.id, LOCAL, {"expires_after_days": 1})
    await shop.database.write(rows.empty, store.id)
    assert await shop.database.read(chunks.count, store.id) == 1


async def test_deleting_a_store_leaves_uploaded_files(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", LOCAL)
    row = await shop.upload("a.txt", "The harbour opens at six.")
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    await shop.settled(store)
    await shop.stores.delete("papers", LOCAL)
    assert await shop.files.get(row.id, LOCAL) == row
    with pytest.raises(NotFound, match="Store 'papers' not found"):
        await shop.stores.get("papers", LOCAL)


async def test_attaching_takes_all_files_or_none(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", ALICE)
    own_file = await shop.upload("mine.txt", "mine", ALICE)
    foreign = await shop.upload("foreign.txt", "foreign", BOB)
    with pytest.raises(NotFound):
        await shop.stores.contents.attach(store, [FileToAttach(own_file.id), FileToAttach(foreign.id)], ALICE)
    with pytest.raises(InvalidRequest) as error:
        await shop.stores.contents.attach(store, [FileToAttach(own_file.id, {"a": [1]})], ALICE)
    assert error.value.param == "attributes.a"
    assert (await shop.stores.contents.list(store)).data == ()


@pytest.mark.parametrize(("deleted", "code"), [("file", "file_not_found"), ("store", "store_not_found")])
async def test_attaching_after_the_file_or_store_was_deleted_is_not_found(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch, deleted: str, code: str
) -> None:
    store = await shop.stores.create("papers", LOCAL)
    file = await shop.upload("a.txt", "The harbour opens at six.")
    deletions: dict[str, Callable[[], Awaitable[object]]] = {
        "file": lambda: shop.files.delete(file.id, LOCAL),
        "store": lambda: shop.stores.delete(store.id, LOCAL),
    }
    act_before_write(shop, monkeypatch, _attach_all, deletions[deleted])
    with pytest.raises(NotFound) as error:
        await shop.stores.contents.attach(store, [FileToAttach(file.id)], LOCAL)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("call", "write", "error"),
    [("set_attributes", _set_attributes, NotFound), ("attach", _attach_all, Forbidden)],
)
async def test_a_filtered_key_cannot_overwrite_a_reclassification_that_came_after_its_check(
    shop: StoreServices,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    write: Callable[..., object],
    error: type[PorticoError],
) -> None:
    store = await shop.stores.create("papers", LOCAL)
    file = await shop.upload("a.txt", "The harbour opens at six.", SALES)
    contents = shop.stores.contents
    await contents.attach(store, [FileToAttach(file.id, {"team": "sales"})], LOCAL)
    await shop.settled(store)
    view = await shop.stores.get("papers", SALES, "write")
    reclassify = partial(contents.set_attributes, store, file.id, {"team": "board"})
    act_before_write(shop, monkeypatch, write, reclassify)
    attributes = {"team": "sales"}
    attempts = {
        "set_attributes": lambda: contents.set_attributes(view, file.id, attributes),
        "attach": lambda: contents.attach(view, [FileToAttach(file.id, attributes)], SALES),
    }
    with pytest.raises(error):
        await attempts[call]()
    assert (await contents.get(store, file.id)).attributes == {"team": "board"}


async def test_files_of_a_store_have_pages_in_both_directions(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", LOCAL)
    rows = [await shop.upload(f"{i}.txt", f"Text number {i}.") for i in range(5)]
    await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
    ids = [row.file_id for row in await shop.settled(store)]
    contents = shop.stores.contents
    page = await contents.list(store, limit=2)
    assert ([row.file_id for row in page.data], page.has_more) == (ids[:2:-1], True)
    page = await contents.list(store, limit=2, order="asc", after=ids[2])
    assert ([row.file_id for row in page.data], page.has_more) == (ids[3:], False)
    page = await contents.list(store, limit=2, order="asc", before=ids[4])
    assert ([row.file_id for row in page.data], page.has_more) == (ids[2:4], True)
    assert (await contents.list(store, status="failed")).data == ()


async def test_a_batch_reports_its_file_counts_and_can_be_cancelled(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", LOCAL)
    rows = [await shop.upload(f"{i}.txt", f"Text number {i}.") for i in range(3)]
    batch = await shop.stores.contents.attach_batch(store, [FileToAttach(row.id) for row in rows[:2]], LOCAL)
    await shop.settled(store)
    _, counts = await shop.stores.contents.batch(store, batch.id)
    assert (counts.completed, counts.total) == (2, 2)
    later = await shop.stores.contents.attach_batch(store, [FileToAttach(rows[2].id)], LOCAL)
    cancelled, counts = await shop.stores.contents.cancel_batch(store, later.id)
    assert cancelled.cancelled_at is not None
    assert counts.in_progress == 0
    with pytest.raises(NotFound):
        await shop.stores.contents.batch(await shop.stores.create("other", LOCAL), batch.id)


async def test_a_file_that_belongs_to_another_stores_folder_cannot_be_attached(
    shop: StoreServices, tmp_path: Path
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("The harbour opens at six.")
    docs = await shop.stores.follow("docs", folder, LOCAL)
    await shop.sync(docs)
    [row] = (await shop.stores.contents.list(docs)).data
    other_store = await shop.stores.create("other", LOCAL)
    with pytest.raises(Conflict):
        await shop.stores.contents.attach(other_store, [FileToAttach(row.file_id)], LOCAL)


async def test_the_text_of_a_file_is_the_extracted_text(shop: StoreServices) -> None:
    store = await shop.stores.create("papers", LOCAL)
    row = await shop.upload("a.md", "# A\n\none\n\n# B\n\ntwo\n")
    bad = await shop.upload("bad.pdf", b"%PDF-1.4 no")
    await shop.stores.contents.attach(store, [FileToAttach(row.id), FileToAttach(bad.id)], LOCAL)
    assert [part.text for part in await shop.stores.contents.text(store, row.id)] == [
        "# A\n\none\n\n",
        "# B\n\ntwo\n",
    ]
    with pytest.raises(InvalidRequest, match=r"bad\.pdf is not a complete PDF"):
        await shop.stores.contents.text(store, bad.id)


async def test_creating_or_deleting_a_store_notifies_registry_watchers(shop: StoreServices) -> None:
    notifications: list[str] = []
    shop.registry.watch(notifications.append)
    await shop.stores.create("papers", LOCAL)
    await shop.stores.delete("papers", LOCAL)
    assert notifications.count("store") == 2


def test_a_card_needs_the_scope_of_its_store() -> None:
    assert Card("papers", "store", id="vs_1").scopes == ("stores:papers:read", "stores:vs_1:read")


async def test_reads_without_a_transaction_match_reads_in_one(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "SLOW_DISK_S", math.inf)  # however busy the machine is
    database = shop.database
    shared_store = await shop.stores.create(
        "papers", LOCAL, description="What we wrote", metadata={"year": "2026"}
    )
    own_store = await shop.stores.create("papers-of-alice", ALICE)
    row = await shop.upload("a.md", "# Fees\n\nThe fee is 40 euros.")
    await shop.stores.contents.attach(
        shared_store, [FileToAttach(row.id, {"team": "sales", "year": 2026})], LOCAL
    )
    await shop.settled(shared_store)
    for store in (shared_store, own_store):
        assert await rows.fetch(database, store.id) == await database.read(rows.get, store.id)
    for name, whose, expected_row in (
        ("papers", ALICE, await database.read(rows.get, shared_store.id)),
        ("papers-of-alice", ALICE, await database.read(rows.get, own_store.id)),
        ("papers-of-alice", BOB, None),
    ):
        own_row, shared_row = await rows.fetch_named(database, name, whose.id)
        assert (own_row or shared_row) == expected_row
    chunk_ids = list(range(1, 50))
    chunk_hits = await database.read(hits.get, shared_store.id, chunk_ids)
    assert chunk_hits and await hits.fetch(database, shared_store.id, chunk_ids) == chunk_hits
    assert await hits.fetch(database, shared_store.id, []) == {}
