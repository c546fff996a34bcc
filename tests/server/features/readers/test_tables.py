"""Tables as the worker reads them to compute: kinds and units of columns, headers, merged cells, and doubts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.readers.office import rewritten, sheets

from portico_server.features.chunkers.document import SourceDocument
from portico_server.features.readers.documents import document_format
from portico_server.features.readers.tables import compute, find_tables

SUM = {
    "aggregate": "sum",
    "conditions": [],
    "label": None,
    "group": None,
    "largest": True,
    "is_additive": False,
}


def csv_file(folder: Path, *lines: str) -> SourceDocument:
    path = folder / "table.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return SourceDocument("table.csv", path)


def workbook(
    folder: Path, rows: Sequence[Sequence[str | float | None]], merged: Sequence[str] = ()
) -> SourceDocument:
    path = folder / "table.xlsx"
    path.write_bytes(sheets({"Sheet": rows}, merged={"Sheet": merged}))
    return SourceDocument("table.xlsx", path)


def tables_for(source: SourceDocument, question: str) -> list[dict[str, Any]]:
    return find_tables(source, document_format(source), question)


def query_result(source: SourceDocument, query: Mapping[str, Any]) -> dict[str, Any]:
    return compute(source, document_format(source), query)


def total(source: SourceDocument, column: int, sheet: str = "") -> Any:
    return query_result(source, {**SUM, "sheet": sheet, "column": column})["value"]


@pytest.mark.parametrize(
    ("cells", "unit", "expected"),
    [
        (["1,200.50 kr", "3.00 kr"], "kr", 1_203.5),
        (["€1,000", "€5"], "€", 1_005),
        (["3.5 %", "1 %", "n/a"], "%", 4.5),
        (["(1,200)", "200"], "", -1_000),
        (["−5", "+7.5"], "", 2.5),
        (["1 200,50", "0,25"], "", 1_200.75),
        (["1'200.50", "1.5"], "", 1_202),
        (["1.234.567", "12"], "", 1_234_579),
        (["1.2万", "3万"], "", 42_000),
        (["１，２００元", "３００元"], "元", 1_500),
        (["12,34,567", "1"], "", 1_234_568),
        (["0.125", "1.250"], "", 1.375),
        (["1,200", "2,400"], "", 3_600),
    ],
)
def test_numbers_are_read_with_their_separators_and_unit(
    tmp_path: Path, cells: list[str], unit: str, expected: float
) -> None:
    source = csv_file(tmp_path, "Thing,Amount", *(f'{number},"{cell}"' for number, cell in enumerate(cells)))
    [table] = tables_for(source, "amount")
    assert (table["columns"][1]["kind"], table["columns"][1]["unit"]) == ("number", unit)
    assert total(source, 1) == pytest.approx(expected)


@pytest.mark.parametrize(
    "cells",
    [
        ["1,200 kr", "300 EUR"],
        ["12 kg", "300"],
        ["1.200", "3.400"],
        ["1,200.5", "1.200,5"],
        ["007", "012"],
        ["12", "twelve"],
        ["1.2.3", "2.0.1"],
        ["12345678901234567890", "1"],
        ["40 1234 567", "3"],
    ],
)
def test_ambiguous_numbers_are_read_as_text(tmp_path: Path, cells: list[str]) -> None:
    source = workbook(tmp_path, [["Thing", "Amount"], *([f"t{n}", cell] for n, cell in enumerate(cells))])
    [table] = tables_for(source, "amount")
    assert table["columns"][1]["kind"] == "text"


def test_where_semicolons_separate_cells_a_comma_may_separate_decimals(tmp_path: Path) -> None:
    [table] = tables_for(csv_file(tmp_path, "Thing;Weight", "a;1,200", "b;2,400"), "weight")
    assert table["columns"][1]["kind"] == "text"
    [table] = tables_for(csv_file(tmp_path, "Thing;Weight in kg", "a;1,25", "b;2,400"), "weight")
    assert table["columns"][1]["kind"] == "number"


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["2024-03-05", "2024-11-30"], "2024-03-05"),
        (["2024/3/5", "2024/11/30"], "2024-03-05"),
        (["5.3.2024", "30.11.2024"], "2024-03-05"),
        (["05/03/2024", "30/11/2024"], "2024-03-05"),
        (["03/05/2024", "11/30/2024"], "2024-03-05"),
        (["5 March 2024", "30 Nov 2024"], "2024-03-05"),
        (["March 5, 2024", "November 30th, 2024"], "2024-03-05"),
        (["2024年3月5日", "2024年11月30日"], "2024-03-05"),
        (["2024-03-05 08:30", "2024-11-30T10:00:00Z"], "2024-03-05 08:30:00"),
    ],
)
def test_dates_are_read_in_common_forms(tmp_path: Path, cells: list[str], first: str) -> None:
    source = workbook(tmp_path, [["Thing", "Day"], *([f"t{n}", cell] for n, cell in enumerate(cells))])
    [table] = tables_for(source, "day")
    assert table["columns"][1]["kind"] == "date"
    answer = query_result(source, {**SUM, "aggregate": "min", "sheet": "Sheet", "column": 1})
    assert answer["value"] == first


@pytest.mark.parametrize(
    "cells", [["03/04/2024", "05/06/2024"], ["31.02.2024", "1.1.2024"], ["3/24", "4/24"]]
)
def test_ambiguous_dates_are_read_as_text(tmp_path: Path, cells: list[str]) -> None:
    [table] = tables_for(csv_file(tmp_path, "Thing,Day", *(f"t,{cell}" for cell in cells)), "day")
    assert table["columns"][1]["kind"] == "text"


def test_a_header_may_have_a_title_two_rows_and_merged_cells(tmp_path: Path) -> None:
    rows = [
        ["Sales of the year", None, None, None],
        ["Order", "Customer", None, "Amount (kr)"],
        [None, "Name", "City", None],
        ["A-1", "Ada", "Oslo", 10],
        ["A-2", "Bo", None, 20.5],
        ["Total", None, None, 30.5],
        ["Source: the till", None, None, None],
    ]
    source = workbook(tmp_path, rows, ["A1:D1", "A2:A3", "B2:C2", "D2:D3", "C4:C5"])
    [table] = tables_for(source, "how much in oslo?")
    assert [column["name"] for column in table["columns"]] == [
        "Order",
        "Customer Name",
        "Customer City",
        "Amount",
    ]
    assert (table["title"], table["row_count"]) == ("Sales of the year", 2)
    assert table["columns"][3]["unit"] == "kr"
    assert table["columns"][2]["mentions"] == ({"words": "oslo", "spellings": ("Oslo",)},)
    in_oslo = [{"column": 2, "comparison": "eq", "values": ["Oslo"]}]
    answer = query_result(source, {**SUM, "sheet": "Sheet", "column": 3, "conditions": in_oslo})
    assert (answer["value"], answer["valued_rows"], answer["total_rows"]) == (30.5, 2, 2)
    assert [place["cell"] for _text, place in answer["rows"]] == ["D4", "D5"]


@pytest.mark.parametrize(
    ("lines", "row_count"),
    [
        (("Region,2023,2024", "North,1,2", "South,3,5", "Total,4,7"), 2),
        (("Region,Rate,2024", "North,10 %,2", "South,30 %,5", "Grand total,25 %,7"), 2),
        (("Region,2024", "North,1.25", "South,2.50", "Gesamtsumme,3.75"), 2),
        (("地区,金额", "北,1200", "南,300", "合計,1500"), 2),
        (("Region;2024", "North;1.234,50", "South;2.000,25", "Summe;3.234,75"), 2),
        (("Region,2024", "All,7", "Average,3.5", "North,2", "South,5", "Total,7"), 3),
        (
            (
                "Region,City,2024",
                "N,A,1",
                "N,B,2",
                "N,Subtotal,3",
                "S,C,4",
                "S,D,5",
                "S,Subtotal,9",
                "All,Total,12",
            ),
            4,
        ),
        (("Region,2024", "Total,7", "North,2", "South,5"), 2),
        (("Firm,Stations", "Shell,20", "Total,14", "Esso,3"), 3),
        (("Measure,Value", "Count,15", "Total,15"), 2),
    ],
)
def test_a_row_that_sums_up_the_others_is_no_row_of_the_table(
    tmp_path: Path, lines: tuple[str, ...], row_count: int
) -> None:
    [table] = tables_for(csv_file(tmp_path, *lines), "total")
    assert table["row_count"] == row_count


@pytest.mark.parametrize(
    "lines",
    [
        ("1,2", "3,4"),
        ("Name,Fee", "Ada,3", "", "Street,House", "Elm,9"),
        ("Name,Fee,,Street,House", "Ada,3,,Elm,9"),
        ("Only one column", "1", "2"),
        ("Name,Fee",),
    ],
)
def test_rows_without_one_clear_header_are_no_table(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert tables_for(csv_file(tmp_path, *lines), "fee") == []


def test_numbers_with_a_format_stay_numbers_and_codes_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    rows: list[list[str | float | None]] = [
        ["Town", "Postcode", "Fee"],
        ["Dresden", 1067, 0.075],
        ["Riesa", 1587, 0.05],
    ]
    formats = {"B2": "00000", "B3": "00000", "C2": "0.0%", "C3": "0.0%"}
    path.write_bytes(sheets({"Sheet": rows}, formats=formats))
    source = SourceDocument("table.xlsx", path)
    [table] = tables_for(source, "fee in 01067")
    assert [column["kind"] for column in table["columns"]] == ["text", "text", "number"]
    assert table["columns"][1]["mentions"] == ({"words": "01067", "spellings": ("01067",)},)
    assert total(source, 2, "Sheet") == pytest.approx(0.125)
    answer = query_result(source, {**SUM, "aggregate": "max", "sheet": "Sheet", "column": 2})
    assert [row_text for row_text, _place in answer["rows"]] == [
        "Town | Postcode | Fee\nDresden | 01067 | 7.5%"
    ]


def test_hidden_cells_are_not_computed_with(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    data = sheets({"Sheet": [["Thing", "Cost", "Fee"], ["a", 1, 4], ["b", 2, 5], ["c", 3, 6]]})
    columns = '<cols><col min="2" max="2" hidden="1"/></cols><sheetData>'
    data = rewritten(data, "*sheet1.xml", "<sheetData>", columns)
    path.write_bytes(rewritten(data, "*sheet1.xml", '<row r="3"', '<row r="3" hidden="1"'))
    source = SourceDocument("table.xlsx", path)
    [table] = tables_for(source, "fee")
    assert [column["name"] for column in table["columns"]] == ["Thing", "Fee"]
    answer = query_result(source, {**SUM, "sheet": "Sheet", "column": 1})
    assert (answer["value"], [place["cell"] for _text, place in answer["rows"]]) == (10, ["C2", "C4"])


def test_a_formula_without_a_value_makes_its_column_a_text(tmp_path: Path) -> None:
    source = workbook(tmp_path, [["Thing", "Price", "Tax"], ["a", 4, "=B2*0.2"], ["b", 5, 1]])
    [table] = tables_for(source, "tax")
    assert [column["kind"] for column in table["columns"]] == ["text", "number", "text"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("from norway", ["norway"]),
        ("norwayfarers", []),
        ("how many desk lamps", ["desk lamps"]),
        ("来自挪威的订单", ["挪威"]),
        ("來自new zealand的", ["new zealand"]),
        ("in new  york", []),
    ],
)
def test_a_question_mentions_a_value_only_as_a_whole_word(
    tmp_path: Path, question: str, words: list[str]
) -> None:
    source = csv_file(
        tmp_path, "Thing,Fee", "Norway,1", "Desk lamp,2", "挪威,3", "New Zealand,4", "New York,5"
    )
    [table] = tables_for(source, question)
    assert [mention["words"] for mention in table["columns"][0]["mentions"]] == words


def test_a_sum_has_no_rounding_errors(tmp_path: Path) -> None:
    source = csv_file(tmp_path, "Thing,Fee", *(f"t{number},0.1" for number in range(1_000)))
    assert total(source, 1) == 100.0
