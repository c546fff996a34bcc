"""Filters on attributes: which are accepted and refused, and what they mean.

Attributes in a question restrict a search, are shown, and never make it empty.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.stores.store_fixture import StoreFixture

from portico_server.core import filter
from portico_server.core import filter as filters
from portico_server.core.errors import InvalidRequest
from portico_server.core.file_labels import FileLabels
from portico_server.core.filter import MAX_QUESTION_CHARS, MAX_SAID, in_words, infer
from portico_server.core.request import Filter

FILES: list[tuple[str, Mapping[str, Any]]] = [
    ("a", {"lang": "en", "year": 2020, "draft": False, "day": "2024-01-02"}),
    ("b", {"lang": "de", "year": 2022, "draft": True, "day": "2024-03-01"}),
    ("c", {"lang": "en", "year": 2024.5, "draft": False}),
    ("d", {}),
]


def selected(value: Any) -> str:
    return "".join(filters.select(filters.parse(value), FILES))


def compare(kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "key": key, "value": value}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (compare("eq", "lang", "en"), "ac"),
        (compare("ne", "lang", "en"), "bd"),
        (compare("gt", "year", 2020), "bc"),
        (compare("gte", "year", 2020), "abc"),
        (compare("lt", "year", 2022), "a"),
        (compare("lte", "year", 2022.0), "ab"),
        (compare("in", "lang", ["de", "fr"]), "b"),
        (compare("nin", "lang", ["de", "fr"]), "acd"),
        (compare("in", "lang", []), ""),
        (compare("eq", "draft", True), "b"),
        (compare("gte", "day", "2024-02-01"), "b"),
        ({"type": "and", "filters": [compare("eq", "lang", "en"), compare("gt", "year", 2021)]}, "c"),
        ({"type": "or", "filters": [compare("eq", "lang", "de"), compare("gt", "year", 2023)]}, "bc"),
    ],
)
def test_a_filter_selects_files(value: Any, expected: str) -> None:
    assert selected(value) == expected


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("lang", "filters"),
        ([], "filters"),
        ({"type": "like", "key": "lang", "value": "e"}, "filters.type"),
        ({"key": "lang", "value": "e"}, "filters.type"),
        ({"type": "eq", "value": "e"}, "filters.key"),
        ({"type": "eq", "key": "lang"}, "filters.value"),
        ({**compare("eq", "lang", "en"), "negate": True}, "filters.negate"),
        ({"type": "and", "filters": [compare("eq", "lang", "en")], "key": "lang"}, "filters.key"),
        (compare("eq", "lang", None), "filters.value"),
        (compare("eq", "lang", ["en"]), "filters.value"),
        (compare("eq", "lang", {"a": 1}), "filters.value"),
        (compare("eq", "year", float("nan")), "filters.value"),
        (compare("gt", "draft", True), "filters.value"),
        (compare("in", "lang", "en"), "filters.value"),
        (compare("in", "lang", ["en", None]), "filters.value[1]"),
        (compare("in", "lang", list(range(1_001))), "filters.value"),
        ({"type": "and", "filters": []}, "filters.filters"),
        ({"type": "and"}, "filters.filters"),
        ({"type": "or", "filters": [compare("eq", "lang", "en"), {"type": "x"}]}, "filters.filters[1].type"),
    ],
)
def test_an_invalid_filter_is_refused_with_its_position(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filters.parse(value)
    assert caught.value.param == param


def test_filters_nested_too_deep_or_too_wide_are_refused() -> None:
    deep: Any = compare("eq", "lang", "en")
    for _ in range(1_000):
        deep = {"type": "and", "filters": [deep]}
    wide = {"type": "or", "filters": [compare("eq", "lang", "en")] * 257}
    for value in (deep, wide):
        with pytest.raises(InvalidRequest):
            filters.parse(value)


@pytest.mark.parametrize(
    ("sets", "groups", "permitted"),
    [
        (None, {"sales"}, False),
        ([], set(), True),
        ([[]], {"sales"}, False),
        ([["sales", "board"]], {"sales"}, True),
        ([["sales", "board"]], set(), False),
        ([["staff"], ["sales"]], {"sales"}, False),
        ([["staff"], ["sales"]], {"staff", "sales"}, True),
    ],
)
def test_a_caller_needs_a_group_of_each_set(
    sets: list[list[str]] | None, groups: set[str], permitted: bool
) -> None:
    condition = Filter("readers", value=frozenset(groups))
    assert filters.permits(condition, FileLabels({}, sets)) is permitted
    with pytest.raises(InvalidRequest):
        filters.parse({"type": "readers", "value": sorted(groups)})


def test_a_long_value_list_is_not_scanned_for_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [f"v{number}" for number in range(filters.MAX_VALUES)]
    parts = [compare("nin", "n", values)] * (filters.MAX_ALL_VALUES // filters.MAX_VALUES)
    conjunction = filters.parse({"type": "and", "filters": parts})
    files = [(str(number), {"n": f"w{number}"}) for number in range(300)]
    looked, kind = 0, filters._kind

    def count(value: Any) -> str:
        nonlocal looked
        looked += 1
        return kind(value)

    monkeypatch.setattr(filters, "_kind", count)
    labelled = [(name, FileLabels(attributes)) for name, attributes in files]
    assert len(filters.select(conjunction, files)) == len(filters.permitted(conjunction, labelled)) == 300
    assert looked < 4 * filters.MAX_ALL_VALUES + 300 * 4 * len(parts)
    with pytest.raises(InvalidRequest, match="more than 10,000 values"):
        filters.parse({"type": "or", "filters": [*parts, compare("eq", "n", "x"), parts[0]]})


def test_an_unknown_attribute_is_refused_with_the_nearest_known_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'langs'.*Did you mean 'lang'"):
        selected(compare("eq", "langs", "en"))


@pytest.mark.parametrize(
    "value", [compare("eq", "year", "2020"), compare("eq", "draft", 1), compare("in", "lang", [1])]
)
def test_a_value_of_another_kind_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        selected(value)
    assert caught.value.code == "wrong_type"


def test_a_filter_on_an_empty_store_selects_nothing() -> None:
    assert filters.select(filters.parse(compare("eq", "lang", "en")), []) == []


def test_files_with_shared_attributes_are_filtered_as_if_judged_singly() -> None:
    dice = random.Random(20261121)
    values: list[Any] = ["sales", "it", "1", "", "ä", 1, 0, 2.5, -3, True, False, 10**20]

    def condition(depth: int) -> Filter:
        if depth and dice.random() < 0.5:
            kind = dice.choice(("and", "or"))
            return Filter(kind, filters=tuple(condition(depth - 1) for _ in range(dice.randint(1, 3))))
        kind = dice.choice(filters.COMPARISONS)
        value: Any = dice.choice(values)
        if kind in ("in", "nin"):
            value = tuple(dice.choice(values) for _ in range(dice.randint(0, 3)))
        elif kind not in ("eq", "ne") and isinstance(value, bool):
            value = 3
        return Filter(kind, key=dice.choice("abc"), value=value)

    for _ in range(300):
        kinds = [
            FileLabels({key: dice.choice(values) for key in "abc" if dice.random() < 0.7})
            for _ in range(dice.randint(1, 6))
        ]
        rows = [(f"file-{number}", dice.choice(kinds)) for number in range(40)]
        file_filter = condition(3)
        permitted_rows = [row for row in rows if filters.permits(file_filter, replace(row[1]))]
        assert filters.permitted(file_filter, rows) == permitted_rows, file_filter
        assert (
            filters.permitted(file_filter, [(name, replace(attributes)) for name, attributes in rows])
            == permitted_rows
        )


CONTRACTS: list[dict[str, Any]] = [
    {"party": "Acme Ltd.", "team": "sales", "region": "Europe", "level": 2, "signed": "2024-03-01"},
    {"party": "Acme", "team": "legal", "region": "Asia", "level": 3, "signed": "2023-12-24T10:00"},
    {"party": "Beta & Co", "product": "月饼", "draft": True},
]
REPORTS: list[dict[str, Any]] = [{"year": 2023}, {"year": 2025}]
LETTERS: list[dict[str, Any]] = [{"signed": "2024-03-01"}]


@pytest.mark.parametrize(
    ("known", "question", "said"),
    [
        (CONTRACTS, "What do we owe by the contract with Acme Ltd.?", "party = 'Acme Ltd.'"),
        (CONTRACTS, "acme ltd. or Beta & Co?", "party in ['Acme Ltd.', 'Beta & Co']"),
        (CONTRACTS, "What is the rule in Europe?", "region = 'Europe'"),
        (CONTRACTS, "Who leads the sales team?", "team = 'sales'"),
        (CONTRACTS, "What may one do at level 2?", "level = 2"),
        (CONTRACTS, "月饼怎么做?", "product = '月饼'"),
        (CONTRACTS, "signed before 2024", "signed < '2024'"),
        (REPORTS, "What has changed since 2024?", "year ≥ 2024"),
        (REPORTS, "What was sold before March 2024?", "year < 2025"),
        (REPORTS, "Sales after 2023", "year ≥ 2024"),
        (REPORTS, "Sales up to 2023", "year < 2024"),
        (REPORTS, "the report of the year 2023", "year ≥ 2023 and year < 2024"),
        (REPORTS, "2024年之前的收入", "year < 2024"),
        (REPORTS, "自2024年有什么变化", "year ≥ 2024"),
        (LETTERS, "letters since March 2024", "signed ≥ '2024-03'"),
        (LETTERS, "letters after 1 March 2024", "signed ≥ '2024-03-01~'"),
        (LETTERS, "between 2023-01-02 and 2024", "signed ≥ '2023-01-02' and signed < '2025'"),
        (LETTERS, "2019年到2021年的信", "signed ≥ '2019' and signed < '2022'"),
        (LETTERS, "2023年3月以来有什么变化?", "signed ≥ '2023-03'"),
        (LETTERS, "letters until December 2023", "signed < '2024-01'"),
    ],
)
def test_conditions_stated_in_a_question_are_inferred_as_filters(
    known: list[dict[str, Any]], question: str, said: str
) -> None:
    assert " and ".join(map(in_words, infer(question, known))) == said


@pytest.mark.parametrize(
    ("known", "question"),
    [
        (CONTRACTS, "How do sales develop?"),  # a plain word can mean something else
        (CONTRACTS, "Everything that is not in Europe"),
        (CONTRACTS, "All contracts except those with Beta & Co"),
        (CONTRACTS, "不要月饼的做法"),
        (CONTRACTS, "What is the European rule?"),
        (CONTRACTS, "Is it true?"),
        (REPORTS, "Who won in 2023?"),  # the year of the events, not of the file
        (REPORTS, "We sold 2024 pieces"),
        (REPORTS, "x" * MAX_QUESTION_CHARS + " since 2024"),
        (LETTERS, "since 31 February 2024"),
        ([{"signed": "2024"}, {"ended": "2025"}], "since 2024"),  # ambiguous
        ([{"year": 2024}, {"year": "draft"}], "since 2024"),
        ([], "since 2024"),
        ([{"": "", "x": "a" * 10_000, "(": "[*"}], "since (a)* [*"),
    ],
)
def test_questions_without_clear_conditions_infer_no_filter(
    known: list[dict[str, Any]], question: str
) -> None:
    assert infer(question, known) == ()


def test_no_filter_is_inferred_for_an_attribute_the_request_filters() -> None:
    assert infer("since 2024", REPORTS, excluded_keys=["year"]) == ()


@pytest.fixture
async def reports(tmp_path: Path) -> AsyncIterator[StoreFixture]:
    store = await StoreFixture(tmp_path).open()
    await store.put("old", "The harbour fee is 5 crowns.", attributes={"year": 2019})
    await store.put("new", "The harbour fee is 8 crowns.", attributes={"year": 2024})
    await store.put("loose", "A harbour fee is paid at the gate.")
    yield store
    await store.close()


async def test_files_contradicting_the_inferred_filter_are_excluded(reports: StoreFixture) -> None:
    question = "What is the harbour fee since 2020?"
    result = await reports.search(question, infer_filters=True, trace=True)
    assert {passage.file_id for passage in result.passages} == {"new", "loose"}
    assert "year ≥ 2020: 2 files" in [stage.note for stage in result.trace if stage.name == "infer"]
    assert len((await reports.search(question)).passages) == 3
    narrower = await reports.search(question, infer_filters=True, filters=Filter("eq", "year", 2019))
    assert {passage.file_id for passage in narrower.passages} == {"old"}


async def test_an_inferred_filter_without_results_is_dropped(reports: StoreFixture) -> None:
    await reports.remove("loose")
    result = await reports.search("harbour fee since 2030", infer_filters=True, trace=True)
    assert {passage.file_id for passage in result.passages} == {"old", "new"}
    assert any("searched without" in stage.note for stage in result.trace)
    await reports.put("bread", "Bread takes an hour.", attributes={"year": 2031})
    result = await reports.search("harbour fee since 2030", infer_filters=True, ranker="lexical", trace=True)
    assert {passage.file_id for passage in result.passages} == {"old", "new"}
    assert [stage.note for stage in result.trace if stage.name == "infer"][-1].endswith(
        "searched without the inferred filter"
    )


def test_inference_does_not_search_for_each_of_thousands_of_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched_keys: list[str] = []
    original, pattern = filter._is_said, filter._name_pattern

    def is_said(value: Any, key: str, text: str, *, is_named: bool) -> bool:
        searched_keys.append(key)
        return original(value, key, text, is_named=is_named)

    def name_pattern(key: str) -> re.Pattern[str]:
        searched_keys.append(key)
        return pattern(key)

    monkeypatch.setattr(filter, "_is_said", is_said)
    monkeypatch.setattr(filter, "_name_pattern", name_pattern)
    attribute_values = [{f"key{n}_{m}": f"Some Value {n} {m}" for m in range(16)} for n in range(400)]
    assert [in_words(part) for part in infer("Some Value 3 4 of key3 4", attribute_values)] == [
        "key3_4 = 'Some Value 3 4'"
    ]
    assert len(searched_keys) < 10
    searched_keys.clear()
    crowd = [
        {f"key{n}": f"{first} {second}" for n in range(16)} for first in range(10) for second in range(10)
    ]
    infer("key " + " ".join(f"{first} {second}" for first in range(10) for second in range(10)), crowd)
    assert len(searched_keys) <= 2 * MAX_SAID
