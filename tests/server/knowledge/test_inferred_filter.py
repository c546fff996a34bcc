"""What a question says of files' attributes restricts a search, is shown, and never makes it empty."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.knowledge.store_fixture import StoreFixture

from portico_server.core.request import Filter
from portico_server.knowledge import filter
from portico_server.knowledge.filter import MAX_QUESTION_CHARS, MAX_SAID, in_words, infer

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
def test_what_a_question_says(known: list[dict[str, Any]], question: str, said: str) -> None:
    assert " and ".join(map(in_words, infer(question, known))) == said


@pytest.mark.parametrize(
    ("known", "question"),
    [
        (CONTRACTS, "How do sales develop?"),  # a plain word may mean something else
        (CONTRACTS, "Everything that is not in Europe"),
        (CONTRACTS, "All contracts except those with Beta & Co"),
        (CONTRACTS, "不要月饼的做法"),
        (CONTRACTS, "What is the European rule?"),
        (CONTRACTS, "Is it true?"),
        (REPORTS, "Who won in 2023?"),  # the year of what is told, not of the file
        (REPORTS, "We sold 2024 pieces"),
        (REPORTS, "x" * MAX_QUESTION_CHARS + " since 2024"),
        (LETTERS, "since 31 February 2024"),
        ([{"signed": "2024"}, {"ended": "2025"}], "since 2024"),  # which of the two?
        ([{"year": 2024}, {"year": "draft"}], "since 2024"),
        ([], "since 2024"),
        ([{"": "", "x": "a" * 10_000, "(": "[*"}], "since (a)* [*"),
    ],
)
def test_what_it_does_not_say(known: list[dict[str, Any]], question: str) -> None:
    assert infer(question, known) == ()


def test_an_attribute_that_the_request_filters_by_is_left_alone() -> None:
    assert infer("since 2024", REPORTS, taken=["year"]) == ()


@pytest.fixture
async def reports(tmp_path: Path) -> AsyncIterator[StoreFixture]:
    store = await StoreFixture(tmp_path).open()
    await store.put("old", "The harbour fee is 5 crowns.", attributes={"year": 2019})
    await store.put("new", "The harbour fee is 8 crowns.", attributes={"year": 2024})
    await store.put("loose", "A harbour fee is paid at the gate.")
    yield store
    await store.close()


async def test_files_that_say_otherwise_are_left_out(reports: StoreFixture) -> None:
    question = "What is the harbour fee since 2020?"
    found = await reports.search(question, infer_filters=True, trace=True)
    assert {passage.file_id for passage in found.passages} == {"new", "loose"}
    assert "year ≥ 2020: 2 files" in [stage.note for stage in found.trace if stage.name == "infer"]
    assert len((await reports.search(question)).passages) == 3
    narrower = await reports.search(question, infer_filters=True, filters=Filter("eq", "year", 2019))
    assert {passage.file_id for passage in narrower.passages} == {"old"}


async def test_it_is_never_empty_for_that(reports: StoreFixture) -> None:
    await reports.remove("loose")
    found = await reports.search("harbour fee since 2030", infer_filters=True, trace=True)
    assert {passage.file_id for passage in found.passages} == {"old", "new"}
    assert any("searched without" in stage.note for stage in found.trace)
    await reports.put("bread", "Bread takes an hour.", attributes={"year": 2031})
    found = await reports.search("harbour fee since 2030", infer_filters=True, ranker="lexical", trace=True)
    assert {passage.file_id for passage in found.passages} == {"old", "new"}
    assert [stage.note for stage in found.trace if stage.name == "infer"][-1].endswith("searched without")


def test_thousands_of_attributes_and_values_are_not_each_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    said, pattern = filter._is_said, filter._name_pattern

    def is_said(value: Any, key: str, text: str, *, named: bool) -> bool:
        asked.append(key)
        return said(value, key, text, named=named)

    def name_pattern(key: str) -> re.Pattern[str]:
        asked.append(key)
        return pattern(key)

    monkeypatch.setattr(filter, "_is_said", is_said)
    monkeypatch.setattr(filter, "_name_pattern", name_pattern)
    known = [{f"key{n}_{m}": f"Some Value {n} {m}" for m in range(16)} for n in range(400)]
    assert [in_words(part) for part in infer("Some Value 3 4 of key3 4", known)] == [
        "key3_4 = 'Some Value 3 4'"
    ]
    assert len(asked) < 10
    asked.clear()
    crowd = [
        {f"key{n}": f"{first} {second}" for n in range(16)} for first in range(10) for second in range(10)
    ]
    infer("key " + " ".join(f"{first} {second}" for first in range(10) for second in range(10)), crowd)
    assert len(asked) <= 2 * MAX_SAID
