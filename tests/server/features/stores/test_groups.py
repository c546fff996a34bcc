"""Chunk groups: built on a live store, searched, expanded to their parents, removed, resumed after a restart."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_fixture import MODEL
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Refine, Search, SearchResult
from portico_server.db import chunks, groups
from portico_server.db.stores import StoreRow
from portico_server.features.stores.contents import FileToAttach

STORY = " ".join(
    f"Chapter {n} tells of the lighthouse keeper number {n}. He had {n} lamps and {n} gulls. "
    f"The word of this part is {word}. Nobody came by for many days, and the sea was calm."
    for n, word in enumerate(("amber", "basalt", "cobalt", "damask", "ebony", "feldspar"), start=1)
)
SMALL = {"type": "sentence", "size": 80, "overlap": 0}
LARGE = {"type": "sentence", "size": 400, "overlap": 0}


async def stocked(shop: StoreServices, name: str = "story") -> StoreRow:
    store = await shop.stores.create(name, LOCAL)
    file = await shop.upload("story.txt", STORY)
    await shop.stores.contents.attach(store, [FileToAttach(file.id)], LOCAL)
    await shop.settled(store)
    return store


async def add(shop: StoreServices, store: StoreRow, name: str, **options: Any) -> dict[str, Any]:
    _, run = await shop.stores.groups.add(store, name, **options)
    return await shop.result(run)


async def search(shop: StoreServices, store: StoreRow, query: str, **options: Any) -> SearchResult:
    result = await shop.runner.call("search", f"store/{store.id}", Search(query, **options), LOCAL)
    assert isinstance(result, SearchResult)
    return result


async def test_a_new_group_is_built_from_existing_files(shop: StoreServices) -> None:
    store = await stocked(shop)
    assert await add(shop, store, "small", chunking=SMALL) == {
        "indexed": 0,
        "failed": 0,
        "in_groups": 1,
        "failed_in_groups": 0,
    }
    result = await search(shop, store, "cobalt", groups=("small",))
    assert result.passages[0].text == "The word of this part is cobalt."
    chunk_group, small = await shop.stores.groups.list(store, 1)
    assert (chunk_group.name, small.name, small.completed, small.waiting) == ("chunk", "small", 1, 0)
    assert small.chunks > chunk_group.chunks
    assert small.embedding_model == MODEL


async def test_an_added_group_does_not_change_searches_without_it(shop: StoreServices) -> None:
    store = await stocked(shop)
    result_before = await search(shop, store, "lamps of the keeper")
    await add(shop, store, "small", chunking=SMALL)
    assert await search(shop, store, "lamps of the keeper") == result_before


async def test_a_file_added_later_is_indexed_in_every_group(shop: StoreServices) -> None:
    store = await stocked(shop)
    await add(shop, store, "small", chunking=SMALL)
    late = await shop.upload("late.txt", "The last word is zirconium. It is a metal.")
    await shop.stores.contents.attach(store, [FileToAttach(late.id)], LOCAL)
    await shop.settled(store)
    result = await search(shop, store, "zirconium", groups=("small",))
    assert result.passages[0].filename == "late.txt"
    await shop.stores.contents.detach(store, late.id)
    result = await search(shop, store, "zirconium", groups=("small",), ranker="lexical")
    assert result.passages == ()


async def test_a_hit_in_a_fine_group_is_given_as_its_parent(shop: StoreServices) -> None:
    store = await stocked(shop)
    await add(shop, store, "large", chunking=LARGE)
    await add(shop, store, "small", chunking=SMALL, parent="large")
    result = await search(shop, store, "ebony", groups=("small",), refine=Refine(parents="*"))
    best = result.passages[0]
    assert "The word of this part is ebony." in best.text
    assert "keeper number 5" in best.text
    assert STORY[best.place.start : best.place.end] == best.text
    by_name = await search(shop, store, "ebony", groups=("small",), refine=Refine(parents="large"))
    assert by_name.passages == result.passages


async def test_groups_searched_together_return_no_text_twice(shop: StoreServices) -> None:
    store = await stocked(shop)
    await add(shop, store, "small", chunking=SMALL)
    result = await search(shop, store, "feldspar", groups=("chunk", "small"), trace=True, max_num_results=50)
    places = sorted((passage.place.start, passage.place.end) for passage in result.passages)
    assert all(end <= start + 40 for (_, end), (start, _) in pairwise(places))
    assert {"lexical", "lexical (small)", "together"} <= {stage.name for stage in result.trace}


async def test_predefined_groups_need_only_their_names(shop: StoreServices) -> None:
    store = await stocked(shop)
    for name in ("CoarseChunk", "MediumChunk", "FineChunk"):
        await add(shop, store, name)
    _, coarse, medium, fine = await shop.stores.groups.list(store, 1)
    assert (coarse.parent, medium.parent, fine.parent) == ("", "CoarseChunk", "MediumChunk")
    assert fine.chunking["static"] == {"max_chunk_size_tokens": 128, "chunk_overlap_tokens": 12}
    assert coarse.chunks <= medium.chunks <= fine.chunks


async def test_a_group_without_vectors_answers_by_words(shop: StoreServices) -> None:
    store = await stocked(shop)
    await add(shop, store, "plain", chunking=SMALL, embedding_model="")
    result = await search(shop, store, "damask", groups=("plain",))
    assert result.passages[0].text == "The word of this part is damask."
    with pytest.raises(InvalidRequest, match="no vectors"):
        await search(shop, store, "damask", groups=("plain",), ranker="vector")


async def test_a_removed_group_leaves_no_chunks(shop: StoreServices) -> None:
    store = await stocked(shop)
    count_before = await shop.database.read(chunks.count, store.id)
    await add(shop, store, "large", chunking=LARGE)
    await add(shop, store, "small", chunking=SMALL, parent="large")
    with pytest.raises(Conflict, match="parent of small"):
        await shop.stores.groups.remove(store, "large")
    await shop.stores.groups.remove(store, "small")
    await shop.stores.groups.remove(store, "large")
    assert await shop.database.read(chunks.count, store.id, "small") == 0
    assert await shop.database.read(chunks.count, store.id) == count_before
    with pytest.raises(NotFound, match="no group 'small'"):
        await search(shop, store, "ebony", groups=("small",))
    await add(shop, store, "small", chunking=SMALL)
    assert (await search(shop, store, "ebony", groups=("small",))).passages


@pytest.mark.parametrize(
    ("name", "options", "error", "param"),
    [
        ("chunk", {}, InvalidRequest, "name"),
        ("../x", {}, InvalidRequest, "name"),
        ("", {}, InvalidRequest, "name"),
        ("a", {"parent": "nobody"}, NotFound, "parent"),
        ("a", {"chunking": {"type": "psychic"}}, InvalidRequest, "chunking_strategy.type"),
    ],
)
async def test_an_invalid_group_is_refused_with_the_parameter_named(
    shop: StoreServices, name: str, options: dict[str, Any], error: type[Exception], param: str
) -> None:
    store = await shop.stores.create("empty", LOCAL)
    with pytest.raises(error) as caught:
        await shop.stores.groups.add(store, name, **options)
    assert getattr(caught.value, "param", None) == param


async def test_model_based_chunking_requires_the_scope_of_its_model(shop: StoreServices) -> None:
    store = await stocked(shop)
    librarian = Principal("key_1", frozenset({"stores:*:manage"}))
    with pytest.raises(Forbidden, match="chat"):
        await shop.stores.groups.add(store, "turns", chunking={"type": "semantic"}, caller=librarian)
    asker = Principal("key_2", frozenset({"stores:*:manage", "chat"}))
    _, run = await shop.stores.groups.add(store, "turns", chunking={"type": "semantic"}, caller=asker)
    assert await shop.result(run) == {"in_groups": 1, "failed_in_groups": 0}


async def test_adding_an_existing_group_is_refused_as_a_conflict(shop: StoreServices) -> None:
    store = await stocked(shop)
    await add(shop, store, "small", chunking=SMALL)
    with pytest.raises(Conflict, match="already"):
        await shop.stores.groups.add(store, "small")


async def test_an_interrupted_group_is_finished_after_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with store_services(home) as first:
        store = await stocked(first)
        row = groups.new(store.id, "small", "", SMALL, None)
        assert await first.database.write(groups.add, row)
    async with store_services(home) as second:
        await asyncio.gather(*(second.result(run) for run in second.begun))
        result = await search(second, store, "amber", groups=("small",))
        assert result.passages[0].text == "The word of this part is amber."


@pytest.mark.slow
async def test_a_group_that_fails_to_embed_is_reported_and_searches_continue(shop: StoreServices) -> None:
    store = await stocked(shop)
    shop.model.broken = True
    run = (await shop.stores.groups.add(store, "small", chunking=SMALL))[1]
    failure = await shop.failure(run)
    assert "its embedding model failed: The process behind 'letters' crashed." in failure.message
    _, small = await shop.stores.groups.list(store, 1)
    assert (small.completed, small.failed) == (0, 1)
    assert (await search(shop, store, "amber", ranker="lexical")).passages


async def test_storage_of_a_group_is_counted_and_released_on_removal(shop: StoreServices) -> None:
    store = await shop.stores.create("weighed", LOCAL)
    row = await shop.upload("long.txt", "One sentence about the sea. " * 200)
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)

    async def used() -> int:
        [file] = await shop.settled(store)
        [info] = await shop.stores.describe([store], LOCAL)
        assert info.usage_bytes == file.usage_bytes
        return info.usage_bytes

    alone = await used()
    small = {"type": "sentence", "size": 60, "overlap": 0}
    await shop.result((await shop.stores.groups.add(store, "small", chunking=small))[1])
    together = await used()
    assert together > alone + 5_000
    await shop.stores.contents.attach(store, [FileToAttach(row.id)], LOCAL)
    assert await used() == together
    await shop.stores.groups.remove(store, "small")
    assert await used() == alone
