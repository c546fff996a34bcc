"""Workbooks (xlsx, ods) of openpyxl, XlsxWriter, LibreOffice, odfpy and pandas, each with one feature.

A figure is shown as an English Excel or LibreOffice shows it. Parts that no Python writer knows, such as threaded
comments and phonetic guides, are put into files of XlsxWriter.
"""

from __future__ import annotations

import base64
import datetime
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import openpyxl
import pandas
import xlsxwriter
from odf import element, opendocument
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table

from document_features.case import Case, Feature, convert_with_libreoffice, save
from document_features.flat_text import NAMESPACES, SPACES

DAY = datetime.date(2024, 3, 15)
MINUTES_OF_A_DAY = 1440
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LONG_TEXT = " ".join(
    ["lighthouse", *["spray and foam"] * 1000, "anchorage", *["wind and tide"] * 1000, "capstan"]
)

TABLE = (("Harbour", "Dues"), ("Lindau", "thalers"), ("Ostend", "crowns"))
TABLE_WORDS = ("Harbour", "Dues", "Lindau", "thalers", "Ostend", "crowns")


def in_table(name: str, *shown: str, hidden: tuple[str, ...] = ()) -> Feature:
    """A feature of the cell beside Lindau, in the second row of three."""
    return Feature(
        name,
        ("Harbour", "Dues", "Lindau", *shown, "Ostend", "crowns"),
        rows=(("Harbour", "Dues"), ("Lindau", *shown), ("Ostend", "crowns")),
        hidden=hidden,
    )


def after_table(name: str, *shown: str, hidden: tuple[str, ...] = ()) -> Feature:
    """A feature below or on the last cell of the plain table."""
    return Feature(name, (*TABLE_WORDS, *shown), rows=TABLE, hidden=hidden)


# The feature, the value of the cell, and its number format.
OPENPYXL_FORMATS: tuple[tuple[Feature, object, str], ...] = (
    (in_table("a percentage with one decimal", "12.5%", hidden=("0.125",)), 0.125, "0.0%"),
    (in_table("a negative percentage in red", "-7%", hidden=("-0.07",)), -0.07, "0%;[Red]-0%"),
    (in_table("a code with leading zeros", "00042"), 42, "00000"),
    (in_table("hours beyond a day", "27:30"), 27.5 / 24, "[h]:mm"),
    (in_table("a currency before the figure", "$1,234.50"), 1234.5, '"$"#,##0.00'),
    (in_table("a currency after the figure", "1,234.50 €"), 1234.5, r"#,##0.00\ [$€-1]"),
    (in_table("a unit after the figure", "12.5 km"), 12.5, '0.0" km"'),
    (in_table("a negative in parentheses", "(450)", hidden=("-450",)), -450, "#,##0;(#,##0)"),
    (in_table("a mixed fraction", "2 1/2"), 2.5, "# ?/?"),
    (in_table("a figure in scientific notation", "1.23E+06"), 1234567, "0.00E+00"),
    (in_table("separators of thousands", "1,234,567"), 1234567, "#,##0"),
    (in_table("a figure in millions", "7.7M"), 7654321, '0.0,,"M"'),
    (
        in_table("a German date with weekday", "Freitag, 15. März 2024"),
        DAY,
        r"[$-407]dddd\,\ d\.\ mmmm\ yyyy",
    ),
    (in_table("a Chinese date", "2024年3月15日"), DAY, 'yyyy"年"m"月"d"日"'),
    (in_table("a Chinese weekday", "星期五"), DAY, "[$-804]aaaa"),
    (in_table("a day before its month", "05/03/2024"), datetime.date(2024, 3, 5), "dd/mm/yyyy"),
    (in_table("a time in the afternoon", "2:30 PM"), datetime.time(14, 30), "h:mm AM/PM"),
    (
        in_table("a date with a time", "2024-03-15 14:30"),
        datetime.datetime(2024, 3, 15, 14, 30),
        "yyyy-mm-dd hh:mm",
    ),
    (in_table("a boolean of openpyxl", "TRUE"), True, "General"),
    (in_table("words chosen by conditions", "moored"), 1, '[=1]"moored";[=0]"adrift";0'),
    (in_table("a word for zero", "exempt"), 0, '0;-0;"exempt"'),
    (in_table("a figure hidden by its format", hidden=("4711",)), 4711, ";;;"),
    (in_table("a figure rounded half up", "2.68"), 2.675, "0.00"),
    (
        in_table("the sum of a tenth and a fifth", "0.3", hidden=("0.30000000000000004",)),
        0.1 + 0.2,
        "General",
    ),
    (
        in_table("a negative in accounting format", "(1,234.50)"),
        -1234.5,
        '_($* #,##0.00_);_($* (#,##0.00);_($* "-"??_)',
    ),
    (in_table("a duration of Python", "27:30:00"), datetime.timedelta(hours=27, minutes=30), "[h]:mm:ss"),
    (in_table("an error value of openpyxl", "#N/A"), "#N/A", "General"),
)
XLSXWRITER_FORMATS: tuple[tuple[Feature, object, str], ...] = (
    (in_table("minutes beyond an hour", "95:30"), 95.5 / MINUTES_OF_A_DAY, "[mm]:ss"),
    (in_table("a currency by its locale", "£1,234.50"), 1234.5, "[$£-809]#,##0.00"),
    (in_table("a currency in Chinese format", "¥1,234.50"), 1234.5, "[$¥-804]#,##0.00"),
    (in_table("a figure in tens of thousands of yuan", "42万元"), 42, '0"万元"'),
    (in_table("a fraction in sixteenths", "3/16"), 0.1875, "# ??/16"),
    (in_table("a figure in thousands", "1,235k"), 1234567, '#,##0,"k"'),
    (in_table("a French date", "15 mars 2024"), DAY, "[$-40C]d mmmm yyyy"),
    (in_table("a date without a year", "15-Mar"), DAY, "d-mmm"),
    (in_table("tenths of seconds", "01:15.4"), 75.4 / 60 / MINUTES_OF_A_DAY, "mm:ss.0"),
    (in_table("words before a text by its format", "Berth pontoon"), "pontoon", '"Berth "@'),
    (in_table("a number of a telephone", "555-1234"), 5551234, "000-0000"),
    (in_table("Chinese capital numerals", "叁佰贰拾壹"), 321, "[DBNum2][$-804]General"),
    (in_table("a whole figure kept as a float", "42", hidden=("42.0",)), 42.0, "General"),
    (in_table("a boolean of XlsxWriter", "FALSE"), False, "General"),
    (in_table("a percentage without decimals", "13%", hidden=("0.127",)), 0.127, "0%"),
    (in_table("a temperature below zero", "-4.5 °C"), -4.5, '0.0" °C"'),
    (in_table("a colour by a condition", "1,500"), 1500, "[Blue][>1000]#,##0;[Red]0"),
)

# The feature, the formula, its number format and its cached result.
FORMULAS: tuple[tuple[Feature, str, str, object], ...] = (
    (in_table("a formula with a figure", "5150", hidden=("SUM",)), "=SUM(5000,150)", "General", 5150),
    (in_table("a formula with a percentage", "62.5%", hidden=("0.625",)), "=5/8", "0.0%", 0.625),
    (
        in_table("a formula with a date", "2024-03-15", hidden=("45366",)),
        "=DATE(2024,3,15)",
        "yyyy-mm-dd",
        45366,
    ),
    (
        in_table("a formula with a text", "quayside", hidden=("quay&",)),
        '="quay"&"side"',
        "General",
        "quayside",
    ),
    (in_table("a formula with a boolean", "TRUE"), "=1<2", "General", True),
    (in_table("a formula with an error", "#DIV/0!"), "=1/0", "General", "#DIV/0!"),
    (in_table("a formula with an empty text", hidden=("IF", "never")), '=IF(1>2,"never","")', "General", ""),
    (
        in_table("a hyperlink made by a formula", "timetable", hidden=("HYPERLINK",)),
        '=HYPERLINK("https://example.org/ferries","timetable")',
        "General",
        "timetable",
    ),
)


def fill_table(sheet: Any) -> None:
    for row in TABLE:
        sheet.append(row)


def merge_rows(sheet: Any) -> None:
    for row in (
        ("Quay", "Harbour"),
        ("Northquay", "Lindau"),
        ("", "Ostend"),
        ("", "Bergen"),
        ("Southquay", "Trieste"),
    ):
        sheet.append(row)
    sheet.merge_cells("A2:A4")


def merge_columns(sheet: Any) -> None:
    for row in (("Harbour", "Summer", "Winter"), ("Lindau", "frozen", None), ("Ostend", "crowns", "thalers")):
        sheet.append(row)
    sheet.merge_cells("B2:C2")


def merge_block(sheet: Any) -> None:
    for row in (
        ("Harbour", "Summer", "Winter"),
        ("Lindau", "frozen"),
        ("Bergen",),
        ("Ostend", "crowns", "thalers"),
    ):
        sheet.append(row)
    sheet.merge_cells("B2:C3")


def add_two_headers(sheet: Any) -> None:
    for row in (
        ("Harbour", "Dues", None, "Cargo", None),
        (None, "sail", "steam", "grain", "timber"),
        ("Lindau", "eleven", "twelve", "thirteen", "fourteen"),
        ("Ostend", "crowns", "thalers", "florins", "guilders"),
    ):
        sheet.append(row)
    for cells in ("A1:A2", "B1:C1", "D1:E1"):
        sheet.merge_cells(cells)


def hide_row(sheet: Any) -> None:
    fill_table(sheet)
    sheet.insert_rows(3)
    sheet["A3"], sheet["B3"] = "Trieste", "ducats"
    sheet.row_dimensions[3].hidden = True


def hide_columns(sheet: Any) -> None:
    for row in (
        ("Harbour", "Pilot", "Dues"),
        ("Lindau", "Magnus", "thalers"),
        ("Ostend", "Sigrid", "crowns"),
    ):
        sheet.append(row)
    sheet.column_dimensions["B"].hidden = True


def hide_sheet(sheet: Any, state: str = "hidden") -> None:
    fill_table(sheet)
    other = sheet.parent.create_sheet("Ledger")
    other["A1"] = "smuggling"
    other.sheet_state = state
    sheet.parent.create_sheet("Tides")["A1"] = "ebb and flood"


def comment_cell(sheet: Any) -> None:
    fill_table(sheet)
    sheet["B3"].comment = Comment("Fog delayed\nthe ferry", "warden")


def link_cell(sheet: Any) -> None:
    fill_table(sheet)
    sheet["B2"].value = "timetable"
    sheet["B2"].hyperlink = "https://example.org/ferries"


def split_word(sheet: Any) -> None:
    fill_table(sheet)
    sheet["B2"] = CellRichText("old ", TextBlock(InlineFont(b=True), "break"), "water")


def add_chart(sheet: Any) -> None:
    for row in (("Harbour", "Dues"), ("Lindau", 310), ("Ostend", 420)):
        sheet.append(row)
    chart = BarChart()
    chart.title = "Tonnage by quay"
    chart.y_axis.title = "bushels"
    chart.x_axis.delete = chart.y_axis.delete = False
    chart.add_data(Reference(sheet, min_col=2, min_row=1, max_row=3), titles_from_data=True)
    sheet.add_chart(chart, "B8")


def add_list(sheet: Any) -> None:
    fill_table(sheet)
    sheet.add_table(Table(displayName="Moorings", ref="A1:B3"))


def validate_cell(sheet: Any) -> None:
    fill_table(sheet)
    rule = DataValidation(
        type="list", formula1='"sloop,ketch"', promptTitle="Vessel", prompt="Choose a rigging"
    )
    sheet.add_data_validation(rule)
    rule.add("B2")


def count_from_1904(sheet: Any) -> None:
    sheet.parent.epoch = CALENDAR_MAC_1904
    fill_table(sheet)
    sheet["B2"] = DAY


def write_iso_date(sheet: Any) -> None:
    sheet.parent.iso_dates = True
    fill_table(sheet)
    sheet["B2"] = DAY


def start_late(sheet: Any) -> None:
    for row, cells in enumerate(TABLE, start=7):
        for column, text in enumerate(cells, start=4):
            sheet.cell(row, column, text)


def print_header(sheet: Any) -> None:
    fill_table(sheet)
    sheet.oddHeader.center.text = "Portmaster's office"
    sheet.oddFooter.left.text = "Confidential draft"


def break_lines(sheet: Any) -> None:
    fill_table(sheet)
    sheet["B2"] = "jetty\nmooring"


def write_from_right(sheet: Any) -> None:
    fill_table(sheet)
    sheet.sheet_view.rightToLeft = True


def add_second_table(sheet: Any) -> None:
    fill_table(sheet)
    for row in (
        (),
        (),
        ("Pilots on duty",),
        (),
        ("Pilot", "Vessel"),
        ("Magnus", "sloop"),
        ("Sigrid", "ketch"),
    ):
        sheet.append(row)


def add_title(sheet: Any) -> None:
    for row in (("Tariff of the harbours",), ("as of midsummer",), (), *TABLE):
        sheet.append(row)
    sheet.merge_cells("A1:B1")


OPENPYXL: tuple[tuple[Feature, Callable[[Any], None]], ...] = (
    (
        Feature(
            "a merged cell over three rows",
            ("Quay", "Harbour", "Northquay", "Lindau", "Ostend", "Bergen", "Southquay", "Trieste"),
            rows=(
                ("Northquay", "Lindau"),
                ("Northquay", "Ostend"),
                ("Northquay", "Bergen"),
                ("Southquay", "Trieste"),
            ),
        ),
        merge_rows,
    ),
    (
        Feature(
            "a merged cell over two columns",
            ("Harbour", "Summer", "Winter", "Lindau", "frozen", "Ostend", "crowns", "thalers"),
            rows=(("Lindau", "frozen"), ("Ostend", "crowns", "thalers")),
        ),
        merge_columns,
    ),
    (
        Feature(
            "a merged cell over rows and columns",
            ("Harbour", "Summer", "Winter", "Lindau", "frozen", "Bergen", "Ostend", "crowns", "thalers"),
            rows=(("Lindau", "frozen"), ("Bergen", "frozen"), ("Ostend", "crowns", "thalers")),
        ),
        merge_block,
    ),
    (
        Feature(
            "a header in two levels",
            ("Harbour", "Dues", "sail", "steam", "grain", "timber", "Lindau", "eleven", "fourteen", "Ostend"),
            rows=(
                ("Dues", "Cargo"),
                ("sail", "steam", "grain", "timber"),
                ("Lindau", "eleven", "twelve", "thirteen", "fourteen"),
                ("Ostend", "crowns", "thalers", "florins", "guilders"),
            ),
        ),
        add_two_headers,
    ),
    (
        Feature(
            "a title above the header", ("Tariff of the harbours", "as of midsummer", *TABLE_WORDS), TABLE
        ),
        add_title,
    ),
    (after_table("a hidden row", hidden=("Trieste", "ducats")), hide_row),
    (after_table("a hidden column", hidden=("Pilot", "Magnus", "Sigrid")), hide_columns),
    (after_table("a hidden sheet", "ebb and flood", hidden=("smuggling",)), hide_sheet),
    (
        after_table("a very hidden sheet", "ebb and flood", hidden=("smuggling",)),
        lambda sheet: hide_sheet(sheet, "veryHidden"),
    ),
    (after_table("a note at a cell", "Fog delayed", "the ferry", hidden=("delayedthe",)), comment_cell),
    (in_table("a hyperlink with its text", "timetable"), link_cell),
    (in_table("a word in two styles", "old breakwater", hidden=("break water", "oldbreakwater")), split_word),
    (
        Feature(
            "a chart with a title and an axis",
            ("Harbour", "Dues", "Lindau", "310", "Ostend", "420", "Tonnage by quay", "bushels"),
            rows=(("Lindau", "310"), ("Ostend", "420")),
        ),
        add_chart,
    ),
    (after_table("a list object", hidden=("Moorings",)), add_list),
    (
        after_table("a message of a data validation", hidden=("Choose a rigging", "ketch", "Vessel")),
        validate_cell,
    ),
    (in_table("a date counted from 1904", "2024-03-15", hidden=("2020-03-14",)), count_from_1904),
    (in_table("a date kept in ISO form", "2024-03-15"), write_iso_date),
    (after_table("empty leading rows and columns"), start_late),
    (
        Feature(
            "a header and a footer of the page",
            TABLE_WORDS,
            rows=(("Portmaster's office",), *TABLE, ("Confidential draft",)),
            hidden=("&C", "&L"),
        ),
        print_header,
    ),
    (in_table("a line break in a cell", "jetty", "mooring", hidden=("jettymooring",)), break_lines),
    (after_table("a sheet from right to left"), write_from_right),
    (
        Feature(
            "a second table below the first",
            (*TABLE_WORDS, "Pilots on duty", "Pilot", "Vessel", "Magnus", "sloop", "Sigrid", "ketch"),
            rows=(*TABLE, ("Pilot", "Vessel"), ("Magnus", "sloop"), ("Sigrid", "ketch")),
        ),
        add_second_table,
    ),
)


def write_with_openpyxl(fill: Callable[[Any], None]) -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Tariff"
    fill(book.active)
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def openpyxl_cases(folder: Path) -> Iterator[Case]:
    for feature, value, code in OPENPYXL_FORMATS:

        def fill(sheet: Any, value: object = value, code: str = code) -> None:
            fill_table(sheet)
            sheet["B2"] = value
            sheet["B2"].number_format = code

        yield save(folder, "openpyxl", feature, "xlsx", write_with_openpyxl(fill))
    for feature, fill_sheet in OPENPYXL:
        yield save(folder, "openpyxl", feature, "xlsx", write_with_openpyxl(fill_sheet))


# The feature, and calls of the sheet's methods after the plain table is written.
XLSXWRITER: tuple[tuple[Feature, tuple[tuple[Any, ...], ...]], ...] = (
    (
        after_table(
            "a text box below the cells", "Beware of currents", "and shoals", hidden=("currentsand",)
        ),
        (("insert_textbox", "B8", "Beware of currents\nand shoals"),),
    ),
    (
        after_table("a picture with alternative text", "A schooner under sail"),
        (
            (
                "insert_image",
                "B8",
                "ship.png",
                {"image_data": BytesIO(PICTURE), "description": "A schooner under sail"},
            ),
        ),
    ),
    (
        in_table("a picture in a cell with alternative text", "A schooner under sail"),
        (
            (
                "embed_image",
                "B2",
                "ship.png",
                {"image_data": BytesIO(PICTURE), "description": "A schooner under sail"},
            ),
        ),
    ),
    (
        after_table("a button with a caption", "Weigh anchor"),
        (("insert_button", "B8", {"caption": "Weigh anchor", "width": 120, "height": 30}),),
    ),
    (
        after_table("a comment that stays open", "Ask the warden"),
        (("write_comment", "B3", "Ask the warden", {"visible": True}),),
    ),
    (
        after_table("rows hidden by a filter", hidden=("Trieste", "ducats")),
        (
            ("write_row", "A3", ("Trieste", "ducats")),
            ("write_row", "A4", TABLE[2]),
            ("autofilter", "A1:B4"),
            ("filter_column", 0, "x != Trieste"),
            ("set_row", 2, None, None, {"hidden": True}),
        ),
    ),
    (
        after_table("a collapsed group of rows"),
        (
            ("write_row", "A3", ("Trieste", "ducats")),
            ("write_row", "A4", ("Bergen", "marks")),
            ("write_row", "A5", TABLE[2]),
            ("set_row", 2, None, None, {"level": 1, "hidden": True}),
            ("set_row", 3, None, None, {"level": 1, "hidden": True}),
            ("set_row", 4, None, None, {"collapsed": True}),
        ),
    ),
    (
        after_table("an open group of rows"),
        (("set_row", 1, None, None, {"level": 1}), ("set_row", 2, None, None, {"level": 1})),
    ),
    (
        after_table("a collapsed group of columns"),
        (
            ("write_column", "C1", ("Pilot", "Magnus", "Sigrid")),
            ("set_column", "C:C", None, None, {"level": 1, "hidden": True}),
            ("set_column", "D:D", None, None, {"collapsed": True}),
        ),
    ),
    (
        Feature(
            "a list object with a row of totals",
            ("Harbour", "Dues", "Lindau", "310", "Ostend", "420", "Altogether", "730"),
            rows=(("Harbour", "Dues"), ("Lindau", "310"), ("Altogether", "730")),
            hidden=("Moorings", "SUBTOTAL"),
        ),
        (
            (
                "add_table",
                "A1:B4",
                {
                    "name": "Moorings",
                    "data": (("Lindau", 310), ("Ostend", 420)),
                    "total_row": True,
                    "columns": (
                        {"header": "Harbour", "total_string": "Altogether"},
                        {"header": "Dues", "total_function": "sum", "total_value": 730},
                    ),
                },
            ),
        ),
    ),
    (
        after_table("an error message of a data validation", hidden=("Unknown vessel", "Name a sloop")),
        (
            (
                "data_validation",
                "B2",
                {
                    "validate": "length",
                    "criteria": "<",
                    "value": 20,
                    "error_title": "Unknown vessel",
                    "error_message": "Name a sloop",
                },
            ),
        ),
    ),
    (
        Feature(
            "a header of the page in a font",
            TABLE_WORDS,
            rows=(("Portmaster's office",), *TABLE),
            hidden=("Arial", "&P", "&R"),
        ),
        (("set_header", '&L&"Arial,Bold"&14Portmaster\'s office&R&P/&N'),),
    ),
    (
        in_table(
            "a carriage return in a shared string", "jetty", "mooring", hidden=("_x000D_", "jettymooring")
        ),
        (("write_string", "B2", "jetty\r\nmooring"),),
    ),
    (in_table("a text that looks like an escape", "_x0041_ quay"), (("write_string", "B2", "_x0041_ quay"),)),
    (in_table("digits kept as text", "007"), (("write_string", "B2", "007"),)),
    (
        in_table("markup written in a cell", "<b>bold</b> & brave"),
        (("write_string", "B2", "<b>bold</b> & brave"),),
    ),
    (
        in_table("a very long text", "lighthouse", "anchorage", "capstan"),
        (("write_string", "B2", LONG_TEXT),),
    ),
    (
        in_table("a link within the workbook", "see below"),
        (("write_url", "B2", "internal:Tariff!A40", None, "see below"),),
    ),
    (
        Feature(
            "two tables side by side",
            ("Harbour", "Lindau", "Ostend"),
            rows=(*TABLE, ("Pilot", "Vessel"), ("Magnus", "sloop")),
        ),
        (("write_row", "F1", ("Pilot", "Vessel")), ("write_row", "F2", ("Magnus", "sloop"))),
    ),
    (
        after_table("rows with gaps between them", "buoy", "winch"),
        (("write_string", "A20", "buoy"), ("write_string", "C400", "winch")),
    ),
    (after_table("a cell far to the right", "winch"), (("write_string", "ZZ3", "winch"),)),
    (
        Feature(
            "a merged cell across the whole table",
            (*TABLE_WORDS, "Closed in winter"),
            rows=(*TABLE, ("Closed in winter",)),
        ),
        (("merge_range", "A4:B4", "Closed in winter"),),
    ),
    (
        in_table("an array formula", "13 leagues", hidden=("LEN",)),
        (("write_array_formula", "B2", '{=SUM(LEN(A1:A2))&" leagues"}', None, "13 leagues"),),
    ),
    (
        in_table("a dynamic array formula", "sextant", hidden=("UNIQUE", "_xlfn")),
        (("write_dynamic_array_formula", "B2", '=UNIQUE({"sextant";"sextant"})', None, "sextant"),),
    ),
)


def write_with_xlsxwriter(
    calls: tuple[tuple[Any, ...], ...] = (),
    options: Mapping[str, object] | None = None,
    extend: Callable[[Any, Any], None] | None = None,
) -> bytes:
    """Write the plain table, then call methods of its sheet, then ``extend`` the workbook and its sheet."""
    content = BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True, **(options or {})})
    sheet = book.add_worksheet("Tariff")
    for number, row in enumerate(TABLE):
        sheet.write_row(number, 0, row)
    for method, *arguments in calls:
        getattr(sheet, method)(*arguments)
    if extend:
        extend(book, sheet)
    book.close()
    return content.getvalue()


def style_runs(book: Any, sheet: Any) -> None:
    sheet.write_rich_string(
        "B2", "break", book.add_format({"bold": True}), "water", " ", book.add_format(), "mole"
    )


def add_sheets(book: Any, sheet: Any) -> None:
    book.add_worksheet("Pilots & tugs").write_row("A1", ("Magnus", "sloop"))
    book.add_worksheet("Empty")
    book.add_worksheet("泊位").write_row("A1", ("系泊", "浮筒"))


def add_chart_sheet(book: Any, sheet: Any) -> None:
    chart = book.add_chart({"type": "column"})
    chart.add_series({"values": "=Tariff!$D$1:$D$3", "name": "herring catch"})
    chart.set_title({"name": "Landings by month"})
    sheet.write_column("D1", (31, 42, 53))
    book.add_chartsheet("Landings").set_chart(chart)


def add_named_series(book: Any, sheet: Any) -> None:
    chart = book.add_chart({"type": "pie"})
    chart.add_series({"values": "=Tariff!$D$1:$D$3", "name": "herring catch"})
    sheet.write_column("D1", (31, 42, 53))
    sheet.insert_chart("B8", chart)


def define_name(book: Any, sheet: Any) -> None:
    book.define_name("WharfageRate", "=Tariff!$B$2")


def add_hidden_sheet(book: Any, sheet: Any) -> None:
    other = book.add_worksheet("Ledger")
    other.write_string("A1", "smuggling")
    other.hide()


# The feature, and what is done to the workbook and its first sheet.
XLSXWRITER_BOOKS: tuple[tuple[Feature, Callable[[Any, Any], None]], ...] = (
    (
        in_table("a word in three runs", "breakwater mole", hidden=("break water", "breakwatermole")),
        style_runs,
    ),
    (
        Feature(
            "several sheets with names",
            ("Tariff", *TABLE_WORDS, "Pilots & tugs", "Magnus", "sloop", "泊位", "系泊", "浮筒"),
            rows=(*TABLE, ("Magnus", "sloop"), ("系泊", "浮筒")),
        ),
        add_sheets,
    ),
    (
        Feature(
            "a chart on a sheet of its own",
            (
                "Harbour",
                "Dues",
                "Lindau",
                "thalers",
                "Ostend",
                "crowns",
                "Landings by month",
                "herring catch",
            ),
            rows=TABLE,
        ),
        add_chart_sheet,
    ),
    (
        Feature("the name of a series in a chart", (*TABLE_WORDS, "herring catch"), rows=TABLE),
        add_named_series,
    ),
    (after_table("a defined name", hidden=("WharfageRate",)), define_name),
    (after_table("a hidden last sheet", hidden=("smuggling", "Ledger")), add_hidden_sheet),
)

SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"
DRAWING = "xl/drawings/drawing1.xml"
RELATIONS = "xl/worksheets/_rels/sheet1.xml.rels"


def rewrite(content: bytes, changes: Mapping[str, Callable[[str], str]], parts: Mapping[str, str]) -> bytes:
    """Change members of a package and add others."""
    target = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(content)) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package,
    ):
        for name in source.namelist():
            data = source.read(name)
            if name in changes:
                changed = changes[name](data.decode())
                assert changed != data.decode(), name
                data = changed.encode()
            package.writestr(name, data)
        for name, text in parts.items():
            package.writestr(name, text)
    return target.getvalue()


def insert_before(mark: str, text: str) -> Callable[[str], str]:
    return lambda content: content.replace(mark, text + mark)


def add_prefix(content: str) -> str:
    tags = re.sub(r"<(/?)(?=[a-zA-Z])", r"<\1x:", content)
    return tags.replace(" xmlns=", " xmlns:x=")


def drop_references(content: str) -> str:
    return re.sub(r'(<(?:c|row)) r="\w+"', r"\1", content)


def add_guide(content: str) -> str:
    return content.replace(
        "<t>港口</t>", '<t>港口</t><rPh sb="0" eb="2"><t>gǎngkǒu</t></rPh><phoneticPr fontId="1"/>'
    )


def group_shapes(content: str) -> str:
    group = '<xdr:grpSp><xdr:nvGrpSpPr><xdr:cNvPr id="9" name="Group 8"/><xdr:cNvGrpSpPr/></xdr:nvGrpSpPr>'
    group += "<xdr:grpSpPr/>"
    return content.replace("<xdr:sp ", group + "<xdr:sp ").replace("</xdr:sp>", "</xdr:sp></xdr:grpSp>")


THREAD_NOTICE = (
    "[Threaded comment] Your version of Excel allows you to read this threaded comment. Comment: Is this dry?"
)
THREAD_RELATION = (
    '<Relationship Id="rId91" Type="http://schemas.microsoft.com/office/2017/10/relationships/threadedComment"'
    ' Target="../threadedComments/threadedComment1.xml"/>'
)
PERSON_RELATION = (
    '<Relationship Id="rId92" Type="http://schemas.microsoft.com/office/2017/10/relationships/person"'
    ' Target="persons/person.xml"/>'
)
THREAD_TYPES = (
    '<Override PartName="/xl/threadedComments/threadedComment1.xml"'
    ' ContentType="application/vnd.ms-excel.threadedcomments+xml"/>'
    '<Override PartName="/xl/persons/person.xml" ContentType="application/vnd.ms-excel.person+xml"/>'
)
THREAD_NAMESPACE = "http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments"
FIRST_ID, SECOND_ID, PERSON_ID = (f"{{0000000{number}-1111-4222-8333-444444444444}}" for number in (1, 2, 3))
THREAD = (
    f'<?xml version="1.0" encoding="UTF-8"?><ThreadedComments xmlns="{THREAD_NAMESPACE}">'
    f'<threadedComment ref="B3" dT="2024-03-15T10:00:00.00" personId="{PERSON_ID}" id="{FIRST_ID}">'
    "<text>Is this dry?</text></threadedComment>"
    f'<threadedComment ref="B3" dT="2024-03-15T11:00:00.00" personId="{PERSON_ID}" id="{SECOND_ID}"'
    f' parentId="{FIRST_ID}"><text>Only at ebb</text></threadedComment></ThreadedComments>'
)
PERSONS = (
    f'<?xml version="1.0" encoding="UTF-8"?><personList xmlns="{THREAD_NAMESPACE}">'
    f'<person displayName="Sigrid" id="{PERSON_ID}" userId="sigrid" providerId="None"/></personList>'
)

# The feature, calls of the sheet's methods, changes of members, and members to add.
REWRITTEN: tuple[
    tuple[Feature, tuple[tuple[Any, ...], ...], Mapping[str, Callable[[str], str]], Mapping[str, str]], ...
] = (
    (
        in_table("a phonetic guide", "港口", hidden=("gǎngkǒu",)),
        (("write_string", "B2", "港口"),),
        {STRINGS: add_guide},
        {},
    ),
    (
        after_table("a thread of comments", "Is this dry?", "Only at ebb", hidden=("Your version of Excel",)),
        (("write_comment", "B3", THREAD_NOTICE, {"author": f"tc={FIRST_ID}"}),),
        {
            RELATIONS: insert_before("</Relationships>", THREAD_RELATION),
            "xl/_rels/workbook.xml.rels": insert_before("</Relationships>", PERSON_RELATION),
            "[Content_Types].xml": insert_before("</Types>", THREAD_TYPES),
        },
        {"xl/threadedComments/threadedComment1.xml": THREAD, "xl/persons/person.xml": PERSONS},
    ),
    (
        after_table("a text box in a group", "Beware of currents"),
        (("insert_textbox", "B8", "Beware of currents"),),
        {DRAWING: group_shapes},
        {},
    ),
    (
        after_table("a sheet with a wrong dimension"),
        (),
        {SHEET: lambda content: content.replace('ref="A1:B3"', 'ref="A1"')},
        {},
    ),
    (after_table("cells without references"), (), {SHEET: drop_references}, {}),
    (
        after_table("elements with a prefix"),
        (),
        {SHEET: add_prefix, STRINGS: add_prefix},
        {},
    ),
    (
        after_table("an absolute path to a sheet"),
        (),
        {
            "xl/_rels/workbook.xml.rels": lambda content: content.replace(
                'Target="worksheets/', 'Target="/xl/worksheets/'
            )
        },
        {},
    ),
)


def xlsxwriter_cases(folder: Path) -> Iterator[Case]:
    def save_book(feature: Feature, content: bytes) -> Case:
        return save(folder, "XlsxWriter", feature, "xlsx", content)

    for feature, value, code in XLSXWRITER_FORMATS:

        def write_value(book: Any, sheet: Any, value: object = value, code: str = code) -> None:
            sheet.write("B2", value, book.add_format({"num_format": code}))

        yield save_book(feature, write_with_xlsxwriter(extend=write_value))
    for feature, formula, code, result in FORMULAS:

        def write_formula(
            book: Any, sheet: Any, formula: str = formula, code: str = code, result: object = result
        ) -> None:
            sheet.write_formula("B2", formula, book.add_format({"num_format": code}), result)

        yield save_book(feature, write_with_xlsxwriter(extend=write_formula))
    for feature, calls in XLSXWRITER:
        yield save_book(feature, write_with_xlsxwriter(calls))
    for feature, extend in XLSXWRITER_BOOKS:
        yield save_book(feature, write_with_xlsxwriter(extend=extend))
    for feature, calls, changes, parts in REWRITTEN:
        yield save_book(feature, rewrite(write_with_xlsxwriter(calls), changes, parts))
    yield save_book(after_table("inline strings"), write_with_xlsxwriter(options={"constant_memory": True}))


def text_cell(text: str, attributes: str = "") -> str:
    paragraph = f"<text:p>{escape(text)}</text:p>"
    return f'<table:table-cell office:value-type="string" {attributes}>{paragraph}</table:table-cell>'


def value_cell(kind: str, value: object, attributes: str = "", text: str | None = None) -> str:
    """A cell with a value, and with its text where LibreOffice does not compute the text."""
    name = {"percentage": "value", "float": "value", "currency": "value"}.get(kind, f"{kind}-value")
    paragraph = "" if text is None else f"<text:p>{escape(text)}</text:p>"
    types = f'office:value-type="{kind}" office:{name}="{value}"'
    return f"<table:table-cell {types} {attributes}>{paragraph}</table:table-cell>"


def row_of(*cells: str, attributes: str = "") -> str:
    """A row of texts and of cells in XML."""
    content = (cell if cell.startswith("<") else text_cell(cell) for cell in cells)
    return f"<table:table-row {attributes}>{''.join(content)}</table:table-row>"


PLAIN_ROWS = tuple(row_of(*row) for row in TABLE)


def spreadsheet(
    *rows: str,
    styles: str = "",
    shapes: str = "",
    columns: str = "",
    sheets: str = "",
    before: str = "",
    after: str = "",
    table: str = "",
    master: str = "",
) -> str:
    """A flat OpenDocument spreadsheet whose first sheet has the given rows.

    ``shapes`` lie over the first sheet, ``sheets`` follow it. ``before`` and ``after`` enclose all sheets.
    """
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {NAMESPACES} office:version="1.2"'
        ' office:mimetype="application/vnd.oasis.opendocument.spreadsheet">'
        '<office:styles><number:number-style style:name="N0"><number:number number:min-integer-digits="1"/>'
        '</number:number-style><style:style style:name="Default" style:family="table-cell"'
        ' style:data-style-name="N0"/></office:styles>'
        f'<office:automatic-styles><style:page-layout style:name="page"><style:header-style/><style:footer-style/>'
        f"</style:page-layout>{styles}</office:automatic-styles>"
        '<office:master-styles><style:master-page style:name="Default" style:page-layout-name="page">'
        f"{master}</style:master-page></office:master-styles>"
        f"<office:body><office:spreadsheet>{before}"
        f'<table:table table:name="Tariff" {table}>{f"<table:shapes>{shapes}</table:shapes>" if shapes else ""}'
        f"{columns}{''.join(rows)}</table:table>{sheets}{after}</office:spreadsheet></office:body></office:document>"
    )


def with_cell(cell: str, **parts: str) -> str:
    """A spreadsheet of the plain table with another cell beside Lindau."""
    return spreadsheet(PLAIN_ROWS[0], row_of("Lindau", cell), PLAIN_ROWS[2], **parts)


def with_format(cell: Callable[..., str], data_style: str) -> str:
    """A spreadsheet with a cell in the number format ``data_style``, which has the name ``N100``."""
    style = '<style:style style:name="figure" style:family="table-cell" style:data-style-name="N100"/>'
    return with_cell(cell('table:style-name="figure"'), styles=data_style + style)


def figure(kind: str, value: object, text: str | None = None) -> Callable[[str], str]:
    return lambda attributes: value_cell(kind, value, attributes, text)


def formula_cell(formula: str, kind: str = "") -> str:
    return f'<table:table-cell table:formula="of:={escape(formula, {chr(34): "&quot;"})}" {kind}/>'


def sheet_of(name: str, *rows: str, attributes: str = "") -> str:
    return f'<table:table table:name="{escape(name)}" {attributes}>{"".join(rows)}</table:table>'


def data_style(kind: str, content: str, attributes: str = "") -> str:
    return f'<number:{kind}-style style:name="N100" {attributes}>{content}</number:{kind}-style>'


def paragraphs_cell(*paragraphs: str, attributes: str = "", others: str = "") -> str:
    content = "".join(f"<text:p>{paragraph}</text:p>" for paragraph in paragraphs)
    return f'<table:table-cell office:value-type="string" {attributes}>{others}{content}</table:table-cell>'


HIDDEN_TABLE = (
    '<style:style style:name="unseen" style:family="table"><style:table-properties table:display="false"/>'
    "</style:style>"
)
RIGHT_TO_LEFT = (
    '<style:style style:name="right" style:family="table" style:master-page-name="Default">'
    '<style:table-properties table:display="true" style:writing-mode="rl-tb"/></style:style>'
)
BOLD = '<style:style style:name="bold" style:family="text"><style:text-properties fo:font-weight="bold"/></style:style>'
COVERED = "<table:covered-table-cell/>"
PLACE = 'svg:x="1cm" svg:y="6cm" svg:width="6cm" svg:height="2cm"'
TEXT_BOX = (
    f"<draw:frame {PLACE}><draw:text-box><text:p>Beware of rapids</text:p><text:p>and reefs</text:p>"
    "</draw:text-box></draw:frame>"
)
ELLIPSE = f"<draw:ellipse {PLACE}><text:p>Beware of whirlpools</text:p></draw:ellipse>"
IMAGE = (
    f"<draw:frame {PLACE}><draw:image><office:binary-data>{base64.b64encode(PICTURE).decode()}</office:binary-data>"
    "</draw:image><svg:desc>A brigantine at anchor</svg:desc></draw:frame>"
)
NOTE = (
    "<office:annotation><dc:creator>warden</dc:creator><text:p>Ice delayed</text:p><text:p>the barge</text:p>"
    "</office:annotation>"
)
HEADER = (
    "<style:header><text:p>Harbourmaster's bureau</text:p></style:header>"
    "<style:footer><text:p>Provisional edition</text:p></style:footer>"
)
VALIDATION = (
    '<table:content-validations><table:content-validation table:name="v1"'
    ' table:condition="of:cell-content-text-length()&lt;20">'
    '<table:help-message table:title="Vessel" table:display="true"><text:p>Choose a rigging</text:p>'
    "</table:help-message>"
    "</table:content-validation></table:content-validations>"
)
NAMES = (
    '<table:named-expressions><table:named-range table:name="WharfageRate" table:base-cell-address="$Tariff.$A$1"'
    ' table:cell-range-address="$Tariff.$B$2"/></table:named-expressions>'
)
TWO_DECIMALS = (
    '<number:number number:decimal-places="2" number:min-decimal-places="2" number:min-integer-digits="1"'
    ' number:grouping="true"/>'
)
ISO_DATE = data_style(
    "date",
    '<number:year number:style="long"/><number:text>-</number:text><number:month number:style="long"/>'
    '<number:text>-</number:text><number:day number:style="long"/>',
)
GERMAN_DATE = data_style(
    "date",
    '<number:day/><number:text>. </number:text><number:month number:style="long" number:textual="true"/>'
    '<number:text> </number:text><number:year number:style="long"/>',
    'number:language="de" number:country="DE"',
)
CHINESE_DATE = data_style(
    "date",
    '<number:year number:style="long"/><number:text>年</number:text><number:month/>'
    "<number:text>月</number:text><number:day/><number:text>日</number:text>",
)
LONG_TIME = data_style(
    "time",
    '<number:hours/><number:text>:</number:text><number:minutes number:style="long"/>',
    'number:truncate-on-overflow="false"',
)
PERCENT = data_style(
    "percentage",
    '<number:number number:decimal-places="1" number:min-decimal-places="1" number:min-integer-digits="1"/>'
    "<number:text>%</number:text>",
)
BOOLEAN = data_style("boolean", "<number:boolean/>")
UNIT = data_style(
    "number",
    '<number:number number:decimal-places="1" number:min-decimal-places="1" number:min-integer-digits="1"/>'
    "<number:text> knots</number:text>",
)
LEADING_ZEROS = data_style(
    "number", '<number:number number:decimal-places="0" number:min-integer-digits="6"/>'
)
GERMAN_CURRENCY = data_style(
    "currency",
    TWO_DECIMALS
    + '<number:text> </number:text><number:currency-symbol number:language="de" number:country="DE">'
    "€</number:currency-symbol>",
    'number:language="de" number:country="DE"',
)

LIBREOFFICE: dict[Feature, str] = {
    in_table("a percentage style", "18.8%", hidden=("0.1875",)): with_format(
        figure("percentage", 0.1875), PERCENT
    ),
    in_table("a German date style", "15. März 2024"): with_format(figure("date", "2024-03-15"), GERMAN_DATE),
    in_table("a Chinese date style", "2024年3月15日"): with_format(
        figure("date", "2024-03-15"), CHINESE_DATE
    ),
    in_table("a time style beyond a day", "27:30"): with_format(figure("time", "PT27H30M00S"), LONG_TIME),
    in_table("a boolean style", "TRUE"): with_format(figure("boolean", "true"), BOOLEAN),
    in_table("a style with leading zeros", "000815"): with_format(figure("float", 815), LEADING_ZEROS),
    in_table("a style with a unit", "12.5 knots"): with_format(figure("float", 12.5), UNIT),
    in_table("a style with a fraction", "2 3/4"): with_format(
        figure("float", 2.75),
        data_style(
            "number",
            '<number:fraction number:min-integer-digits="0" number:min-numerator-digits="1"'
            ' number:min-denominator-digits="1"/>',
        ),
    ),
    in_table("a scientific style", "1.23E+06"): with_format(
        figure("float", 1234567),
        data_style(
            "number",
            '<number:scientific-number number:decimal-places="2" number:min-decimal-places="2"'
            ' number:min-integer-digits="1" number:min-exponent-digits="2"/>',
        ),
    ),
    in_table("a style of two digits with thousands", "1,234,567.50"): with_format(
        figure("float", 1234567.5),
        data_style(
            "number",
            TWO_DECIMALS,
        ),
    ),
    in_table("a style that scales figures", "1,235"): with_format(
        figure("float", 1234567),
        data_style(
            "number",
            '<number:number number:decimal-places="0" number:min-integer-digits="1" number:grouping="true"'
            ' number:display-factor="1000"/>',
        ),
    ),
    in_table("a pound sign before the figure", "£1,234.50"): with_format(
        figure("currency", 1234.5),
        data_style(
            "currency",
            '<number:currency-symbol number:language="en" number:country="GB">£</number:currency-symbol>'
            + TWO_DECIMALS,
        ),
    ),
    Feature(
        "a sum computed by LibreOffice",
        ("Harbour", "Lindau", "310", "Ostend", "420", "Altogether", "730"),
        rows=(("Lindau", "310"), ("Ostend", "420"), ("Altogether", "730")),
        hidden=("SUM",),
    ): spreadsheet(
        PLAIN_ROWS[0],
        row_of("Lindau", value_cell("float", 310)),
        row_of("Ostend", value_cell("float", 420)),
        row_of("Altogether", formula_cell("SUM([.B2:.B3])")),
    ),
    in_table("a text computed by LibreOffice", "quayside"): with_cell(formula_cell('"quay"&"side"')),
    in_table("a division by zero", "#DIV/0!"): with_cell(formula_cell("1/0")),
    in_table("a value that is not available", "#N/A"): with_cell(formula_cell("NA()")),
    in_table("a comparison computed by LibreOffice", "TRUE"): with_cell(formula_cell("1<2")),
    in_table("a computed date in a style", "2024-03-15", hidden=("45366",)): with_cell(
        formula_cell("DATE(2024;3;15)", 'table:style-name="figure"'),
        styles=f'{ISO_DATE}<style:style style:name="figure" style:family="table-cell" style:data-style-name="N100"/>',
    ),
    in_table("a look-up computed by LibreOffice", "schilling"): with_cell(
        formula_cell('VLOOKUP("b";[.A20:.B21];2;0)'),
    ).replace(
        "</table:table>",
        '<table:table-row table:number-rows-repeated="16"><table:table-cell/></table:table-row>'
        + row_of("a", "kopek")
        + row_of("b", formula_cell('"schil"&"ling"'))
        + "</table:table>",
    ),
    in_table("a hyperlink in a cell", "timetable"): with_cell(
        paragraphs_cell('<text:a xlink:href="https://example.org/ferries">timetable</text:a>')
    ),
    in_table("a sentence with a link in its middle", "see the timetable for ferries"): with_cell(
        paragraphs_cell('see the <text:a xlink:href="https://example.org/">timetable</text:a> for ferries')
    ),
    after_table("an annotation of a cell", "Ice delayed", "the barge", hidden=("delayedthe",)): spreadsheet(
        *PLAIN_ROWS[:2], row_of("Ostend", paragraphs_cell("crowns", others=NOTE))
    ),
    Feature(
        "a cell that spans three rows",
        ("Quay", "Harbour", "Northquay", "Lindau", "Ostend", "Bergen", "Southquay", "Trieste"),
        rows=(
            ("Northquay", "Lindau"),
            ("Northquay", "Ostend"),
            ("Northquay", "Bergen"),
            ("Southquay", "Trieste"),
        ),
    ): spreadsheet(
        row_of("Quay", "Harbour"),
        row_of(
            text_cell("Northquay", 'table:number-rows-spanned="3" table:number-columns-spanned="1"'), "Lindau"
        ),
        row_of(COVERED, "Ostend"),
        row_of(COVERED, "Bergen"),
        row_of("Southquay", "Trieste"),
    ),
    Feature(
        "a header cell that spans columns",
        ("Harbour", "Dues", "sail", "steam", "Lindau", "eleven", "twelve"),
        rows=(("sail", "steam"), ("Lindau", "eleven", "twelve")),
    ): spreadsheet(
        row_of(
            "Harbour",
            text_cell("Dues", 'table:number-columns-spanned="2" table:number-rows-spanned="1"'),
            COVERED,
        ),
        row_of("<table:table-cell/>", "sail", "steam"),
        row_of("Lindau", "eleven", "twelve"),
    ),
    Feature(
        "a cell that spans rows and columns",
        ("Harbour", "Summer", "Winter", "Lindau", "frozen", "Bergen", "Ostend", "crowns", "thalers"),
        rows=(("Lindau", "frozen"), ("Bergen", "frozen"), ("Ostend", "crowns", "thalers")),
    ): spreadsheet(
        row_of("Harbour", "Summer", "Winter"),
        row_of(
            "Lindau",
            text_cell("frozen", 'table:number-columns-spanned="2" table:number-rows-spanned="2"'),
            COVERED,
        ),
        row_of("Bergen", COVERED, COVERED),
        row_of("Ostend", "crowns", "thalers"),
    ),
    after_table("a collapsed row", hidden=("Trieste", "ducats")): spreadsheet(
        *PLAIN_ROWS[:2], row_of("Trieste", "ducats", attributes='table:visibility="collapse"'), PLAIN_ROWS[2]
    ),
    after_table("a filtered row", hidden=("Trieste", "ducats")): spreadsheet(
        *PLAIN_ROWS[:2], row_of("Trieste", "ducats", attributes='table:visibility="filter"'), PLAIN_ROWS[2]
    ),
    after_table("a collapsed column", hidden=("Pilot", "Magnus", "Sigrid")): spreadsheet(
        row_of("Harbour", "Pilot", "Dues"),
        row_of("Lindau", "Magnus", "thalers"),
        row_of("Ostend", "Sigrid", "crowns"),
        columns='<table:table-column/><table:table-column table:visibility="collapse"/><table:table-column/>',
    ),
    after_table("a sheet that is not displayed", "ebb and flood", hidden=("smuggling",)): spreadsheet(
        *PLAIN_ROWS,
        styles=HIDDEN_TABLE,
        sheets=sheet_of("Ledger", row_of("smuggling"), attributes='table:style-name="unseen"')
        + sheet_of("Tides", row_of("ebb and flood")),
    ),
    Feature(
        "sheets with names in two languages",
        ("Tariff", *TABLE_WORDS, "Pilots & tugs", "Magnus", "泊位", "系泊"),
        rows=TABLE,
    ): spreadsheet(
        *PLAIN_ROWS,
        sheets=sheet_of("Pilots & tugs", row_of("Magnus", "sloop")) + sheet_of("泊位", row_of("系泊")),
    ),
    after_table("a frame with a text", "Beware of rapids", "and reefs", hidden=("rapidsand",)): spreadsheet(
        *PLAIN_ROWS, shapes=TEXT_BOX
    ),
    after_table("an ellipse with a text", "Beware of whirlpools"): spreadsheet(*PLAIN_ROWS, shapes=ELLIPSE),
    after_table("a picture with a description", "A brigantine at anchor"): spreadsheet(
        *PLAIN_ROWS, shapes=IMAGE
    ),
    Feature(
        "a header and a footer on paper",
        TABLE_WORDS,
        rows=(("Harbourmaster's bureau",), *TABLE, ("Provisional edition",)),
    ): spreadsheet(*PLAIN_ROWS, master=HEADER),
    in_table("two paragraphs in a cell", "jetty", "mooring", hidden=("jettymooring",)): with_cell(
        paragraphs_cell("jetty", "mooring")
    ),
    in_table("a word in two spans", "breakwater", hidden=("break water",)): with_cell(
        paragraphs_cell('break<text:span text:style-name="bold">water</text:span>'), styles=BOLD
    ),
    in_table("several spaces in a cell", "mizzen mast", hidden=("mizzenmast",)): with_cell(
        paragraphs_cell('mizzen<text:s text:c="3"/>mast')
    ),
    after_table("a sheet in Arabic direction"): spreadsheet(
        *PLAIN_ROWS, styles=RIGHT_TO_LEFT, table='table:style-name="right"'
    ),
    in_table("a cell of thousands of words", "lighthouse", "anchorage", "capstan"): with_cell(
        text_cell(LONG_TEXT)
    ),
    after_table("a collapsed group"): spreadsheet(
        *PLAIN_ROWS[:2],
        '<table:table-row-group table:display="false">'
        + row_of("Trieste", "ducats", attributes='table:visibility="collapse"')
        + "</table:table-row-group>",
        PLAIN_ROWS[2],
    ),
    after_table("an expanded group"): spreadsheet(
        PLAIN_ROWS[0], f"<table:table-row-group>{PLAIN_ROWS[1]}{PLAIN_ROWS[2]}</table:table-row-group>"
    ),
    after_table("a help message of a validation", hidden=("Choose a rigging", "Vessel")): with_cell(
        text_cell("thalers", 'table:content-validation-name="v1"'), before=VALIDATION
    ),
    after_table("a named range", hidden=("WharfageRate",)): spreadsheet(*PLAIN_ROWS, after=NAMES),
    after_table("a table that starts in E9"): spreadsheet(
        '<table:table-row table:number-rows-repeated="8"><table:table-cell/></table:table-row>',
        *(row_of('<table:table-cell table:number-columns-repeated="4"/>', *row) for row in TABLE),
    ),
    Feature(
        "equal neighbours in a row",
        ("Harbour", "Dues", "Lindau", "florins", "guilders", "Ostend"),
        rows=(("Lindau", "florins", "guilders"), ("Ostend", "crowns")),
    ): spreadsheet(
        PLAIN_ROWS[0], row_of("Lindau", "florins", "florins", "florins", "guilders"), PLAIN_ROWS[2]
    ),
    Feature(
        "two tables with a gap",
        (*TABLE_WORDS, "Pilots on duty", "Pilot", "Vessel", "Magnus", "sloop"),
        rows=(*TABLE, ("Pilot", "Vessel"), ("Magnus", "sloop")),
    ): spreadsheet(
        *PLAIN_ROWS,
        '<table:table-row table:number-rows-repeated="3"><table:table-cell/></table:table-row>',
        row_of("Pilots on duty"),
        row_of("Pilot", "Vessel"),
        row_of("Magnus", "sloop"),
    ),
}
# Excel writes a decimal point where LibreOffice follows the country of the style.
LIBREOFFICE_ODS: dict[Feature, str] = {
    in_table("a German currency style", "1.234,50 €"): with_format(
        figure("currency", 1234.5), GERMAN_CURRENCY
    ),
}

# What LibreOffice does not write itself, or writes in another way.
ODFPY: dict[Feature, str] = {
    in_table("a percentage with a text", "12.5%", hidden=("0.125",)): with_format(
        figure("percentage", 0.125, "12.5%"), PERCENT
    ),
    in_table("a code with zeros and a text", "000042"): with_format(
        figure("float", 42, "000042"), LEADING_ZEROS
    ),
    in_table("a date with a text", "2024-03-15"): with_format(
        figure("date", "2024-03-15", "2024-03-15"), ISO_DATE
    ),
    in_table("a time beyond a day with a text", "27:30"): with_format(
        figure("time", "PT27H30M00S", "27:30"), LONG_TIME
    ),
    in_table("a boolean with a text", "TRUE"): with_format(figure("boolean", "true", "TRUE"), BOOLEAN),
    in_table("a Swiss currency with a text", "CHF 1,234.50"): with_format(
        figure("currency", 1234.5, "CHF 1,234.50"),
        data_style(
            "currency",
            "<number:currency-symbol>CHF</number:currency-symbol><number:text> </number:text>" + TWO_DECIMALS,
        ),
    ),
    in_table("a figure without a text", "4711"): with_cell(value_cell("float", 4711)),
    in_table("a percentage without a text", "62.5%"): with_format(figure("percentage", 0.625), PERCENT),
    in_table("a date in a style without a text", "2024年3月15日"): with_format(
        figure("date", "2024-03-15"), CHINESE_DATE
    ),
    in_table("a string kept in an attribute", "guilder"): with_cell(
        '<table:table-cell office:value-type="string" office:string-value="guilder"/>'
    ),
    Feature(
        "a repeated cell",
        ("Harbour", "Dues", "Lindau", "florins", "guilders", "Ostend"),
        rows=(("Lindau", "florins", "guilders"), ("Ostend", "crowns")),
    ): with_cell(text_cell("florins", 'table:number-columns-repeated="3"') + text_cell("guilders")),
    Feature("a repeated row", TABLE_WORDS, rows=TABLE): spreadsheet(
        PLAIN_ROWS[0], row_of("Lindau", "thalers", attributes='table:number-rows-repeated="2"'), PLAIN_ROWS[2]
    ),
    after_table("a million repeated empty rows", "winch"): spreadsheet(
        *PLAIN_ROWS,
        '<table:table-row table:number-rows-repeated="1000000"><table:table-cell'
        ' table:number-columns-repeated="1024"/></table:table-row>',
        row_of("winch"),
    ),
    after_table("header rows marked as such"): spreadsheet(
        f"<table:table-header-rows>{PLAIN_ROWS[0]}</table:table-header-rows>", *PLAIN_ROWS[1:]
    ),
    after_table("rows in a body of rows"): spreadsheet(
        f"<table:table-rows>{''.join(PLAIN_ROWS)}</table:table-rows>"
    ),
    after_table("groups within groups"): spreadsheet(
        PLAIN_ROWS[0],
        f"<table:table-row-group>{PLAIN_ROWS[1]}<table:table-row-group>{PLAIN_ROWS[2]}</table:table-row-group>"
        "</table:table-row-group>",
    ),
    after_table("columns in a group"): spreadsheet(
        *PLAIN_ROWS,
        columns="<table:table-column-group><table:table-column/></table:table-column-group><table:table-column/>",
    ),
    in_table("words under a covered cell", "frozen", hidden=("icicle",)): with_cell(
        text_cell("frozen", 'table:number-columns-spanned="2" table:number-rows-spanned="1"')
        + '<table:covered-table-cell office:value-type="string"><text:p>icicle</text:p></table:covered-table-cell>'
    ),
    in_table(
        "spans with spaces between them", "breakwater mole", hidden=("break water", "breakwatermole")
    ): with_cell(
        paragraphs_cell(
            "<text:span>break</text:span><text:span>water</text:span><text:s/><text:span>mole</text:span>"
        )
    ),
    after_table(
        "an annotation of two paragraphs", "Ice delayed", "the barge", hidden=("delayedthe",)
    ): spreadsheet(*PLAIN_ROWS[:2], row_of("Ostend", paragraphs_cell("crowns", others=NOTE))),
    after_table(
        "a frame anchored to a cell", "Beware of rapids", "and reefs", hidden=("rapidsand",)
    ): spreadsheet(*PLAIN_ROWS[:2], row_of("Ostend", paragraphs_cell("crowns", others=TEXT_BOX))),
    after_table("a tracked change", hidden=("doubloons",)): spreadsheet(
        *PLAIN_ROWS,
        before='<table:tracked-changes><table:cell-content-change table:id="ct1"><table:cell-address table:column="1"'
        ' table:row="1" table:table="0"/><office:change-info><dc:creator>warden</dc:creator>'
        "<dc:date>2024-03-15T10:00:00</dc:date></office:change-info><table:previous>"
        '<table:change-track-table-cell office:value-type="string"><text:p>doubloons</text:p>'
        "</table:change-track-table-cell></table:previous></table:cell-content-change></table:tracked-changes>",
    ),
    after_table("a database range", hidden=("Moorings",)): spreadsheet(
        *PLAIN_ROWS,
        after='<table:database-ranges><table:database-range table:name="Moorings"'
        ' table:target-range-address="Tariff.A1:Tariff.B3"/></table:database-ranges>',
    ),
    after_table("a hidden first sheet", hidden=("smuggling",)): spreadsheet(
        *PLAIN_ROWS,
        styles=HIDDEN_TABLE,
        before=sheet_of("Ledger", row_of("smuggling"), attributes='table:style-name="unseen"'),
    ),
    in_table("a cached result of a formula", "730", hidden=("SUM",)): with_cell(
        value_cell("float", 730, 'table:formula="of:=SUM(310;420)"', "730")
    ),
    in_table("an error as a text", "#DIV/0!"): with_cell(
        text_cell("#DIV/0!", 'table:formula="of:=1/0" office:string-value=""')
    ),
    in_table("markup in a text", "<b>bold</b> & brave"): with_cell(text_cell("<b>bold</b> & brave")),
}


def to_element(node: ElementTree.Element) -> element.Element:
    """Turn an element of XML into the element that odfpy writes."""

    def name_of(tag: str) -> tuple[str, str]:
        namespace, _, local = tag[1:].partition("}")
        return namespace, local

    result = element.Element(
        qname=name_of(node.tag),
        qattributes={name_of(name): value for name, value in node.attrib.items()},
        check_grammar=False,
    )
    for part in (node.text, *(part for child in node for part in (child, child.tail))):
        if isinstance(part, str):
            result.addText(part, check_grammar=False)
        elif part is not None:
            result.addElement(to_element(part), check_grammar=False)
    return result


def write_with_odfpy(source: str) -> bytes:
    document = opendocument.OpenDocumentSpreadsheet()
    root = ElementTree.fromstring(source)
    office = "{" + SPACES["office"] + "}"
    for tag, parent in (
        ("styles", document.styles),
        ("automatic-styles", document.automaticstyles),
        ("master-styles", document.masterstyles),
        ("body/" + office + "spreadsheet", document.spreadsheet),
    ):
        for node in root.find(office + tag) or ():
            parent.addElement(to_element(node), check_grammar=False)
    content = BytesIO()
    document.write(content)
    return content.getvalue()


PANDAS: dict[Feature, pandas.DataFrame] = {
    after_table("a frame of pandas"): pandas.DataFrame(TABLE[1:], columns=TABLE[0]),
    in_table("a missing figure in a frame", hidden=("nan", "NaN")): pandas.DataFrame(
        {"Harbour": ["Lindau", "Ostend"], "Dues": [float("nan"), "crowns"]}
    ),
    in_table(
        "the sum of a tenth and a fifth in a frame", "0.3", hidden=("0.30000000000000004",)
    ): pandas.DataFrame({"Harbour": ["Lindau", "Ostend"], "Dues": [0.1 + 0.2, "crowns"]}),
}


def odf_cases(folder: Path) -> Iterator[Case]:
    yield from convert_with_libreoffice(folder, LIBREOFFICE, "fods", ("xlsx", "ods"))
    yield from convert_with_libreoffice(folder, LIBREOFFICE_ODS, "fods", ("ods",))
    for feature, source in ODFPY.items():
        yield save(folder, "odfpy", feature, "ods", write_with_odfpy(source))
    for feature, frame in PANDAS.items():
        content = BytesIO()
        frame.to_excel(content, sheet_name="Tariff", index=False, engine="odf")
        yield save(folder, "pandas", feature, "ods", content.getvalue())
    content = BytesIO()
    columns = pandas.MultiIndex.from_tuples([("Dues", "sail"), ("Dues", "steam"), ("Cargo", "grain")])
    index = pandas.Index(["Lindau", "Ostend"], name="Harbour")
    pandas.DataFrame(
        [["eleven", "twelve", "thirteen"], ["crowns", "thalers", "florins"]], index, columns
    ).to_excel(content, sheet_name="Tariff", engine="odf")
    feature = Feature(
        "a header in two levels of a frame",
        (
            "Dues",
            "sail",
            "steam",
            "grain",
            "Lindau",
            "eleven",
            "twelve",
            "thirteen",
            "Ostend",
            "crowns",
            "florins",
        ),
        rows=(
            ("Dues", "Cargo"),
            ("sail", "steam", "grain"),
            ("Lindau", "eleven", "twelve", "thirteen"),
            ("Ostend", "crowns", "thalers", "florins"),
        ),
    )
    yield save(folder, "pandas", feature, "ods", content.getvalue())


def cases(folder: Path) -> Iterator[Case]:
    """Write the workbooks below ``folder`` and yield their cases."""
    yield from openpyxl_cases(folder)
    yield from xlsxwriter_cases(folder)
    yield from odf_cases(folder)
