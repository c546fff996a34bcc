"""A store as a Servable: what a question finds, its ranking, refusals, and the trace."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_fixture import Asking, LetterEmbedding, StoreFixture

from portico_server.core.errors import Conflict, EngineFailed, InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.request import Filter, Search, ToolCall

DOCS = {
    "ports": ["The daemon listens on port 7419.", "It listened on port 80 once."],
    "bread": ["Bread is baked at 230 degrees for forty minutes.", "Let the dough rest overnight."],
    "snow": ["雪莲花生长在海拔四千米以上的高山地带，花期在七月到八月。", "这座桥建于一九三七年。"],
    "taipei": ["臺北的夜市販賣各種小吃，滷肉飯最受歡迎。"],
    "tokyo": ["東京タワーは一九五八年に完成した。"],
}


@pytest.fixture
async def stocked(tmp_path: Path) -> AsyncIterator[StoreFixture]:
    stocked = await StoreFixture(tmp_path).open()
    for number, (name, texts) in enumerate(DOCS.items()):
        attributes: dict[str, Any] = {"number": number}
        if name in ("ports", "bread"):
            attributes["lang"] = "en"
        await stocked.put(name, *texts, attributes=attributes)
    yield stocked
    await stocked.close()


@pytest.mark.parametrize(
    ("question", "file"),
    [
        ("Which port does the daemon listen on?", "ports"),
        ("baking breads", "bread"),
        ("雪莲花什么时候开花？", "snow"),
        ("雪蓮花的花期", "snow"),
        ("台北有什么小吃", "taipei"),
        ("卤肉饭", "taipei"),
        ("タワーはいつ完成", "tokyo"),
    ],
)
@pytest.mark.parametrize("ranker", ["auto", "lexical", "hybrid"])
async def test_a_question_finds_its_passage_first(
    stocked: StoreFixture, question: str, file: str, ranker: str
) -> None:
    result = await stocked.search(question, ranker=ranker)
    assert result.passages[0].file_id == file


@pytest.mark.parametrize("ranker", ["auto", "lexical", "vector", "hybrid", "rrf"])
async def test_passages_come_in_order_with_scores_and_places(stocked: StoreFixture, ranker: str) -> None:
    result = await stocked.search("the daemon listens on port", ranker=ranker)
    assert [passage.rank for passage in result.passages] == list(range(1, len(result.passages) + 1))
    scores = [passage.score for passage in result.passages]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    first = result.passages[0]
    assert (first.filename, first.place.line, first.store) == ("ports.txt", 1, "shelf")
    assert first.attributes == {"number": 0, "lang": "en"}
    assert result.trace == ()


async def test_results_respect_the_maximum_number_and_the_score_threshold(stocked: StoreFixture) -> None:
    all_passages = (await stocked.search("port bread dough")).passages
    assert len(all_passages) > 2
    assert (await stocked.search("port bread dough", max_num_results=2)).passages == all_passages[:2]
    threshold = all_passages[1].score
    good = (await stocked.search("port bread dough", score_threshold=threshold)).passages
    assert good == tuple(passage for passage in all_passages if passage.score >= threshold)


@pytest.mark.parametrize(
    ("question", "ranker", "count", "first"),
    [
        ("Where does the daemon listen?", "auto", 10, "ports"),
        ("Where does the daemon listen?", "auto", 1, "ports"),
        ("What changed where the daemon listens?", "auto", 10, "release_notes"),
        ("Where does the daemon listen?", "lexical", 10, "release_notes"),
    ],
)
async def test_changelogs_come_last_unless_the_question_asks_about_changes(
    stocked: StoreFixture, question: str, ranker: str, count: int, first: str
) -> None:
    for number in range(30):
        await stocked.put(f"release_notes_{number}", f"The daemon listens where daemon {number} listens.")
    passages = (await stocked.search(question, ranker=ranker, max_num_results=count)).passages
    assert passages[0].file_id.startswith(first)
    assert len(passages) == count
    scores = [passage.score for passage in passages]
    assert scores == sorted(scores, reverse=True)


async def test_the_same_text_is_shown_once(stocked: StoreFixture) -> None:
    for i in range(20):
        await stocked.put(f"copy{i}", DOCS["bread"][0])
    texts = await stocked.find("bread", max_num_results=5)
    assert texts.count(DOCS["bread"][0]) == 1
    assert len(texts) == 5


async def test_a_filter_applies_to_lexical_and_vector_search(stocked: StoreFixture) -> None:
    english = Filter("eq", "lang", "en")
    for ranker in ("auto", "lexical", "vector", "hybrid", "rrf"):
        result = await stocked.search("port 高山 bread", filters=english, ranker=ranker)
        assert {passage.file_id for passage in result.passages} == {"ports", "bread"}
    nobody = Filter("gt", "number", 99)
    assert (await stocked.search("port", filters=nobody)).passages == ()
    with pytest.raises(InvalidRequest, match="'tongue'"):
        await stocked.search("port", filters=Filter("eq", "tongue", "en"))


async def test_changed_attributes_apply_from_the_next_search(stocked: StoreFixture) -> None:
    await stocked.put("late", "A late port.", attributes={"lang": "fr"})
    result = await stocked.search("port", filters=Filter("eq", "lang", "fr"))
    assert [passage.file_id for passage in result.passages] == ["late"]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (Search(""), "query"),
        (Search(" \n"), "query"),
        (Search("x" * 100_001), "query"),
        (Search("port", max_num_results=0), "max_num_results"),
        (Search("port", max_num_results=51), "max_num_results"),
        (Search("port", score_threshold=1.1), "score_threshold"),
        (Search("port", score_threshold=float("nan")), "score_threshold"),
    ],
)
async def test_an_invalid_search_is_refused_with_the_parameter_named(
    stocked: StoreFixture, request_: Search, param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await stocked.store().call(request_, Asking())
    assert caught.value.param == param


async def test_a_store_refuses_requests_other_than_searches(stocked: StoreFixture) -> None:
    with pytest.raises(InvalidRequest, match="answers only searches"):
        await stocked.store().call(ToolCall({}), Asking())


@pytest.mark.parametrize(
    "query", ["x" * 100_000, "port " * 20_000, "🙂", "\ud800 port", "()[]{}\"'AND OR *?~^", "\x00"]
)
async def test_unusual_queries_are_accepted(stocked: StoreFixture, query: str) -> None:
    await stocked.search(query)


async def test_the_trace_tells_what_each_stage_found(stocked: StoreFixture) -> None:
    result = await stocked.search("port", trace=True, ranker="hybrid", filters=Filter("eq", "lang", "en"))
    stages = {stage.name: stage for stage in result.trace}
    assert set(stages) == {"filter", "index", "lexical", "embed", "vector", "fuse", "read"}
    assert len(stages["lexical"].candidates) == 2
    assert len(stages["vector"].candidates) == 4
    assert all(stage.milliseconds >= 0 for stage in result.trace)
    assert "0.2" in stages["fuse"].note


async def test_a_chinese_question_answered_by_words_skips_the_embedding(stocked: StoreFixture) -> None:
    for i in range(3):
        await stocked.put(f"more{i}", f"雪莲花第{i}种")
    await stocked.search("雪莲花")
    assert stocked.letters.asked == []
    await stocked.search("滷肉飯")
    assert stocked.letters.asked == ["滷肉飯"]
    await stocked.search("雪莲花", ranker="hybrid")
    assert stocked.letters.asked == ["滷肉飯", "雪莲花"]


async def test_the_model_profile_sets_the_fusion_weight(stocked: StoreFixture) -> None:
    stocked.registry.add(LetterEmbedding({"fusion_weight": 0.7, "fusion_weight_cjk": 0.6}), replace=True)
    for i in range(3):
        await stocked.put(f"more{i}", f"雪莲花第{i}种")
    for question, weight in (("port", "0.7"), ("雪莲花", "0.6"), ("滷肉飯", "0.7")):
        result = await stocked.search(question, trace=True)
        assert f"{weight} for vectors" in next(s.note for s in result.trace if s.name == "fuse")


async def test_a_store_whose_model_fails_falls_back_to_words_and_reports_it(stocked: StoreFixture) -> None:
    stocked.letters.broken = True
    result = await stocked.search("port", trace=True)
    assert result.passages[0].file_id == "ports"
    assert any("crashed" in stage.note for stage in result.trace)
    with pytest.raises(EngineFailed):
        await stocked.search("port", ranker="vector")
    stocked.registry.remove("letters")
    assert (await stocked.search("port")).passages


async def test_a_model_with_changed_dimensions_is_skipped(stocked: StoreFixture) -> None:
    stocked.letters.dimensions = 64
    result = await stocked.search("port", trace=True)
    assert result.passages[0].file_id == "ports"
    assert any("64 numbers" in stage.note for stage in result.trace)
    with pytest.raises(Conflict):
        await stocked.search("port", ranker="vector")


async def test_a_reader_of_the_store_needs_no_scope_for_its_model(stocked: StoreFixture) -> None:
    reader = Principal("key_reader", frozenset({"stores:shelf:read"}))
    result = await stocked.store().call(Search("port", ranker="vector"), Asking(reader))
    assert result.passages


async def test_a_store_without_vectors_searches_by_words_only(tmp_path: Path) -> None:
    stocked = await StoreFixture(tmp_path, model="").open()
    await stocked.put("baking", *DOCS["bread"])
    try:
        for ranker in ("auto", "lexical", "hybrid", "rrf"):
            assert await stocked.find("bread", ranker=ranker) == [DOCS["bread"][0]]
        with pytest.raises(InvalidRequest, match="has no vectors"):
            await stocked.find("bread", ranker="vector")
    finally:
        await stocked.close()
