"""Filters on attributes: what is taken, what is refused, and what they mean."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.request import Filter
from portico_server.knowledge import filter as filters

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
def test_a_filter_that_makes_no_sense_is_refused_where_it_is_wrong(value: Any, param: str) -> None:
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


def test_a_long_list_is_not_gone_through_for_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [f"v{number}" for number in range(filters.MAX_VALUES)]
    parts = [compare("nin", "n", values)] * (filters.MAX_ALL_VALUES // filters.MAX_VALUES)
    joined = filters.parse({"type": "and", "filters": parts})
    files = [(str(number), {"n": f"w{number}"}) for number in range(300)]
    looked, kind = 0, filters._kind

    def count(value: Any) -> str:
        nonlocal looked
        looked += 1
        return kind(value)

    monkeypatch.setattr(filters, "_kind", count)
    assert len(filters.select(joined, files)) == len(filters.permitted(joined, files)) == 300
    assert looked < 4 * filters.MAX_ALL_VALUES + 300 * 4 * len(parts)
    with pytest.raises(InvalidRequest, match="more than 10,000 values"):
        filters.parse({"type": "or", "filters": [*parts, compare("eq", "n", "x"), parts[0]]})


def test_an_attribute_that_no_file_has_is_named_with_its_neighbour() -> None:
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


def test_files_that_share_their_attributes_are_judged_as_each_by_itself() -> None:
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
            {key: dice.choice(values) for key in "abc" if dice.random() < 0.7}
            for _ in range(dice.randint(1, 6))
        ]
        rows = [(f"file-{number}", dice.choice(kinds)) for number in range(40)]
        wanted = condition(3)
        expected = [row for row in rows if filters.permits(wanted, dict(row[1]))]
        assert filters.permitted(wanted, rows) == expected, wanted
        assert filters.permitted(wanted, [(name, dict(each)) for name, each in rows]) == expected
