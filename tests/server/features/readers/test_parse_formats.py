"""Slides, spreadsheets, notebooks, books, mail, subtitles, XML, and sections of plain text."""

import io
import json
import re
import zipfile
from datetime import date, datetime
from pathlib import Path

import pytest
from tests.server.features.readers import documents, office
from tests.server.features.readers.reading import Reading, stand_in_one_text

from portico.wire import Place
from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.formats import is_document
from portico_server.features.readers.number_formats import format_cell, format_number
from portico_server.features.readers.sheet_details import letters
from portico_server.features.readers.text import read as read_text

# --- office ------------------------------------------------------------------------------------------------------


async def test_slides_come_in_the_order_they_are_shown_with_their_notes(read: Reading) -> None:
    data = office.slides(
        ("Fees", "A berth costs 40 crowns.\nPay at the gate.", "Mention the discount."),
        ("价目", "帆船每晚四十克朗。", ""),
        table=[["Boat", "Fee"], ["Dinghy", "15"]],
    )
    first, second = await read("talk.pptx", data)
    assert first.text == (
        "Fees\nA berth costs 40 crowns.\nPay at the gate.\nBoat | Fee\nDinghy | 15\n\nNotes: Mention the discount."
    )
    assert (first.place.page, first.place.heading) == (1, ("Fees",))
    assert (second.text, second.place.page) == ("价目\n帆船每晚四十克朗。", 2)
    assert stand_in_one_text([first, second])


async def test_an_opendocument_text_has_sections_lists_tables_and_notes(read: Reading) -> None:
    body = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:p>Welcome  to\nthe<text:s text:c='2'/>"
        "port.</text:p><text:section><text:h text:outline-level='1'>Fees</text:h><text:list><text:list-item><text:p>A "
        "<text:span>berth</text:span><text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>per "
        "night</text:p></text:note-body></text:note></text:p></text:list-item></text:list></text:section>"
        "<text:h text:outline-level='2'>价目</text:h><table:table><table:table-row><table:table-cell><text:p>Dinghy"
        "</text:p></table:table-cell><table:table-cell><text:p>15</text:p></table:table-cell></table:table-row>"
        "</table:table>"
    )
    parts = await read("fees.odt", office.opendocument(body, title="Ports"))
    assert [(part.place.heading, part.text) for part in parts] == [
        (("Ports",), "Welcome to the  port."),
        (("Ports", "Fees"), "Fees\n\n- A berth[1]\n[1] per night"),
        (("Ports", "Fees", "价目"), "价目\n\nDinghy | 15"),
    ]
    assert stand_in_one_text(parts)
    with pytest.raises(Unreadable, match="protected by a password"):
        await read("fees.odt", office.opendocument(body, locked=True))
    with pytest.raises(Unreadable, match="no text"):
        await read("fees.odt", office.opendocument(""))


async def test_slides_of_an_opendocument_presentation_have_their_notes(read: Reading) -> None:
    def slide(title: str, text: str, notes: str) -> str:
        return (
            f"<draw:page><draw:frame presentation:class='title'><draw:text-box><text:p>{title}</text:p></draw:text-box>"
            f"</draw:frame><draw:frame><draw:text-box><text:list><text:list-item><text:p>{text}</text:p>"
            "</text:list-item></text:list></draw:text-box></draw:frame><presentation:notes><draw:frame><draw:text-box>"
            f"<text:p>{notes}</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
        )

    body = slide("Fees", "Forty crowns", "Smile.") + slide("End", "Thanks", "")
    slides = await read("talk.odp", office.opendocument(body, "presentation"))
    assert [(part.place.page, part.place.heading, part.text) for part in slides] == [
        (1, ("Fees",), "Fees\n- Forty crowns\n\nNotes: Smile."),
        (2, ("End",), "End\n- Thanks"),
    ]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_formula_on_a_slide_is_text_once(read: Reading, whole: bool) -> None:
    mean = "<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
    shapes = office.formula_shape(mean, whole=whole)
    (part,) = await read("talk.pptx", office.slides(("Means", "Two numbers", ""), shapes=shapes))
    end = "" if whole else " exactly."
    assert part.text == f"Means\nTwo numbers\nThe mean is (a+b)/2{end}"


async def test_a_formula_without_a_value_is_shown_as_it_is_written(read: Reading) -> None:
    data = office.sheets({"Fees": [["Boat", "Fee"], ["Dinghy", 15], ["Sum", "=SUM(B2:B2)"]]})
    (part,) = await read("fees.xlsx", data)
    assert part.text == "Boat | Fee\nDinghy | 15\nSum | =SUM(B2:B2)"


@pytest.mark.parametrize(("quarters", "rotate"), [(0, 0), (1, 1), (2, 2), (3, 3), (1, 0), (0, 3)])
async def test_columns_of_a_page_are_read_one_after_the_other(
    read: Reading, quarters: int, rotate: int
) -> None:
    left_lines = [f"The keeper of lighthouse {number} counts ships" for number in range(6)]
    right = [f"In winter {number} the harbour freezes over" for number in range(6)]
    pieces = [(60, 540, "A study of keepers and of all that they have seen from the towers of the north")]
    for number, (left_line, right_line) in enumerate(zip(left_lines, right, strict=True)):
        pieces += [(60, 500 - 14 * number, left_line), (330, 500 - 14 * number, right_line)]
    (part,) = await read("study.pdf", documents.laid_out(pieces, quarters=quarters, rotate=rotate))
    assert [line.strip() for line in part.text.split("\n")] == [pieces[0][2], *left_lines, *right]
    rows = [
        (x, 500 - 14 * n, text) for n in range(9) for x, text in ((60, f"Crane {n}"), (330, f"{n} tonnes"))
    ]
    (part,) = await read("table.pdf", documents.laid_out(rows, quarters=quarters, rotate=rotate))
    assert "Crane 3 3 tonnes" in part.text, "a table is read row by row"


async def test_rows_of_a_spreadsheet_know_their_sheet_and_cells(read: Reading) -> None:
    rows: list[list[str | float | None]] = [
        ["Boat", "Fee"],
        *([f"boat {i} of many words" * 3, i + 0.5] for i in range(60)),
    ]
    parts = await read("fees.xlsx", office.sheets({"Fees": rows, "说明": [["只有标题"]]}))
    assert len(parts) > 3
    assert all(part.text.startswith("Boat | Fee\n") for part in parts[:-1])
    first, second = parts[:2]
    assert (first.place.sheet, first.place.row) == ("Fees", 2)
    assert first.place.cell == f"A2:B{(second.place.row or 0) - 1}"
    assert f"boat {(second.place.row or 0) - 2} of" in second.text.split("\n")[1]
    assert second.text.split("\n")[1].endswith(f"| {(second.place.row or 0) - 2}.5")
    assert (parts[-1].text, parts[-1].place.label()) == ("只有标题", "说明 A1:A1")
    assert stand_in_one_text(parts)


async def test_a_table_that_begins_in_the_middle_of_a_sheet_keeps_its_cells(read: Reading) -> None:
    rows: list[list[str | float | None]] = [["Boat", "Fee"], ["Dinghy", 15], [None, None], ["Ferry", 90]]
    parts = await read("fees.xlsx", office.sheets({"S": rows}, corner=(4, 2)))
    assert [(part.text, part.place.cell, part.place.row) for part in parts] == [
        ("Boat | Fee\nDinghy | 15", "C6:D6", 6),
        ("Boat | Fee\nFerry | 90", "C8:D8", 8),
    ]


@pytest.mark.parametrize(
    ("second_rows", "texts", "heading"),
    [
        ([["Pilot", "Trips"], ["Ada", 7]], ["Boat | Fee\nDinghy | 15", "Pilot | Trips\nAda | 7"], ()),
        (
            [["Pilots", None], ["Pilot", "Trips"], ["Ada", 7], [None, None], ["Ben", 8]],
            ["Boat | Fee\nDinghy | 15", "Pilots", "Pilot | Trips\nAda | 7", "Pilot | Trips\nBen | 8"],
            ("Pilots",),
        ),
        ([["Ferry", "free"], ["Raft", "-"]], ["Boat | Fee\nDinghy | 15", "Boat | Fee\nFerry | free\nRaft | -"], ()),
        ([["Source", "Port"]], ["Boat | Fee\nDinghy | 15", "Boat | Fee\nSource | Port"], ()),
        ([["Ferry", 90], ["Raft", 3]], ["Boat | Fee\nDinghy | 15", "Boat | Fee\nFerry | 90\nRaft | 3"], ()),
    ],
)  # fmt: skip
async def test_a_second_table_of_a_sheet_has_its_own_header(
    read: Reading,
    second_rows: list[list[str | float | None]],
    texts: list[str],
    heading: tuple[str, ...],
) -> None:
    rows: list[list[str | float | None]] = [["Boat", "Fee"], ["Dinghy", 15], [None, None], *second_rows]
    parts = await read("fees.xlsx", office.sheets({"S": rows}))
    assert [part.text for part in parts] == texts
    assert parts[-1].place.heading == heading
    assert stand_in_one_text(parts)


@pytest.mark.parametrize(
    ("number_format", "value", "shown_text"),
    [
        ("0.0%", 0.075, "7.5%"),
        ("0 %", -0.12, "-12 %"),
        ('0"%"', 12, "12%"),
        ("00000", 1067, "01067"),
        ("[h]:mm", 1.5625, "37:30"),
        ("[h]:mm:ss", 1.5625, "37:30:00"),
        ('[h]" h "mm', 1.5625, "37 h 30"),
        ("[mm]:ss", 0.03125, "45:00"),
        ('"$"#,##0.00', 1234.5, "$1,234.50"),
        ("[$$-409]#,##0.00", 1234567.891, "$1,234,567.89"),
        ("#,##0.00 [$€-407]", -1234.5, "-1,234.50 €"),
        ("[$EUR] #,##0", 1200, "EUR 1,200"),
        ('0.0" kg"', 12.5, "12.5 kg"),
        ("0.00\\ \\m", 2.675, "2.68 m"),
        ('0"件"', 3, "3件"),
        ("#,##0;(#,##0)", -2500, "(2,500)"),
        ("#,##0_);[Red](#,##0)", -2500, "(2,500)"),
        ('_(* #,##0.00_);_(* \\(#,##0.00\\);_(* "-"??_);_(@_)', -2500, "(2,500.00)"),
        ('_(* #,##0.00_);_(* \\(#,##0.00\\);_(* "-"??_);_(@_)', 0, "-"),
        ("0.00", -0.001, "0.00"),
        ("0.0,,", 1234567, "1.2"),
        ("000-00-0000", 123456789, "123-45-6789"),
        ("(000) 000-0000", 5551234567, "(555) 123-4567"),
        ("# ?/?", 1.25, "1 1/4"),
        ("# ?/8", 1.5, "1 4/8"),
        ("0.00E+00", 123456, "1.23E+05"),
        ('General" m"', -0.5, "-0.5 m"),
        ("yyyy-mm-dd", 46096, "2026-03-15"),
        ("dd/mm/yyyy", 46096, "2026-03-15"),
        ("[$-804]aaaa", 46096, "星期日"),
        ("[$-C07]dddd", 46096, "Sonntag"),
        ("mmm", 46096, "Mar"),
        ("aaaa", 1e9, "1000000000"),
        ("mm:ss.0", 75.44 / 86400, "00:01:15.4"),
        ("h:mm:ss", 75.7 / 86400, "00:01:16"),
        ("h:mm:ss.00", 86399.999 / 86400, "00:00:00.00"),
        ("yyyy-mm-dd h:mm:ss.00", 46096 + 75.44 / 86400, "2026-03-15 00:01:15.44"),
        ("yyyy-mm-dd h:mm", 46096.999999, "2026-03-16 00:00"),
        ("yyyy-mm-dd", 46096.6, "2026-03-15"),
        ("h:mm AM/PM", 46096.75, "18:00"),
        ("mm/yyyy", 46096, "2026-03"),
        ("yyyy", 46096.5, "2026"),
        ("[mm]:ss.0", 75.44 / 86400, "01:15.4"),
        ("[h]:mm:ss.000", 1.5 + 75.44 / 86400, "36:01:15.440"),
        ("[<10]0.0;0", 7, "7.0"),
        ("[<10]0.0;0", -12, "-12.0"),
        ("[<10]0.0;0", 12.4, "12"),
        ('[>=1000000]0.0,,"M";[>=1000]0.0,"K";0', 1250000, "1.3M"),
        ('[=1]0" day";0" days"', 1, "1 day"),
        ("[>=100000]##\\,##\\,##0;##,##0", 1234567, "12,34,567"),
        ("[<-5]0;[>5]0", 1, "1"),
        ("[Green]#,##0;[Red][<-2](#,##0.00)", -5, "(5.00)"),
        ("[Green]#,##0.0;[Red][<-2](#,##0.00)", 5, "5.0"),
        ("[Green]#,##0.0;[Red][<-2](#,##0.00)", -1, "-1"),  # Excel shows ####
        ("[Red]0.00;[>5][Blue]0.0", 7, "7.00"),
        ("0.0;[=-10]0.00;000", -10, "10.00"),
        ("0.0;[=-10]0.00;000", -1, "-001"),
        ("0.0;[=-10]0.00;000", 0, "000"),
        ("[>=-1]0;0", -2, "2"),
        ("[>=-1]0;0", -1, "-1"),
        ("[>=-1]0;0", 0, "0"),
        ("[>=-1]0;0", 3, "3"),
        ("[>=1]0;00", -2, "-02"),
        ("[>=0]0;00", -2, "02"),
        ("[=0]?;#,##0.00", -12.3, "-12.30"),
        ("[<-6]0;0.0", -5, "5.0"),
        ('[>=1000000]#,," M";####.00', -12.3, "-12.30"),
        ("[>=5]0;00;000", 4, "004"),
        ("[>=5]0;00;000", -1, "01"),
        ("[Red][<=-25]General;[Blue][>=25]General;[Green]General;[Yellow]General", -25, "25"),
        ("[Red][<=-25]General;[Blue][>=25]General;[Green]General;[Yellow]General", -1, "-1"),
        ("[Red][<=0]General;[Blue][>=25]General;[Green]General;[Yellow]General", -25, "-25"),
        ("[=-5]0.0;0", -5, "5.0"),
        ("[<>-6]0.0;0", -5, "-5.0"),
        ('[>=1000]0,"K";0.0;@', -5, "-5.0"),
        ("0.00;@", -5, "-5.00"),
        ("#'##0.00", 1234.5, "1'234.50"),
        ("##0.0E+0", 12345, "12.3E+3"),
        (";;;", 7, ""),
        ('@" kg"', "ten", "ten kg"),
        ('0.0;-0.0;0;"(" @ ")"', "ten", "( ten )"),
        (";;;", "ten", ""),
        ("0.0", "ten", "ten"),
        ("0." + "0" * 100, 1.5, "1.5"),
        ("0" * 1000, 1.5, "1.5"),
        ("0.00", 1e300, "1E+300"),
    ],
)
async def test_a_cell_of_a_spreadsheet_reads_as_it_shows(
    read: Reading, number_format: str, value: float | str, shown_text: str
) -> None:
    data = office.sheets({"S": [["Item", "Value"], ["x", value]]}, formats={"B2": number_format})
    [part] = await read("values.xlsx", data)
    assert part.text == f"Item | Value\nx | {shown_text}"


@pytest.mark.parametrize(
    ("text", "replacement", "cells"),
    [
        (
            "<sheetData>",
            '<sheetViews><sheetView showZeros="0"/></sheetViews><sheetData>',
            "Depot | Trucks\nAlder | 12\nBirch |",
        ),
        (
            "<sheetData>",
            '<cols><col min="2" max="2" width="0"/></cols><sheetData>',
            "Depot\nAlder\nBirch",
        ),
        ('<row r="2"', '<row r="2" ht="0"', "Depot | Trucks\nBirch | 0"),
    ],
)
async def test_zeros_and_cells_that_a_sheet_hides_are_not_read(
    read: Reading, text: str, replacement: str, cells: str
) -> None:
    data = office.sheets({"S": [["Depot", "Trucks"], ["Alder", 12], ["Birch", 0]]})
    sheet, *_ = await read("depots.xlsx", office.rewritten(data, "*sheet1.xml", text, replacement))
    assert sheet.text.rstrip() == cells


async def test_errors_and_notes_of_cells_are_read(read: Reading) -> None:
    data = office.sheets({"S": [["Depot", "Trucks"], ["Alder", 12], ["Birch", 0]]})
    data = office.rewritten(data, "*sheet1.xml", r'<c r="B3"><v>0', '<c r="B3" t="e"><v>#DIV/0!')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/comments"
    notes = {
        "xl/comments1.xml": f'<comments xmlns="{main}"><commentList><comment ref="B2"><text><r><t>two are in </t></r>'
        "<r><t>repair</t></r></text></comment></commentList></comments>",
        "xl/worksheets/_rels/sheet1.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'relationships"><Relationship Id="r1" Type="{relation}" Target="../comments1.xml"/></Relationships>',
    }
    [part] = await read("depots.xlsx", office.extended(data, notes))
    assert part.text == "Depot | Trucks\nAlder | 12 (note: two are in repair)\nBirch | #DIV/0!"


def _ods_cell(text: str, value: str = "", attributes: str = "") -> str:
    kind = f"office:value-type='float' office:value='{value}'" if value else "office:value-type='string'"
    return f"<table:table-cell {kind} {attributes}><text:p>{text}</text:p></table:table-cell>"


@pytest.mark.parametrize(
    ("attributes", "shown_text", "read_text"),
    [
        ("time' office:time-value='PT37H30M00S", "37:30", "37:30"),
        ("time' office:time-value='PT24H00M00S", "24:00", "24:00"),
        ("time' office:time-value='PT17H45M00S", "5.45 PM", "17:45:00"),
        ("date' office:date-value='2026-03-15", "15. März 2026", "15. März 2026"),
        ("date' office:date-value='2026-03-15", "二〇二六年三月十五日", "二〇二六年三月十五日"),
        ("date' office:date-value='2026-03-15", "03/15/26", "2026-03-15"),
        ("date' office:date-value='2026-03-15T14:30:00", "3/15/26", "2026-03-15"),
        ("date' office:date-value='2026-03-15T14:30:00", "3/15/26 2:30 PM", "2026-03-15 14:30:00"),
        ("date' office:date-value='2026-03-15T14:30:00", "2:30 PM", "2:30 PM"),
        ("date' office:date-value='2026-03-15", "2026", "2026"),
        ("date' office:date-value='2026-03-15", "Sonntag", "Sonntag"),
        ("date' office:date-value='2026-03-15", "星期日", "星期日"),
        ("percentage' office:value='0.625", "", "62.5%"),
        ("percentage' office:value='0.07", "7,0 %", "7,0 %"),
        ("percentage' office:value='0.07", "", "7%"),
        ("float' office:value='0.30000000000000004", "", "0.3"),
        ("float' office:value='0.30000000000000004", "0.30000000000000004", "0.3"),
        ("float' office:value='0.333333333333333315", "0.3333333333333333", "0.3333333333333333"),
        ("float' office:value='123456789012.345", "", "123456789012.345"),
        ("float", "", ""),
    ],
)
async def test_a_value_in_an_opendocument_sheet_reads_as_it_shows(
    read: Reading, attributes: str, shown_text: str, read_text: str
) -> None:
    text = f"<text:p>{shown_text}</text:p>" if shown_text else ""
    cell = f"<table:table-cell office:value-type='{attributes}'>{text}</table:table-cell>"
    row = f"<table:table-row>{_ods_cell('Shift')}{cell}</table:table-row>"
    body = f"<table:table table:name='Hours'>{row}</table:table>"
    [part] = await read("hours.ods", office.opendocument(body, "spreadsheet"))
    assert part.text == f"Shift | {read_text}".rstrip(" |")


async def test_an_opendocument_sheet_reads_as_it_shows(read: Reading) -> None:
    columns = "<table:table-column table:number-columns-repeated='2'/>"
    hidden_columns = f"{columns}<table:table-column table:visibility='collapse'/>"
    lines = [
        _ods_cell("Group") + _ods_cell("Share") + _ods_cell("Code"),
        _ods_cell("Red", attributes="table:number-rows-spanned='2'")
        + _ods_cell("7,5 %", "0.075")
        + _ods_cell("x"),
        "<table:covered-table-cell/>" + _ods_cell("12,50 EUR", "12.5") + _ods_cell("y"),
        _ods_cell("Blue") + _ods_cell("3", "3", "table:number-columns-repeated='2'"),
    ]
    visibilities = ("visible", "visible", "filter", "collapse")
    rows = "".join(
        f"<table:table-row table:visibility='{visibility}'>{line}</table:table-row>"
        for visibility, line in zip(visibilities, lines, strict=True)
    )
    end = "<table:table-row table:number-rows-repeated='1000000'><table:table-cell/></table:table-row>"
    body = f"<table:table table:name='T'>{hidden_columns}{rows}{end}</table:table>"
    part, unread = await read("shares.ods", office.opendocument(body, "spreadsheet"))
    assert (part.text, part.place.cell) == ("Group | Share\nRed | 7,5 %\nRed | 12,50 EUR", "A2:B3")
    assert unread.text == "Not read:\nshares.ods: 1 hidden row, 1 hidden column"


@pytest.mark.parametrize(
    ("rows", "cell_ranges", "titles", "text"),
    [
        (
            [["Department", "Person"], ["Purchasing", "Ada"], [None, "Ben"], [None, "Cy"], ["Quality", "Di"]],
            ["A2:A4"],
            (),
            "Department | Person\nPurchasing | Ada\nPurchasing | Ben\nPurchasing | Cy\nQuality | Di",
        ),
        (
            [
                ["Revenue by region", None, None, None, None],
                ["Region", 2024, None, 2025, None],
                [None, "First half", "Second half", "First half", "Second half"],
                ["North", 411, 422, 433, 444],
            ],
            ["A1:E1", "B2:C2", "A2:A3", "D2:E2"],
            ("Revenue by region",),
            "Region | 2024 First half | 2024 Second half | 2025 First half | 2025 Second half\n"
            "North | 411 | 422 | 433 | 444",
        ),
        (
            [["Fees"], [None], ["Boat", "Fee"], ["Dinghy", 15]],
            [],
            ("Fees",),
            "Boat | Fee\nDinghy | 15",
        ),
        (
            [["Boat", "Fee", None], ["Dinghy", 15, 16], ["Ferry", 90, 91]],
            ["B1:C1"],
            (),
            "Boat | Fee | \nDinghy | 15 | 16\nFerry | 90 | 91",
        ),
        ([["15", None], ["Dinghy", 15]], ["A1:B1"], (), "15 | \nDinghy | 15"),
        (
            [
                ["Boat", "Fee", "covered"],
                ["Dinghy", 15, 16],
                ["covered", 90, 91],
                ["Ferry", "free", "covered"],
            ],
            ["B1:C1", "A2:A3", "B4:C4"],
            (),
            "Boat | Fee | \nDinghy | 15 | 16\nDinghy | 90 | 91\nFerry | free | ",
        ),
        (
            [["Boat", "Fee"], ["Dinghy", 15], ["Ferry", 90]],
            ["A2:B2", "A2:B3", "A2:B9"],
            (),
            "Boat | Fee\nDinghy | \nDinghy | ",
        ),
    ],
)
async def test_merged_cells_name_all_their_rows_and_columns(
    read: Reading,
    rows: list[list[str | float | None]],
    cell_ranges: list[str],
    titles: tuple[str, ...],
    text: str,
) -> None:
    *title_parts, part = await read("staff.xlsx", office.sheets({"S": rows}, merged={"S": cell_ranges}))
    assert tuple(title.text for title in title_parts) == part.place.heading == titles
    assert part.text == text
    assert stand_in_one_text([*title_parts, part])


async def test_hidden_sheets_rows_and_columns_are_skipped_and_counted(read: Reading) -> None:
    rows: list[list[str | float | None]] = [
        ["Boat", "Cost", "Fee"],
        *([f"boat {n}", n, n] for n in range(2, 7)),
    ]
    data = office.sheets({"Fees": rows, "Codes": [["Door", "Code"], ["rear", 7731]]})
    data = office.rewritten(data, "*workbook.xml", 'name="Codes"', 'name="Codes" state="hidden"')
    data = office.rewritten(
        data, "*sheet1.xml", "<sheetData>", '<cols><col min="2" max="2" hidden="1"/></cols><sheetData>'
    )
    data = office.rewritten(data, "*sheet1.xml", r'<row r="([46])"', r'<row hidden="1" r="\1"')
    part, last_part, unread = await read("fees.xlsx", data)
    assert (part.text, part.place.cell) == ("Boat | Fee\nboat 2 | 2\nboat 3 | 3", "A2:C3")
    assert (last_part.text, last_part.place.cell) == ("Boat | Fee\nboat 5 | 5", "A5:C5")
    assert unread.text == "Not read:\nfees.xlsx: 1 hidden sheet, 2 hidden rows, 1 hidden column"


@pytest.mark.parametrize(
    ("row_attributes", "sheet_end"),
    [
        ("", '<autoFilter ref="A1:B9"><filterColumn colId="0"><filters/></filterColumn></autoFilter>'),
        ('outlineLevel="1"', ""),
    ],
)
async def test_rows_of_a_filter_or_a_collapsed_group_are_read(
    read: Reading, row_attributes: str, sheet_end: str
) -> None:
    data = office.sheets({"Fees": [["Boat", "Fee"], ["Dinghy", 15], ["Ferry", 90]]})
    data = office.rewritten(data, "*sheet1.xml", '<row r="3"', f'<row r="3" hidden="1" {row_attributes}')
    data = office.rewritten(data, "*sheet1.xml", "</sheetData>", f"</sheetData>{sheet_end}")
    [part] = await read("fees.xlsx", data)
    assert part.text == "Boat | Fee\nDinghy | 15\nFerry | 90"


async def test_rows_split_into_smaller_chunks_keep_their_cell_ranges(read: Reading) -> None:
    rows: list[list[str | float | None]] = [["Boat", "Fee"], *([f"boat {i}", i] for i in range(20))]
    parts = await read(
        "fees.xlsx", office.sheets({"S": rows}), {"type": "records", "size": 100, "overlap": 0}
    )
    assert [(part.text, part.place.cell) for part in parts[3:5]] == [
        ("Boat | Fee\nboat 3 | 3", "A5:B5"),
        ("Boat | Fee\nboat 4 | 4", "A6:B6"),
    ]


def test_cells_are_shown_as_people_see_them() -> None:
    assert [format_cell(value) for value in (15.0, 0.1 + 0.2, True, " a\n b ", 1e20)] == [
        "15",
        "0.3",
        "TRUE",
        "a b",
        "1E+20",
    ]
    assert [letters(i) for i in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]


@pytest.mark.parametrize(
    ("cell", "code", "text"),
    [
        (date(2026, 3, 5), "d mmmm yyyy", "5 March 2026"),
        (date(2026, 3, 5), "[$-407]dddd, d. mmm yy;@", "Donnerstag, 5. Mär 26"),
        (date(2026, 3, 5), 'yyyy"年"m"月"d"日"', "2026年3月5日"),
        (date(2026, 3, 5), "[$-804]aaaa", "星期四"),
        (datetime(2026, 3, 5, 15, 4), "ddd d-mmm h:mm AM/PM", "Thu 5-Mar 3:04 PM"),
        (datetime(2026, 3, 5, 15, 4, 9), "mmm d, hh:mm:ss", "Mar 5, 15:04:09"),
        (46086, "[$-804]aaaa;@", "星期四"),
        (date(2026, 3, 5), "dd/mm/yyyy", "2026-03-05"),
        (date(2026, 3, 5), "[$-419]d mmmm", "2026-03-05"),
        (5, '0"日"', "5日"),
        (5, '0 "hammmer"', "5 hammmer"),
    ],
)
def test_dates_with_names_read_as_they_show(cell: object, code: str, text: str | None) -> None:
    assert format_number(cell, code) == text


async def test_cells_of_a_notebook_are_numbered_below_their_headings(read: Reading) -> None:
    data = office.notebook(
        ("markdown", "# Tides\n\nHigh at six.", ""),
        ("code", "print('ebb')", "ebb\n"),
        ("code", "", ""),
        ("markdown", "## 潮汐", ""),
    )
    parts = await read("tides.ipynb", data)
    assert [(part.place.cell, part.place.heading) for part in parts] == [
        ("1", ("Tides",)),
        ("2", ("Tides",)),
        ("4", ("Tides", "潮汐")),
    ]
    assert parts[1].text == "```python\nprint('ebb')\n```\n\n```\nebb\n```"
    assert parts[1].place.label() == "cell 2 · Tides"


_HTML_OUTPUT = {"text/html": "<table><tr><td>Ystad<td>15</table>", "text/plain": "<Styler at 0x7f>"}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"output_type": "stream", "text": ["\x1b[1;31mebb\x1b[0m", " tide\n"]}, "ebb tide"),
        ({"output_type": "stream", "text": "1 of 3\r2 of 3\r\n3 of 3\r"}, "2 of 3\n3 of 3"),
        ({"output_type": "display_data", "data": _HTML_OUTPUT}, "Ystad | 15"),
        (
            {"output_type": "display_data", "data": {"text/html": "<script>x</script>", "text/plain": "ebb"}},
            "ebb",
        ),
        ({"output_type": "execute_result", "data": {"text/latex": "$h$", "text/plain": "<Math>"}}, "$h$"),
        ({"output_type": "display_data", "data": {"image/png": "iVBO", "text/plain": "<Figure 1>"}}, ""),
        ({"output_type": "error", "ename": "TideError", "evalue": "no water"}, "TideError: no water"),
        ({"output_type": "pyerr", "ename": "TideError", "evalue": "no water"}, "TideError: no water"),
        ({"output_type": "pyout", "text": "ebb", "html": "<b>flood</b>"}, "flood"),
    ],
)
async def test_the_output_of_a_cell_is_what_a_person_sees(read: Reading, output: object, text: str) -> None:
    cell = {"cell_type": "code", "source": "sail()", "outputs": [output]}
    [part] = await read("a.ipynb", json.dumps({"cells": [cell]}).encode())
    assert part.text.removeprefix("```\nsail()\n```").strip("`\n") == text


@pytest.mark.parametrize(
    "source",
    [
        "1\n00:00:05,250 --> 00:00:07,000\nThe tide\n2\n00:00:08 --> 00:00:09\n2026\n",
        "WEBVTT\n\n00:05.250 --> 00:07.000\nThe tide\n00:08.000 --> 00:09.000\n2026",
    ],
)
async def test_cues_need_no_empty_lines_between_them(read: Reading, source: str) -> None:
    passages = await read("a.srt", source.encode())
    assert [(passage.text, passage.place.seconds) for passage in passages] == [
        ("The tide", 5.25),
        ("2026", 8),
    ]


async def test_a_book_is_read_in_the_order_of_its_chapters(read: Reading) -> None:
    data = office.book(
        "The Lock",
        ["<h1>One</h1><p>It was <i>dark</i>.</p>", "<h1>第二章</h1><p>天亮了。<button>下一章</button></p>"],
    )
    parts = await read("lock.epub", data)
    assert [(part.place.heading, part.text) for part in parts] == [
        (("The Lock",), "The Lock, A. Writer"),
        (("The Lock", "One"), "One\n\nIt was dark."),
        (("The Lock", "第二章"), "第二章\n\n天亮了。 下一章"),
    ]
    assert stand_in_one_text(parts)


@pytest.mark.parametrize(
    "name", ["x.pptx", "x.xlsx", "x.ods", "x.epub", "x.ipynb", "x.zip", "x.tar.gz", "x.docx"]
)
@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 and then nothing", b"not at all", office.zipped({"a/b": "c"})[:40]],
    ids=["empty", "begun", "other", "half"],
)
async def test_damaged_files_are_refused_with_a_reason(read: Reading, name: str, data: bytes) -> None:
    with pytest.raises(Unreadable, match=r"is empty|damaged|is not a|missing"):
        await read(name, data)


@pytest.mark.parametrize("name", ["x.pptx", "x.xlsx", "x.epub", "x.zip", "x.docx"])
async def test_files_that_unpack_to_too_much_are_refused_before_unpacking(read: Reading, name: str) -> None:
    with pytest.raises(Unreadable, match="unpacks to 2861 MB"):
        await read(name, documents.bomb(3_000_000_000))


async def test_an_old_office_file_is_refused_with_conversion_advice(read: Reading) -> None:
    with pytest.raises(Unreadable, match=r"Save it as .pptx"):
        await read("old.pptx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))


# --- mail --------------------------------------------------------------------------------------------------------


async def test_a_mail_is_read_with_its_headers_and_attachments(read: Reading) -> None:
    data = office.mail(
        "Berth 七",
        "See the list.",
        ("list.csv", b"boat,fee\nDinghy,15\n"),
        ("photo.jpg", b"\xff\xd8\xff\x00" * 9),
    )
    body, attachment, unread = await read("berth.eml", data)
    assert body.text.startswith(
        "Subject: Berth 七\nFrom: Ann <ann@example.org>\nTo: bob@example.org\nDate: Fri, 20"
    )
    assert body.text.endswith("Attachment: list.csv\nAttachment: photo.jpg\n\nSee the list.")
    assert attachment.text == "boat | fee\nDinghy | 15"
    assert attachment.place.heading == ("Berth 七", "list.csv")
    assert unread.text.startswith("Not read:\nBerth 七 › photo.jpg is a damaged or truncated image")
    assert stand_in_one_text([body, attachment, unread])


async def test_html_is_read_to_its_end_or_refused(read: Reading) -> None:
    *_, last = await read("a.html", b"<p>" + b"tide " * 2_200_000 + b"<p>The end.")
    assert last.text.endswith("The end.")
    [part] = await read("a.html", b"<div>" * 2_000 + b"The end.")
    assert part.text == "The end."
    with pytest.raises(Unreadable, match="elements nest too deeply"):
        await read("a.html", b"<div>" * 3_000 + b"The end.")


async def test_a_mail_in_html_gives_its_text(read: Reading) -> None:
    [body] = await read("page.eml", office.mail("Hi", "", html="<p>Dear <b>Bob</b></p><script>x()</script>"))
    assert body.text.endswith("Dear Bob")


async def test_mail_charsets_are_limited_to_document_encodings(read: Reading) -> None:
    head = (
        b"Subject: =?utf-8?B?w6k=?= =?iso-8859-1*fr?Q?_caf=E9?= =?punycode?q?abc-def?=\n"
        b"From: =?gb2312?B?uN/JvQ==?= <ann@example.org>\nTo: caf\xc3\xa9\n"
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n"
    )
    bodies = {"gb2312": "高山".encode("gb2312"), "punycode": b"tide-abc", "": "é".encode()}
    for charset, body in bodies.items():
        kind = f"Content-Type: text/plain; charset={charset}\n\n".encode()
        file = b"\n--x\nContent-Disposition: attachment; filename*=utf-8''%e9%ab%98.txt\n\nEbb.\n--x--\n"
        message, attachment = await read("a.eml", head + kind + body + file)
        assert message.text == (
            "Subject: é caféabc-def\nFrom: 高山 <ann@example.org>\nTo: café\nAttachment: 高.txt\n\n"
            + body.decode("gb2312" if charset == "gb2312" else "utf-8")
        )
        assert (attachment.text, attachment.place.heading) == ("Ebb.", ("é caféabc-def", "高.txt"))


async def test_each_mail_of_an_mbox_becomes_its_own_part(read: Reading) -> None:
    box = b"".join(
        b"From ann@example.org Fri Nov 20 10:00:00 2026\n"
        + office.mail(f"No. {i}", f"Text {i}\n>From here", *extra)
        + b"\n"
        for i, extra in enumerate([[("a.txt", b"attached words")], [], []])
    )
    parts = await read("all.mbox", box)
    assert [part.place.heading for part in parts] == [("No. 0",), ("No. 0", "a.txt"), ("No. 1",), ("No. 2",)]
    assert stand_in_one_text(parts)


# --- structured text ------------------------------------------------------------------------------------


VISIBLE: dict[str, tuple[str, str | bytes, str]] = {
    "ruby": (
        "a.html",
        "<p><ruby>図書館<rp>（</rp><rt>としょかん</rt><rp>）</rp></ruby>へ</p>",
        "図書館(としょかん)へ",
    ),
    "hidden elements": (
        "a.html",
        "<p hidden>no</p><p style='display: none'>no</p><p style='visibility:hidden'>no</p><template>no</template>"
        "<details><summary>Fees</summary>40 crowns</details>",
        "Fees\n\n40 crowns",
    ),
    "fields of a form": (
        "a.html",
        "<p>Name <input value='Ann'> <input type=hidden value=no><input type=password value=no></p>"
        "<textarea>Berth 7</textarea>",
        "Name Ann\n\nBerth 7",
    ),
    "the description of a picture": (
        "a.html",
        "<p>See <img alt='the quay'><img alt=''>.</p>",
        "See the quay .",
    ),
    "a picture with the same caption": (
        "a.html",
        "<figure><img alt='The quay'><figcaption>The quay</figcaption></figure>",
        "The quay",
    ),
    "a formula with its source": (
        "a.html",
        "<p>So <math><semantics><msup><mi>a</mi><mn>2</mn></msup><annotation encoding='application/x-tex'>a^2"
        "</annotation></semantics></math></p>",
        "So a^2",
    ),
    "a title that is the name of the file": ("a.html", "<title>a.html</title><p>Tides</p>", "Tides"),
    "struck text": ("a.html", "<p><del>40</del> <s>45</s> 50 crowns</p>", "40 45 50 crowns"),
    "times and entities in a cue": (
        "a.vtt",
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ada>The lock <00:01.500>opens <c.loud>&amp; closes</c> at noon.</v>",
        "Ada: The lock opens & closes at noon.",
    ),
    "entities and positions in an old cue": (
        "a.srt",
        "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}<i>&lt;end&gt;</i> 3 < 4",
        "<end> 3 < 4",
    ),
}


@pytest.mark.parametrize("case", VISIBLE)
async def test_only_visible_text_is_read(read: Reading, case: str) -> None:
    name, data, seen_text = VISIBLE[case]
    [part] = await read(name, data.encode() if isinstance(data, str) else data)
    assert re.sub("\n+", "\n\n", part.text) == seen_text


async def test_hidden_slides_are_counted_and_charts_read(read: Reading) -> None:
    space = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    chart = f'<c:chart xmlns:c="{space}" r:id="rId7"/>'
    data = office.slides(("Fees", "40 crowns", ""), ("Draft", "no", ""), shapes=chart)
    data = office.rewritten(data, "ppt/slides/slide1.xml", "<p:sld ", '<p:sld show="0" ')
    relation = '<Relationship Id="rId7" Type="http://example.org/chart" Target="../charts/chart1.xml"/>'
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member_name: archive.read(member_name) for member_name in archive.namelist()}
    members["ppt/slides/_rels/slide2.xml.rels"] = f"<Relationships>{relation}</Relationships>".encode()
    members["ppt/charts/chart1.xml"] = (
        f'<c:chartSpace xmlns:c="{space}"><c:ser><c:tx><c:v>Boats</c:v></c:tx><c:cat><c:pt idx="0"><c:v>May</c:v>'
        '</c:pt></c:cat><c:val><c:pt idx="0"><c:v>17</c:v></c:pt></c:val></c:ser></c:chartSpace>'
    ).encode()
    slide, unread = await read("x.pptx", office.zipped(members))
    assert slide.text == "Fees\n40 crowns\nBoats: May 17"
    assert unread.text == "Not read:\nx.pptx: 1 hidden slide(s)"


async def test_subtitle_passages_carry_their_start_seconds(read: Reading) -> None:
    srt = (
        "1\n00:00:05,250 --> 00:00:07,000\n<i>The harbour</i>\nopens at six.\n\n"
        "2\n01:02:03,000 --> 01:02:04,000\n港口。\n"
    )
    vtt = (
        "WEBVTT\n\nNOTE x\n\n00:05.250 --> 00:07.000 align:start\n<v Ann>The harbour</v>\nopens at six.\n\n"
        "1:02:03.000 --> 1:02:04.000\n港口。"
    )
    for name, data, first in (
        ("a.srt", srt, "The harbour opens at six."),
        ("a.vtt", vtt, "Ann: The harbour opens at six."),
    ):
        first_passage, two = await read(name, data.encode())
        assert (first_passage.text, first_passage.place.seconds) == (first, 5.25)
        assert (two.text, two.place.label()) == ("港口。", "1:02:03")
    [joint_passage] = await read("a.srt", srt.encode(), {"type": "auto"})
    assert joint_passage.text == "The harbour opens at six.\n港口。"
    assert (joint_passage.place.seconds, joint_passage.place.start, joint_passage.place.end) == (
        5.25,
        0,
        len(joint_passage.text),
    )


async def test_xml_records_have_their_enclosing_elements_as_headings(read: Reading) -> None:
    data = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>
    <harbour><boat id="7">
      <name>Dinghy</name><fee>15</fee><text>See <b>bold</b> after.</text><evil>&e;</evil></boat>
    <boat id="8"><name>渡轮</name></boat></harbour>"""
    parts = await read("boats.xml", data.encode())
    text = "\n".join(part.text for part in parts)
    for words in ('boat (id="7")', "name: Dinghy", "fee: 15", "bold", "after.", "name: 渡轮"):
        assert words in text
    assert "root:" not in text
    assert any(part.place.heading == ("harbour", "boat") for part in parts)
    assert stand_in_one_text(parts)


async def test_a_passage_of_nested_xml_has_the_path_of_its_elements(read: Reading) -> None:
    def order(name: str, *items: str) -> str:
        return f"<order><for><name>{name}</name></for>{''.join(f'<item>{item}</item>' for item in items)}</order>"

    data = f"<orders>{order('Ada', 'Oar', 'Net')}{order('Bob', 'Rope')}<sum>3</sum></orders>"
    parts = await read("orders.xml", data.encode())
    assert [(part.place.symbol, part.text) for part in parts] == [
        ("/orders/order[1]/for", "name: Ada"),
        ("/orders/order[1]", "item: Oar\nitem: Net"),
        ("/orders/order[2]/for", "name: Bob"),
        ("/orders/order[2]", "item: Rope"),
        ("/orders", "sum: 3"),
    ]
    parts = await read("flat.xml", b"<all><one><a>1</a></one><one><a>2</a></one></all>")
    assert [(part.place.symbol, part.text) for part in parts] == [("/all", "a: 1\na: 2")]


async def test_xml_that_is_broken_is_still_read_as_text(read: Reading) -> None:
    [part] = await read("bad.xml", b"<a><b>words</a>")
    assert part.text == "<a><b>words</a>"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.rst",
            "Intro.\n\n=====\nTitle\n=====\n\nText.\n\nSub section\n-----------\n\nMore.\n\nOther\n-----\n\nEnd.\n",
        ),
        (
            "a.txt",
            "Intro.\n\n=====\nTitle\n=====\n\nText.\n\nSub section\n-----------\n\nMore.\n\nOther\n-----\n\nEnd.\n",
        ),
        ("a.adoc", "Intro.\n\n= Title\n\nText.\n\n== Sub section\n\nMore.\n\n== Other\n\nEnd.\n"),
        (
            "a.adoc",
            "Intro.\n\n'''\n\nTitle\n=====\n\nText.\n\n[[sub]]\nSub section\n-----------\n----\nMore.\n----\n\n"
            "== Other\n\nEnd.\n",
        ),
        *(
            (
                name,
                f"Intro.\n\n{attributes}\n{marks}\nTie up the boats.\n{marks}\n\nTitle\n=====\n\n"
                f"Text.\n\nSub section\n-----------\n\n{attributes}\n{marks}\nBerths are free in winter.\n"
                f"{marks}\n\nOther\n-----\n\nEnd.\n",
            )
            for name in ("a.adoc", "a.txt")
            for attributes, marks in (
                ("[xml]", "----"),
                ("[verse]", "-----"),
                ("[source]", "--------"),
                ("[source]", "........"),
                ("[[fees]]", "-------"),
            )
        ),
        ("manual.txt", "Intro.\n\n= Title\n\nText.\n\n== Sub section\n\nMore.\n\n== Other\n\nEnd.\n"),
        ("a.org", "Intro.\n\n* Title\n\nText.\n\n** TODO Sub section   :tag:\n\nMore.\n\n** Other\n\nEnd.\n"),
        (
            "a.tex",
            "Intro.\n\n\\section{Title}\n\nText.\n\n\\subsection*{Sub \\emph{section}}\n\nMore.\n\n"
            "\\subsection{Other}\nEnd.\n",
        ),
    ],
)
async def test_sections_of_marked_up_text_know_their_headings(read: Reading, name: str, text: str) -> None:
    parts = await read(name, text.encode())
    assert [part.place.heading for part in parts] == [
        (),
        ("Title",),
        ("Title", "Sub section"),
        ("Title", "Other"),
    ]
    assert "".join(part.text for part in parts) == text
    assert all(text[part.place.start : part.place.end] == part.text for part in parts)


@pytest.mark.parametrize(
    "text",
    [
        "Fees\n====\n\nFive crowns.\n",  # one heading
        "Berth | Fee\n-----------\nA | 1\n\nName   Price\n----   -----\nB   2\n",
        "One line of a paragraph\nand a second one\n----------------\n\nan end\nof a long one\n======\n",
        "From here\n--------------------------------------------\n\nto there\n=====================================\n",
    ],
)
async def test_lines_of_plain_text_are_no_headings(read: Reading, text: str) -> None:
    [part] = await read("notes.txt", text.encode())
    assert (part.text, part.place.heading) == (text, ())


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("港は六時に開きます。ボートは外で待っています。" * 3, "shift_jis"),
        ("港は六時に開きます。ボートは外で待っています。" * 3, "euc_jp"),
        ("항구는 여섯 시에 문을 엽니다. 배들은 밖에서 기다립니다. 겨울에는 닫혀 있습니다." * 3, "euc_kr"),
        ("Harbour;Notes\nYstad;Причал закрыт до весны, ещё глубже\n", "cp1251"),
        ("Größe, Höhe, œuvre – “Straßenbahnhaltestelle”, señor", "cp1252"),
        ("Die Größe des Hafens: 12 m, für Boote übrig", "cp1252"),
    ],
)
def test_legacy_encodings_are_decoded(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    assert "".join(part.text for part in read_text(SourceDocument("text.txt", path))) == text


# --- any format -----------------------------------------------------------------------------------------------


def test_svg_lock_and_pem_files_are_not_documents() -> None:
    assert [is_document(name) for name in ("a.svg", "b/uv.lock", "x.PEM", "a.md", "Makefile", "lock")] == [
        *(False, False, False),
        *(True, True, True),
    ]


@pytest.mark.parametrize(
    ("place", "label"),
    [
        (Place(page=3, heading=("A", "B")), "page 3 · A › B"),
        (Place(row=4, sheet="Fees", cell="A4:B9"), "Fees A4:B9"),
        (Place(line=3, seconds=65.5), "1:05"),
        (Place(line=12, symbol="Client.ask"), "line 12 · Client.ask"),
        (Place(cell="7"), "cell 7"),
        (Place(), ""),
    ],
)
def test_a_place_has_a_short_label(place: Place, label: str) -> None:
    assert place.label() == label
