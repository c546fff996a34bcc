"""The stages applied to a question and its ranking: each alone, and all in a search with its trace."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_fixture import Asking, StoreFixture
from tests.server.features.stores.store_services import StoreServices

from portico.wire import Place
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.request import (
    AUTO_RERANKER,
    Chat,
    ChatReply,
    Ranked,
    Refine,
    Request,
    Rerank,
    Search,
    SearchResult,
    Steps,
)
from portico_server.core.servable import Card
from portico_server.db import stores as store_rows
from portico_server.db.hits import HitRow
from portico_server.db.stores import StoreRow
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.decay import decay_scores
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.expansion import join_neighbours
from portico_server.features.stores.many_stores import search_stores
from portico_server.features.stores.near_duplicates import drop_near_duplicates, drop_overlapping
from portico_server.features.stores.reranking import rerank
from portico_server.features.stores.search_candidate import SearchCandidate
from portico_server.features.stores.similarity import diversify, jaccard, shingles

NOW = 1_800_000_000.0
DAY = 86_400.0


def candidate(
    number: int, text: str, score: float, *, start: int = 0, end: int = 0, file: str = "f", **attributes: Any
) -> SearchCandidate:
    row = HitRow(
        number, file, number, text, Place(start=start, end=end), f"{file}.txt", attributes, "chunk", NOW
    )
    return SearchCandidate(row, score)


def ids(candidates: list[SearchCandidate]) -> list[int]:
    return [item.row.id for item in candidates]


# --- single stages --------------------------------------------------------------------------------------


def test_text_similarity_is_computed_from_words_in_any_script() -> None:
    assert jaccard(shingles("the grey gull"), shingles("The GREY gull!")) == 1
    assert jaccard(shingles("the grey gull"), shingles("a red fox")) == 0
    assert 0.3 < jaccard(shingles("雪莲花生长在高山"), shingles("雪莲花生长在海边")) < 1


def test_near_duplicates_collapse_into_the_best_of_them() -> None:
    first_candidate = candidate(1, "the grey gull sat on the old pier all day", 0.9)
    two = candidate(2, "the grey gull sat on the old pier all night", 0.8)
    unrelated_candidate = candidate(3, "bread is baked in the morning", 0.7)
    assert ids(drop_near_duplicates([first_candidate, two, unrelated_candidate], 0.6)) == [1, 3]
    assert ids(drop_near_duplicates([first_candidate, two, unrelated_candidate], 1.0)) == [1, 2, 3]
    assert ids(drop_near_duplicates([first_candidate, candidate(4, first_candidate.row.text, 0.5)], 1.0)) == [
        1
    ]


def test_a_text_contained_in_a_better_passage_is_dropped() -> None:
    outer_passage = candidate(1, "x" * 100, 0.9, start=0, end=100)
    inside = candidate(2, "x" * 20, 0.8, start=90, end=110)
    behind = candidate(3, "x" * 20, 0.7, start=95, end=120)
    elsewhere = candidate(4, "x" * 20, 0.6, start=10, end=30, file="g")
    assert ids(drop_overlapping([outer_passage, inside, behind, elsewhere])) == [1, 2, 4]


def test_diversity_ranks_dissimilar_passages_first_and_keeps_scores() -> None:
    best = candidate(1, "the grey gull sat on the pier", 1.0)
    twin = candidate(2, "the grey gull sat on the pier too", 0.95)
    unrelated_candidate = candidate(3, "bread is baked in the morning", 0.6)
    assert ids(diversify([best, twin, unrelated_candidate], 0.0, 3)) == [1, 2, 3]
    assert ids(diversify([best, twin, unrelated_candidate], 0.5, 3)) == [1, 3, 2]
    assert [item.score for item in diversify([best, twin, unrelated_candidate], 0.5, 2)] == [1.0, 0.6]


@pytest.mark.parametrize(
    "written",
    [NOW - 10 * DAY, "2027-01-05T08:00:00Z", "2027-01-05T08:00:00+00:00", "2027-01-05T08:00:00"],
)
def test_a_score_halves_with_each_half_life_of_an_attribute(written: str | float) -> None:
    old, new = candidate(1, "a", 0.8, written=written), candidate(2, "b", 0.5, written=NOW)
    faded = decay_scores([old, new], 10, "written", NOW)
    assert ids(faded) == [2, 1]
    assert faded[1].score == pytest.approx(0.4)


def test_decay_falls_back_to_the_arrival_time_and_ignores_future_times() -> None:
    arrived = candidate(1, "a", 0.8)
    arrived = replace(arrived, row=replace(arrived.row, created_at=NOW - DAY))
    assert decay_scores([arrived], 1, "written", NOW)[0].score == pytest.approx(0.4)
    assert decay_scores([candidate(1, "a", 0.8, written=NOW + DAY)], 1, "written", NOW)[0].score == 0.8
    with pytest.raises(InvalidRequest, match="is not a valid time") as caught:
        decay_scores([candidate(1, "a", 0.8, written="last summer")], 1, "written", NOW)
    assert caught.value.param == "decay_by"


def test_neighbouring_chunks_are_joined_without_their_overlap() -> None:
    text = "One two three. Four five six. Seven eight."
    a = candidate(1, text[0:28], 1, start=0, end=28).row
    b = candidate(2, text[15:42], 1, start=15, end=42).row
    joint_row = join_neighbours(b, [a, b])
    assert (joint_row.text, joint_row.place.start, joint_row.place.end) == (text[:42], 0, 42)
    c = candidate(3, "far", 1, start=60, end=63).row
    assert join_neighbours(a, [a, c]).text == f"{a.text}\nfar"


# --- in a search --------------------------------------------------------------------------------------------


class Model:
    """An in-process model that answers through a function of the request."""

    def __init__(self, name: str, capability: str, answer: Callable[[Any], Any]) -> None:
        self.card = Card(name, "model", capabilities=frozenset({capability}))
        self._answer = answer
        self.asked: list[Any] = []

    async def call(self, request: Request, context: Any) -> Any:
        self.asked.append(request)
        return self._answer(request)


async def stocked(shop: StoreServices, name: str, *texts: str) -> StoreRow:
    store = await shop.stores.create(name, LOCAL)
    files = [await shop.upload(f"{name}{i}.txt", text) for i, text in enumerate(texts)]
    await shop.stores.contents.attach(store, [FileToAttach(file.id) for file in files], LOCAL)
    await shop.settled(store)
    return store


async def search(shop: StoreServices, store: StoreRow, query: str, **options: Any) -> SearchResult:
    refine = Refine(**{name: options.pop(name) for name in list(options) if hasattr(Refine(), name)})
    request = Search(query, refine=refine, **options)
    result = await shop.runner.call("search", f"store/{store.id}", request, LOCAL)
    assert isinstance(result, SearchResult)
    return result


GULLS = (
    "The gull eats fish.",
    "The gull eats bread, fish and whatever the gull finds.",
    "Foxes eat rabbits.",
)


async def test_a_reranking_model_decides_the_final_order_and_scores(shop: StoreServices) -> None:
    def answer(request: Rerank) -> Ranked:
        assert request.query == "what does the gull eat"
        return Ranked(tuple((i, 0.9 if "Foxes" in text else 0.2) for i, text in enumerate(request.documents)))

    shop.registry.add(Model("judge", "rerank", answer))
    store = await stocked(shop, "gulls", *GULLS)
    result = await search(shop, store, "what does the gull eat", reranker="judge", trace=True)
    assert result.passages[0].text == "Foxes eat rabbits."
    assert result.passages[0].score == 0.9
    good = await search(shop, store, "what does the gull eat", reranker="judge", score_threshold=0.5)
    assert [passage.text for passage in good.passages] == ["Foxes eat rabbits."]
    assert [stage.name for stage in result.trace][-3:] == ["read", "rerank", "collapse"]


@pytest.mark.parametrize(
    ("labels", "read"),
    [({}, 50), ({"candidates": 100}, 100), ({"candidates": 10**6}, 100), ({"candidates": "x"}, 50)],
)
async def test_a_reranking_model_reads_as_many_candidates_as_its_card_says(
    labels: dict[str, Any], read: int
) -> None:
    model = Model(
        "late", "rerank", lambda request: Ranked(tuple((i, 0.5) for i in range(len(request.documents))))
    )
    model.card = replace(model.card, labels=labels)
    registry = Registry()
    registry.add(model)

    class Calling(Asking):
        async def call(self, name: str, request: Request, *, listener: Any = None) -> Any:
            return await model.call(request, self)

    candidates = [candidate(number, f"gull {number}", 0.5) for number in range(120)]
    context: Any = Calling()
    assert len(await rerank("gull", candidates, "late", registry, context)) == read


def rank_by_length(request: Rerank) -> Ranked:
    """Rank long passages first."""
    return Ranked(tuple((i, len(text) / 1e3) for i, text in enumerate(request.documents)))


async def test_the_auto_option_uses_the_reranker_installed_on_the_daemon(shop: StoreServices) -> None:
    store = await stocked(shop, "gulls", *GULLS)
    plain = await search(shop, store, "gull", trace=True)
    alone = await search(shop, store, "gull", trace=True, reranker=AUTO_RERANKER)
    assert alone.passages == plain.passages
    assert [stage.name for stage in alone.trace] == [stage.name for stage in plain.trace], "no stage is added"
    shop.registry.add(Model("judge", "rerank", rank_by_length))
    reranked_result = await search(shop, store, "gull", trace=True, reranker=AUTO_RERANKER)
    assert reranked_result.passages != plain.passages
    assert {item.text for item in reranked_result.passages} == {item.text for item in plain.passages}
    assert [item.score for item in reranked_result.passages] == [item.score for item in plain.passages], (
        "only the order"
    )
    [stage] = [stage for stage in reranked_result.trace if stage.name == "rerank"]
    assert (stage.note, stage.milliseconds > 0) == ("judge", True)
    assert (await search(shop, store, "gull")).passages == plain.passages, "a search asks for it"


async def test_chains_of_passages_are_not_reranked(shop: StoreServices) -> None:
    shop.registry.add(Model("judge", "rerank", rank_by_length))
    store = await stocked(shop, "gulls", *GULLS)
    request = Search("gull", steps=Steps(2), refine=Refine(reranker=AUTO_RERANKER), trace=True)
    result = await shop.runner.call("search", f"store/{store.id}", request, LOCAL)
    assert isinstance(result, SearchResult) and "rerank" not in [stage.name for stage in result.trace]


def slow(_request: Rerank) -> Ranked:
    return Ranked(((0, 1.0), (1, 0.5)))


def broken(_request: Rerank) -> Ranked:
    return Ranked(((7, 1.0),))


@pytest.mark.parametrize(
    ("answer", "budget_s", "notes"),
    [
        (slow, 0.0, ["judge", "judge", "left out: it takes more than 0 s"]),
        (slow, 60.0, ["judge", "judge", "judge"]),
        (broken, 60.0, ["did not return a reranking result"] * 3),
    ],
)
async def test_a_slow_or_failing_default_reranker_is_skipped(
    answer: Callable[[Any], Any], budget_s: float, notes: list[str]
) -> None:
    model = Model("judge", "rerank", answer)
    registry = Registry()
    registry.add(model)

    class Calling(Asking):
        async def call(self, name: str, request: Request, *, listener: Any = None) -> Any:
            return await model.call(request, self)

    reranker, context = DefaultReranker(registry, budget_s), Calling()
    two = [candidate(1, "gull", 0.9), candidate(2, "owl", 0.4)]
    for note in notes:
        order, reason = await reranker.rerank("gull", two, context)
        assert reason.endswith((note, f"{note}.")) and ids(list(order)) == [1, 2]


async def test_a_chat_model_grades_each_passage(shop: StoreServices) -> None:
    def answer(request: Chat) -> ChatReply:
        assert request.options["response_format"]["type"] == "json_schema"
        prompt = str(request.messages[1]["content"])
        return ChatReply(json.dumps({"grade": 10}) if "bread" in prompt else "I cannot say")

    shop.registry.add(Model("chatty", "chat", answer))
    store = await stocked(shop, "gulls", *GULLS)
    result = await search(shop, store, "gull", reranker="chatty")
    assert "bread" in result.passages[0].text
    assert [passage.score for passage in result.passages][:2] == [1.0, 0.0]


async def test_a_reranker_that_cannot_rank_is_refused(shop: StoreServices) -> None:
    store = await stocked(shop, "gulls", *GULLS)
    with pytest.raises(NotFound, match="'nobody'"):
        await search(shop, store, "gull", reranker="nobody")
    with pytest.raises(InvalidRequest, match="supports neither reranking nor chat"):
        await search(shop, store, "gull", reranker="letters")
    shop.registry.add(Model("broken", "rerank", lambda _: Ranked(((7, 1.0),))))
    with pytest.raises(EngineFailed, match="did not return a reranking result"):
        await search(shop, store, "gull", reranker="broken")


@pytest.mark.parametrize(
    ("how", "reply", "further"),
    [
        ("rewrite", '"what rabbits fear"', ["what rabbits fear"]),
        ("hyde", "Foxes hunt\nrabbits at night.", ["Foxes hunt rabbits at night."]),
        (
            "decompose",
            "1. who hunts rabbits?\n- where?\n\n2026 in foxes?",
            ["who hunts rabbits?", "where?", "2026 in foxes?"],
        ),
    ],
)
async def test_rewritten_questions_find_passages_the_original_misses(
    shop: StoreServices, how: str, reply: str, further: list[str]
) -> None:
    writer = Model("writer", "chat", lambda _: ChatReply(reply))
    shop.registry.add(writer)
    store = await stocked(shop, "gulls", *GULLS)
    plain = await search(shop, store, "predator", ranker="lexical")
    assert plain.passages == ()
    result = await search(shop, store, "predator", ranker="lexical", rewrite=how, writer="writer", trace=True)
    assert "Foxes eat rabbits." in [passage.text for passage in result.passages]
    stage = next(stage for stage in result.trace if stage.name == how)
    assert stage.note == " | ".join(further)
    assert "lexical (question 2)" in [stage.name for stage in result.trace]


async def test_neighbours_give_the_passage_its_surroundings(tmp_path: Path) -> None:
    shelf = await StoreFixture(tmp_path).open()
    await shelf.put("book", "first part", "the needle", "third part", "fourth part")
    result = await shelf.search("needle", refine=Refine(neighbours=1), ranker="lexical")
    assert [passage.text for passage in result.passages] == ["first part\nthe needle\nthird part"]
    await shelf.close()


async def test_an_older_file_ranks_behind_a_newer_one(shop: StoreServices) -> None:
    store = await stocked(shop, "news", "The bridge is closed today.", "The bridge is closed today, again.")
    [first, second] = (await search(shop, store, "bridge closed today")).passages
    values = {"attributes": {"written": time.time() - 100 * DAY}}
    await shop.database.write(store_rows.set_file, store.id, first.file_id, values)
    result = await search(shop, store, "bridge closed today", half_life_days=10, decay_by="written")
    assert [passage.file_id for passage in result.passages] == [second.file_id, first.file_id]


@pytest.mark.parametrize(
    ("option", "value"),
    [("diversity", 1.5), ("near_duplicates", -0.1), ("neighbours", 11), ("half_life_days", -1)],
)
async def test_an_option_out_of_range_is_refused_by_name(
    shop: StoreServices, option: str, value: float
) -> None:
    store = await shop.stores.create("empty", LOCAL)
    with pytest.raises(InvalidRequest) as caught:
        await search(shop, store, "x", **{option: value})
    assert caught.value.param == option


# --- several stores -----------------------------------------------------------------------------------------


async def test_passages_of_several_stores_are_ranked_by_relevance(shop: StoreServices) -> None:
    gulls = await stocked(shop, "gulls", *GULLS)
    bread = await stocked(shop, "bread", "Bread is baked at 230 degrees.", "Eat bread while it is warm.")
    for query, name in (("what does the gull eat", "gulls"), ("at how many degrees is bread baked", "bread")):
        for stores in ([gulls, bread], [bread, gulls]):
            result = await search_stores(stores, Search(query, trace=True), shop.runner, LOCAL)
            assert result.passages[0].store == name
            assert {passage.store for passage in result.passages} == {"gulls", "bread"}
            assert [passage.rank for passage in result.passages] == list(range(1, len(result.passages) + 1))
            assert result.trace[-1].name == "stores"
            assert {"gulls: lexical", "bread: lexical"} <= {stage.name for stage in result.trace}


async def test_a_text_found_in_two_stores_is_returned_once(shop: StoreServices) -> None:
    stores = [await stocked(shop, name, GULLS[0]) for name in ("one", "two")]
    result = await search_stores(stores, Search("gull"), shop.runner, LOCAL)
    assert [passage.text for passage in result.passages] == [GULLS[0]]
    with pytest.raises(InvalidRequest, match="1 to 16 stores"):
        await search_stores([], Search("gull"), shop.runner, LOCAL)
