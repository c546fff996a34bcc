"""Tables in plain text (csv), notebooks (ipynb), subtitles (srt, vtt) and Markdown (md), each with one feature."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas
from nbformat import v3, v4

from document_features.case import RED_SQUARE, Case, Feature, save

_START, _END = "The mole is closed", "Boats leave at dawn"
_SQUARE = base64.b64encode(RED_SQUARE).decode()
_IN_BASE64 = _SQUARE[:20]


def cases(folder: Path) -> Iterator[Case]:
    """Write the files and yield their cases."""
    for feature, (rows, options) in _WRITTEN_TABLES.items():
        file = io.StringIO(newline="")
        csv.writer(file, **options).writerows(rows)
        yield save(folder, "csv", feature, "csv", file.getvalue())
    for feature, (frame, options) in _FRAMES.items():
        content = io.BytesIO()
        frame.to_csv(content, **options)
        yield save(folder, "pandas", feature, "csv", content.getvalue())
    for feature, table in _TABLES.items():
        yield save(folder, "source", feature, "csv", table)
    for feature, cells in _NOTEBOOKS.items():
        notebook = v4.new_notebook(
            cells=[_markdown(f"# Harbour rules\n\n{_START}."), *cells, _markdown(f"{_END}.")]
        )
        yield save(folder, "nbformat", feature, "ipynb", nbformat.writes(notebook))
    for feature, content_of_notebook in _OTHER_NOTEBOOKS.items():
        yield save(folder, "source", feature, "ipynb", content_of_notebook)
    for feature, cue in _CUES.items():
        yield save(folder, "source", feature, "srt", _srt(_FIRST, *cue, _LAST))
        yield save(folder, "source", feature, "vtt", _vtt(_FIRST, *cue, _LAST))
    for feature, subtitles in _SRT.items():
        yield save(folder, "source", feature, "srt", subtitles)
    for feature, subtitles in _VTT.items():
        yield save(folder, "source", feature, "vtt", subtitles)
    for feature, middle in _MARKDOWN.items():
        yield save(folder, "source", feature, "md", f"# Harbour rules\n\n{_START}.\n\n{middle}\n\n{_END}.\n")
    for feature, text in _MARKDOWN_FILES.items():
        yield save(folder, "source", feature, "md", text)


# ---- csv -----------------------------------------------------------------------------------------------------

_HEADER = ("Harbour", "Dues", "Depth")
_LINDAU, _OSTEND = ("Lindau", "thalers", "nine"), ("Ostend", "crowns", "eleven")


def _table(name: str, *cells: str, hidden: tuple[str, ...] = ()) -> Feature:
    """A feature in the row of Ystad, between the rows of Lindau and Ostend."""
    return Feature(
        name,
        (*_HEADER, *_LINDAU, "Ystad", *cells, *_OSTEND),
        (_HEADER, _LINDAU, ("Ystad", *cells), _OSTEND),
        hidden,
    )


def _source(*row: str, delimiter: str = ",", end: str = "\n") -> str:
    """Return a table with rows of Lindau, Ystad and Ostend."""
    return "".join(delimiter.join(cells) + end for cells in (_HEADER, _LINDAU, ("Ystad", *row), _OSTEND))


def _rows(*row: str) -> list[Sequence[str]]:
    return [_HEADER, _LINDAU, ("Ystad", *row), _OSTEND]


_LONG_CELL = " ".join(["lighthouse", *["spray and foam"] * 2000, "capstan"])

_WRITTEN_TABLES: dict[Feature, tuple[Sequence[Sequence[str]], dict[str, Any]]] = {
    _table("plain cells", "guilders", "seven"): (_rows("guilders", "seven"), {}),
    _table("all cells in quotes", "guilders", "seven"): (
        _rows("guilders", "seven"),
        {"quoting": csv.QUOTE_ALL},
    ),
    _table("a comma in a cell", "guilders, paid", "seven"): (_rows("guilders, paid", "seven"), {}),
    _table("a line break in a cell", "guilders", "paid later", "seven"): (
        _rows("guilders\npaid later", "seven"),
        {},
    ),
    _table("line breaks of Windows in a cell", "guilders", "paid later", "seven"): (
        _rows("guilders\r\npaid later", "seven"),
        {},
    ),
    _table("an empty line in a cell", "guilders", "paid later", "seven"): (
        _rows("guilders\n\npaid later", "seven"),
        {},
    ),
    _table("doubled quotes", 'the "old" guilders', "seven", hidden=('""old',)): (
        _rows('the "old" guilders', "seven"),
        {},
    ),
    _table("a cell that is a word in quotes", '"guilders"', "seven", hidden=('""',)): (
        _rows('"guilders"', "seven"),
        {},
    ),
    _table("a pipe in a cell", "guilders", "paid", "seven"): (_rows("guilders|paid", "seven"), {}),
    _table("a tab in a cell", "guilders", "paid", "seven"): (_rows("guilders\tpaid", "seven"), {}),
    _table("a very long cell", "lighthouse", "capstan", "seven"): (_rows(_LONG_CELL, "seven"), {}),
    _table("tabs between cells", "guilders", "seven"): (_rows("guilders", "seven"), {"dialect": "excel-tab"}),
    _table("the dialect of Unix", "guilders", "seven"): (_rows("guilders", "seven"), {"dialect": "unix"}),
    _table("quotes around words between semicolons", "guilders; paid", "seven"): (
        _rows("guilders; paid", "seven"),
        {"delimiter": ";", "quotechar": '"', "quoting": csv.QUOTE_NONNUMERIC},
    ),
    _table("a break in a header of semicolons", "guilders", "seven"): (
        [("Harbour", "Dues\nper day", "Depth"), *_rows("guilders", "seven")[1:]],
        {"delimiter": ";"},
    ),
    Feature(
        "forty columns",
        ("Harbour", "column1", "column39", "Lindau", "value1", "value39", "Ostend"),
        (("Lindau", "value1", "value20", "value39"),),
    ): (
        [
            ("Harbour", *(f"column{number}" for number in range(1, 40))),
            ("Lindau", *(f"value{number}" for number in range(1, 40))),
            ("Ostend", *(f"worth{number}" for number in range(1, 40))),
        ],
        {},
    ),
    Feature(
        "two thousand rows",
        ("Harbour", "Dues", "pier1", "crowns1", "pier1000", "pier2000", "crowns2000"),
        (("pier1", "crowns1"), ("pier1000", "crowns1000"), ("pier2000", "crowns2000")),
    ): ([("Harbour", "Dues"), *((f"pier{number}", f"crowns{number}") for number in range(1, 2001))], {}),
}

_FRAME = pandas.DataFrame(
    {"Dues": ["thalers", "guilders", "crowns"], "Depth": [9.25, 7.5, 11.75]},
    index=pandas.Index(["Lindau", "Ystad", "Ostend"], name="Harbour"),
)
_FRAME_WORDS = ("Harbour", "Dues", "Depth", "Lindau", "thalers", "Ystad", "guilders", "Ostend", "crowns")


def _frame(name: str, *figures: str) -> Feature:
    """A feature of the whole frame, with the depths of Lindau, Ystad and Ostend."""
    return Feature(
        name,
        _FRAME_WORDS,
        tuple(
            (*words, figure)
            for words, figure in zip(
                (("Lindau", "thalers"), ("Ystad", "guilders"), ("Ostend", "crowns")), figures, strict=True
            )
        ),
    )


_FRAMES: dict[Feature, tuple[pandas.DataFrame, dict[str, Any]]] = {
    _frame("a named index", "9.25", "7.5", "11.75"): (_FRAME, {}),
    _frame("decimal commas", "9,25", "7,5", "11,75"): (_FRAME, {"sep": ";", "decimal": ","}),
    _frame("UTF-16", "9.25", "7.5", "11.75"): (_FRAME, {"encoding": "utf-16", "sep": "\t"}),
    _frame("a byte order mark of pandas", "9.25", "7.5", "11.75"): (_FRAME, {"encoding": "utf-8-sig"}),
    _frame("figures of two places", "9.25", "7.50", "11.75"): (_FRAME, {"float_format": "%.2f"}),
    _frame("pipes between cells", "9.25", "7.5", "11.75"): (_FRAME, {"sep": "|"}),
    Feature(
        "an index without a name",
        ("Dues", "Depth", "0", "Lindau", "thalers", "1", "Ystad", "2", "Ostend"),
        (("0", "Lindau", "thalers"), ("1", "Ystad", "guilders"), ("2", "Ostend", "crowns")),
    ): (_FRAME.reset_index(), {}),
    Feature(
        "missing values",
        ("Harbour", "Dues", "Depth", "Lindau", "thalers", "Ystad", "Ostend", "crowns"),
        (("Lindau", "thalers", "9.25"), ("Ystad", "7.5"), ("Ostend", "crowns")),
        ("nan", "NaN"),
    ): (_FRAME.assign(Dues=["thalers", None, "crowns"], Depth=[9.25, 7.5, None]), {}),
    Feature(
        "columns with two levels",
        ("Harbour", "Summer", "Summer", "Winter", "Dues", "Depth", "Dues", "Lindau", "thalers", "Ostend"),
        (("Summer", "Winter"), ("Lindau", "thalers", "9", "guilders"), ("Ostend", "crowns", "11", "pounds")),
    ): (
        pandas.DataFrame(
            [("Lindau", "thalers", 9, "guilders"), ("Ostend", "crowns", 11, "pounds")],
            columns=pandas.MultiIndex.from_tuples(
                [("Harbour", ""), ("Summer", "Dues"), ("Summer", "Depth"), ("Winter", "Dues")]
            ),
        ),
        {"index": False},
    ),
    Feature(
        "an index with two levels",
        ("Coast", "Harbour", "Dues", "north", "Lindau", "thalers", "south", "Ostend", "crowns"),
        (("north", "Lindau", "thalers"), ("north", "Ystad", "guilders"), ("south", "Ostend", "crowns")),
    ): (
        _FRAME.reset_index()
        .assign(Coast=["north", "north", "south"])
        .set_index(["Coast", "Harbour"])[["Dues"]],
        {},
    ),
    Feature(
        "no header of pandas",
        ("Lindau", "thalers", "Ystad", "guilders", "Ostend", "crowns"),
        (("Lindau", "thalers", "9.25"), ("Ystad", "guilders", "7.5"), ("Ostend", "crowns", "11.75")),
    ): (_FRAME, {"header": False}),
}


def _lines(name: str, *lines: tuple[str, ...], hidden: tuple[str, ...] = ()) -> Feature:
    """A feature of a table with these rows."""
    return Feature(name, tuple(word for line in lines for word in line), lines, hidden)


_PLAIN = (_HEADER, _LINDAU, _OSTEND)
_PLAIN_SOURCE = "Harbour,Dues,Depth\nLindau,thalers,nine\nOstend,crowns,eleven\n"

_TABLES: dict[Feature, str | bytes] = {
    _table("semicolons between cells", "guilders", "seven"): _source("guilders", "seven", delimiter=";"),
    _table("tabs in a file named csv", "guilders", "seven"): _source("guilders", "seven", delimiter="\t"),
    _table("a line which names the delimiter", "guilders, paid", "seven", hidden=("sep=",)): "sep=;\r\n"
    + _source("guilders, paid", "seven", delimiter=";", end="\r\n"),
    _table("a byte order mark", "guilders", "seven", hidden=("\ufeff", "ï»¿")): _source(
        "guilders", "seven"
    ).encode("utf-8-sig"),
    _table("a byte order mark before quotes", "guilders", "seven", hidden=("\ufeff", '"Harbour')): (
        '"Harbour","Dues","Depth"\n"Lindau","thalers","nine"\n"Ystad","guilders","seven"\n"Ostend","crowns","eleven"\n'
    ).encode("utf-8-sig"),
    _table("UTF-16 with the high byte first", "Gülden", "sieben"): b"\xfe\xff"
    + _source("Gülden", "sieben", delimiter="\t").encode("utf-16-be"),
    _table("Latin-1", "Gülden für Schiffe", "sieben"): _source("Gülden für Schiffe", "sieben").encode(
        "latin-1"
    ),
    _table("Windows-1252", "12 € “paid”", "sieben"): _source("12 € “paid”", "sieben", delimiter=";").encode(
        "windows-1252"
    ),
    _table("GB18030", "泊位费每日十二元", "水深七米"): _source("泊位费每日十二元", "水深七米").encode(
        "gb18030"
    ),
    _table("Shift-JIS", "港の係留料は十二円です", "水深は七メートル"): _source(
        "港の係留料は十二円です", "水深は七メートル"
    ).encode("shift_jis"),
    _table("Windows-1251", "Причал закрыт до весны", "глубина семь метров"): _source(
        "Причал закрыт до весны", "глубина семь метров"
    ).encode("windows-1251"),
    _table("line ends of old Macs", "guilders", "seven"): _source("guilders", "seven", end="\r"),
    _table("line ends of two kinds", "guilders", "seven"): (
        "Harbour,Dues,Depth\r\nLindau,thalers,nine\nYstad,guilders,seven\r\nOstend,crowns,eleven\n"
    ),
    _table("no line end after the last row", "guilders", "seven"): _source("guilders", "seven").rstrip(),
    _table("an empty cell", "seven"): _source("", "seven"),
    _table("a short row", "guilders"): _source("guilders"),
    _table("a long row", "guilders", "seven", "buoyed"): _source("guilders", "seven", "buoyed"),
    _table("spaces after the delimiters", "guilders", "seven"): _source(" guilders", " seven"),
    _table("a quote within a cell", 'a 5" pipe', "seven"): _source('a 5" pipe', "seven"),
    _table("an apostrophe", "skipper's guilders", "seven"): _source("skipper's guilders", "seven"),
    _table("single quotes", "'old' guilders", "seven"): _source("'old' guilders", "seven"),
    _table("a backslash before quotes", "guilders", "seven"): _source('"the \\"old\\" guilders"', "seven"),
    _table("a backslash in a cell", "S:\\quay", "seven"): _source("S:\\quay", "seven"),
    _table("semicolons in a cell", "guilders; thalers; pounds", "seven"): _source(
        "guilders; thalers; pounds", "seven"
    ),
    _table("decimal commas in quotes", "12,50", "7,25"): _source('"12,50"', '"7,25"'),
    _table("decimal commas between semicolons", "12,50", "7,25"): _source("12,50", "7,25", delimiter=";"),
    _table("points between thousands", "1.234,50", "7,25"): _source("1.234,50", "7,25", delimiter=";"),
    _table("commas between thousands", "1,234.50", "7.25"): _source('"1,234.50"', "7.25"),
    _table("negative figures and percentages", "-12.5", "15%"): _source("-12.5", "15%"),
    _table("an address with a comma", "Pier 4, 8940 Ystad", "seven"): _source(
        '"Pier 4, 8940 Ystad"', "seven"
    ),
    _table("a web address", "https://harbour.example/dues?berth=4&day=7", "seven"): _source(
        "https://harbour.example/dues?berth=4&day=7", "seven"
    ),
    _table("an emoji", "⚓ guilders", "seven"): _source("⚓ guilders", "seven"),
    _table("an ampersand", "Nord & Sons", "seven"): _source("Nord & Sons", "seven"),
    _lines("delimiters at the ends of lines", *_PLAIN): (
        "Harbour,Dues,Depth,,,\nLindau,thalers,nine,,,\nOstend,crowns,eleven,,,\n"
    ),
    _lines("rows of delimiters only", *_PLAIN): (
        "Harbour,Dues,Depth\nLindau,thalers,nine\n,,\n,,\nOstend,crowns,eleven\n,,\n"
    ),
    _lines("empty lines", *_PLAIN): "Harbour,Dues,Depth\n\nLindau,thalers,nine\n\n\nOstend,crowns,eleven\n\n",
    _lines("an empty first column", *_PLAIN): (
        ",Harbour,Dues,Depth\n,Lindau,thalers,nine\n,Ostend,crowns,eleven\n"
    ),
    _lines("lines before the table", ("Dues of spring",), ("Printed by the wharfinger",), *_PLAIN): (
        f"Dues of spring\nPrinted by the wharfinger\n\n{_PLAIN_SOURCE}"
    ),
    _lines("a title with empty cells", ("Dues of spring",), *_PLAIN): f"Dues of spring,,\n{_PLAIN_SOURCE}",
    _lines("keys and values before the table", ("Season", "spring"), ("Printed", "March"), *_PLAIN): (
        f"Season:,spring\nPrinted:,March\n\n{_PLAIN_SOURCE}"
    ),
    _lines(
        "comments", ("Printed by the wharfinger",), *_PLAIN
    ): f"# Printed by the wharfinger\n{_PLAIN_SOURCE}",
    _lines("a note below the table", *_PLAIN, ("Dues are without power",)): (
        f"{_PLAIN_SOURCE}\nDues are without power\n"
    ),
    _lines("a row of totals", *_PLAIN, ("Total", "twenty")): f"{_PLAIN_SOURCE}Total,,twenty\n",
    _lines("a row of units", _HEADER, ("per day", "fathoms"), _LINDAU, _OSTEND): (
        "Harbour,Dues,Depth\n,per day,fathoms\nLindau,thalers,nine\nOstend,crowns,eleven\n"
    ),
    _lines("a header of two rows", ("Summer", "Winter"), _HEADER, _LINDAU, _OSTEND): (
        ",Summer,Winter\nHarbour,Dues,Depth\nLindau,thalers,nine\nOstend,crowns,eleven\n"
    ),
    _lines("no header", _LINDAU, ("Ystad", "guilders", "seven"), _OSTEND): (
        "Lindau,thalers,nine\nYstad,guilders,seven\nOstend,crowns,eleven\n"
    ),
    _lines(
        "no header above figures", ("12", "Lindau", "9.25"), ("15", "Ystad", "7.5"), ("18", "Ostend", "11.75")
    ): ("12,Lindau,9.25\n15,Ystad,7.5\n18,Ostend,11.75\n"),
    _lines("a header only", _HEADER): "Harbour,Dues,Depth\n",
    _lines("one row below the header", _HEADER, _LINDAU): "Harbour,Dues,Depth\nLindau,thalers,nine\n",
    _lines(
        "one column", ("Harbour",), ("Lindau",), ("Ystad",), ("Ostend",)
    ): "Harbour\nLindau\nYstad\nOstend\n",
    _lines("one column with commas", ("Harbour",), ("Lindau, the old",), ("Ystad, the new",)): (
        'Harbour\n"Lindau, the old"\n"Ystad, the new"\n'
    ),
    _lines("two tables", *_PLAIN, ("Tug", "Horses"), ("Albatross", "ninety"), ("Petrel", "forty")): (
        f"{_PLAIN_SOURCE}\nTug,Horses\nAlbatross,ninety\nPetrel,forty\n"
    ),
    _lines("columns with one name", ("Harbour", "Dues", "Dues"), _LINDAU, _OSTEND): (
        "Harbour,Dues,Dues\nLindau,thalers,nine\nOstend,crowns,eleven\n"
    ),
    _lines("a column without a name", ("Harbour", "Depth"), _LINDAU, _OSTEND): (
        "Harbour,,Depth\nLindau,thalers,nine\nOstend,crowns,eleven\n"
    ),
    _lines("a Chinese table", ("港口", "泊位费"), ("宁波", "十二元"), ("青岛", "十五元")): (
        "港口,泊位费\n宁波,十二元\n青岛,十五元\n"
    ),
    _lines("full-width commas in cells", ("港口", "说明"), ("宁波", "泊位费，不含电费"), ("青岛", "另计")): (
        "港口,说明\n宁波,泊位费，不含电费\n青岛,另计\n"
    ),
}


# ---- ipynb ---------------------------------------------------------------------------------------------------


def _cell(
    name: str, *shown: str, rows: tuple[tuple[str, ...], ...] = (), hidden: tuple[str, ...] = ()
) -> Feature:
    """A feature between the first and the last cell of a notebook."""
    return Feature(name, ("Harbour rules", _START, *shown, _END), rows, hidden)


_markdown: Callable[..., Any] = v4.new_markdown_cell


def _code(source: str, *outputs: Any, **metadata: Any) -> Any:
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=7, metadata=metadata)


def _stream(text: str, name: str = "stdout") -> Any:
    return v4.new_output("stream", text=text, name=name)


def _result(**data: Any) -> Any:
    """Return the result of a cell: ``text_plain="x"`` is the text of a result of the type text/plain."""
    return v4.new_output("execute_result", data=_by_type(data), execution_count=7)


def _display(**data: Any) -> Any:
    return v4.new_output("display_data", data=_by_type(data))


def _by_type(data: dict[str, Any]) -> dict[str, Any]:
    return {kind.replace("_", "/", 1): content for kind, content in data.items()}


_NB_ROWS = (("Lindau", "thalers"), ("Ostend", "crowns"))
_NB_HTML = (
    "<div>\n<style scoped>\n    .dataframe tbody tr th {\n        vertical-align: top;\n    }\n</style>\n"
    f"{pandas.DataFrame({'Dues': ['thalers', 'crowns']}, index=['Lindau', 'Ostend']).to_html()}\n</div>"
)
_NB_TEXT = "           Dues\nLindau  thalers\nOstend   crowns"
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="40"><text x="5" y="20">gunwale</text></svg>'
)
_WIDGET = {"model_id": "kelson4711", "version_major": 2, "version_minor": 0}

_NOTEBOOKS: dict[Feature, list[Any]] = {
    _cell("a paragraph", "lantern is lit"): [_markdown("The **lantern** is lit.")],
    _cell("headings of two levels", "Berths", "On the quay", "lantern"): [
        _markdown("## Berths\n\n### On the quay\n\nA lantern.")
    ],
    _cell("a table in Markdown", "Lindau", "thalers", "Ostend", rows=_NB_ROWS): [
        _markdown("| Harbour | Dues |\n|---|---:|\n| Lindau | thalers |\n| Ostend | crowns |")
    ],
    _cell("a nested list in Markdown", "tug", "barge", "lighter"): [
        _markdown("- tug\n    - barge\n- lighter")
    ],
    _cell("a fence with comments in Markdown", "# moor first", "sail"): [
        _markdown("```python\n# moor first\nsail()\n```")
    ],
    _cell("a comment in Markdown", "lantern", hidden=("gunwale",)): [
        _markdown("<!-- gunwale -->\nA lantern.")
    ],
    _cell("a box of HTML in Markdown", "lantern", "is lit", hidden=("alert-info",)): [
        _markdown('<div class="alert alert-info">\n<b>A lantern</b> is lit.\n</div>')
    ],
    _cell("mathematics in Markdown", "draught", "lantern"): [
        _markdown("$$\\text{draught} = \\frac{a}{b}$$\n\nA lantern of $x^2$ watts.")
    ],
    _cell("a picture attached to Markdown", "a red lantern", hidden=(_IN_BASE64,)): [
        _markdown(
            "![a red lantern](attachment:lantern.png)", attachments={"lantern.png": {"image/png": _SQUARE}}
        )
    ],
    _cell("a picture within Markdown", "a red lantern", hidden=(_IN_BASE64,)): [
        _markdown(f"![a red lantern](data:image/png;base64,{_SQUARE})")
    ],
    _cell("code", "draught = length / beam"): [_code("draught = length / beam")],
    _cell("code with a comment", "# moor first", "sail"): [_code("# moor first\nsail()")],
    _cell("a magic command", "%timeit", "sail"): [_code("%timeit sail()")],
    _cell("a cell of HTML", "%%html", "lantern"): [_code("%%html\n<p>A lantern.</p>")],
    _cell("printed text", "sail", "lantern is lit"): [_code("sail()", _stream("lantern is lit\n"))],
    _cell("printed text on two streams", "sail", "lantern is lit", "the oil is low"): [
        _code("sail()", _stream("lantern is lit\n"), _stream("the oil is low\n", "stderr"))
    ],
    _cell("printed text in colour", "sail", "lantern is lit", hidden=("[32m", "[0m")): [
        _code("sail()", _stream("\x1b[32mlantern\x1b[0m is \x1b[1;31mlit\x1b[0m\n"))
    ],
    _cell("a progress bar", "sail", "berth 3 of 3", "lantern", hidden=("berth 1 of 3",)): [
        _code("sail()", _stream("berth 1 of 3\rberth 2 of 3\rberth 3 of 3\nlantern\n"))
    ],
    _cell("a result", "tides", "spring and neap"): [_code("tides", _result(text_plain="'spring and neap'"))],
    _cell("a result and printed text", "tides", "lantern", "spring and neap"): [
        _code("tides", _stream("lantern\n"), _result(text_plain="'spring and neap'"))
    ],
    _cell(
        "a frame as HTML",
        "dues",
        "Dues",
        "Lindau",
        "thalers",
        "Ostend",
        rows=_NB_ROWS,
        hidden=("vertical-align",),
    ): [_code("dues", _result(text_html=_NB_HTML, text_plain=_NB_TEXT))],
    _cell("a frame as text", "dues", "Dues", "Lindau", "thalers", "Ostend", rows=_NB_ROWS): [
        _code("dues", _result(text_plain=_NB_TEXT))
    ],
    _cell("a frame beside other words", "dues", "Lindau", "thalers", "gunwale", hidden=("gunwale text",)): [
        _code(
            "dues",
            _result(
                text_html="<table><tr><td>Lindau</td><td>thalers</td><td>gunwale</td></tr></table>",
                text_plain="Lindau thalers gunwale text",
            ),
        )
    ],
    _cell("a frame with colours", "dues", "Lindau", "thalers", hidden=("background-color", "T_4711")): [
        _code(
            "dues",
            _display(
                text_html='<style type="text/css">#T_4711_row0 {background-color: red}</style>'
                '<table id="T_4711"><tr><th>Lindau</th><td id="T_4711_row0">thalers</td></tr></table>',
                text_plain="<pandas.io.formats.style.Styler at 0x7f>",
            ),
        )
    ],
    _cell("a traceback", "sail", "TideError", "no water under the keel", hidden=("[0;31m", "[0m")): [
        _code(
            "sail()",
            v4.new_output(
                "error",
                ename="TideError",
                evalue="no water under the keel",
                traceback=[
                    "\x1b[0;31m---------------------------------------------------------------------------\x1b[0m",
                    "\x1b[0;31mTideError\x1b[0m                                 Traceback (most recent call last)",
                    "Cell \x1b[0;32mIn[7], line 1\x1b[0m\n\x1b[0;32m----> 1\x1b[0m sail()",
                    "\x1b[0;31mTideError\x1b[0m: no water under the keel",
                ],
            ),
        )
    ],
    _cell("a result as mathematics", "root", "mast"): [
        _code("root", _result(text_latex="$\\displaystyle \\sqrt{mast}$", text_plain="sqrt(mast)"))
    ],
    _cell("a plot", "plot", hidden=(_IN_BASE64, "Figure size")): [
        _code("plot()", _display(image_png=f"{_SQUARE}\n", text_plain="<Figure size 640x480 with 1 Axes>"))
    ],
    _cell("a drawing as SVG", "draw", "gunwale", hidden=("www.w3.org",)): [
        _code(
            "draw()", _display(**{"image_svg+xml": _SVG, "text_plain": "<IPython.core.display.SVG object>"})
        )
    ],
    _cell("a result as Markdown", "note", "lantern is lit", hidden=("IPython.core",)): [
        _code(
            "note()",
            _display(
                text_markdown="The **lantern** is lit.", text_plain="<IPython.core.display.Markdown object>"
            ),
        )
    ],
    _cell("a result as HTML", "note", "lantern", "is lit", hidden=("IPython.core",)): [
        _code(
            "note()",
            _display(
                text_html="<p>The <b>lantern</b> is lit.</p>", text_plain="<IPython.core.display.HTML object>"
            ),
        )
    ],
    _cell("a script as result", "load", hidden=("gunwale",)): [
        _code("load()", _display(application_javascript="window.gunwale = 1;"))
    ],
    _cell("a raw cell", "lantern"): [v4.new_raw_cell("A lantern.")],
    _cell("a cell without text", "lantern"): [_code(""), _markdown(""), _markdown("A lantern.")],
    _cell("a Chinese notebook", "泊位费", "收费", "十二元"): [
        _markdown("## 泊位费"),
        _code("收费 = 12", _stream("十二元\n")),
    ],
    _cell("metadata of a cell", "sail", hidden=("gunwale", "kelson")): [
        _code("sail()", papermill={"status": "gunwale"}, toc={"name": "kelson"})
    ],
    _cell("a collapsed output", "sail"): [_code("sail()", _stream("gunwale\n"), collapsed=True)],
    _cell("a widget", "slider", hidden=("kelson4711", "model_id")): [
        _code(
            "slider",
            _display(
                **{
                    "application_vnd.jupyter.widget-view+json": _WIDGET,
                    "text_plain": "IntSlider(value=7, max=9)",
                }
            ),
        )
    ],
    _cell("two results in one cell", "dues", "lantern", "windlass"): [
        _code("dues", _display(text_plain="'lantern'"), _display(text_plain="'windlass'"))
    ],
}


def _notebook(*cells: dict[str, Any], **rest: Any) -> str:
    """Return a notebook as programs without nbformat write it, with lists of lines."""
    first = {"cell_type": "markdown", "metadata": {}, "source": ["# Harbour rules\n", "\n", f"{_START}."]}
    last = {"cell_type": "markdown", "metadata": {}, "source": [f"{_END}."]}
    content = {"cells": [first, *cells, last], "metadata": {}, "nbformat": 4, "nbformat_minor": 2, **rest}
    return json.dumps(content, indent=1)


def _code_as_json(source: str | list[str], *outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "source": source,
        "outputs": list(outputs),
    }


def _old_notebook(*cells: Any) -> str:
    worksheet = v3.new_worksheet(
        cells=[
            v3.new_heading_cell("Harbour rules", level=1),
            v3.new_text_cell("markdown", source=f"{_START}."),
            *cells,
            v3.new_text_cell("markdown", source=f"{_END}."),
        ]
    )
    return str(v3.writes_json(v3.new_notebook(name="gunwale", worksheets=[worksheet])))


_OTHER_NOTEBOOKS: dict[Feature, str] = {
    _cell("lines as lists", "tug = 1", "barge = 2", hidden=("1barge",)): _notebook(
        _code_as_json(["tug = 1\n", "barge = 2"])
    ),
    _cell("printed lines as lists", "sail", "lantern", "windlass", hidden=("lanternwindlass",)): _notebook(
        _code_as_json(
            "sail()", {"output_type": "stream", "name": "stdout", "text": ["lantern\n", "windlass\n"]}
        )
    ),
    _cell("a word printed in two pieces", "sail", "lantern"): _notebook(
        _code_as_json("sail()", {"output_type": "stream", "name": "stdout", "text": ["lan", "tern\n"]})
    ),
    _cell("letters as escapes", "泊位费", "Gebühr"): _notebook(_code_as_json("泊位费 = 'Gebühr'")),
    _cell("HTML as a list of lines", "dues", "Lindau", "thalers", rows=(("Lindau", "thalers"),)): _notebook(
        _code_as_json(
            "dues",
            {
                "output_type": "execute_result",
                "execution_count": 7,
                "metadata": {},
                "data": {
                    "text/html": [
                        "<table>\n",
                        "<tr><td>Lindau</td>\n",
                        "<td>thalers</td></tr>\n",
                        "</table>",
                    ],
                    "text/plain": ["Lindau thalers"],
                },
            },
        )
    ),
    _cell("no outputs", "sail"): _notebook({"cell_type": "code", "metadata": {}, "source": "sail()"}),
    _cell("metadata of the notebook", "sail", hidden=("gunwale", "kelson")): _notebook(
        _code_as_json("sail()"),
        metadata={
            "toc": {"base": "gunwale"},
            "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"kelson": {}}}},
        },
    ),
    _cell("identifiers of cells", "sail", hidden=("gunwale",)): _notebook(
        {**_code_as_json("sail()"), "id": "gunwale"}, nbformat_minor=5
    ),
    _cell("another language", "library(tide)", "spring and neap"): _notebook(
        _code_as_json(
            "library(tide)", {"output_type": "stream", "name": "stdout", "text": ['[1] "spring and neap"\n']}
        ),
        metadata={"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}},
    ),
    _cell("a notebook of version 3", "Berths", "sail", "lantern is lit"): _old_notebook(
        v3.new_heading_cell("Berths", level=2),
        v3.new_code_cell("sail()", prompt_number=7, outputs=[v3.new_output("stream", "lantern is lit\n")]),
    ),
    _cell("a result in a notebook of version 3", "tides", "spring and neap"): _old_notebook(
        v3.new_code_cell("tides", prompt_number=7, outputs=[v3.new_output("pyout", "'spring and neap'")])
    ),
    _cell(
        "a traceback in a notebook of version 3", "sail", "TideError", "no water", hidden=("[0;31m",)
    ): _old_notebook(
        v3.new_code_cell(
            "sail()",
            prompt_number=7,
            outputs=[
                v3.new_output(
                    "pyerr",
                    ename="TideError",
                    evalue="no water",
                    traceback=["\x1b[0;31mTideError\x1b[0m: no water"],
                )
            ],
        )
    ),
    _cell(
        "a table in a notebook of version 3", "dues", "Lindau", "thalers", rows=(("Lindau", "thalers"),)
    ): _old_notebook(
        v3.new_code_cell(
            "dues",
            prompt_number=7,
            outputs=[
                v3.new_output(
                    "pyout",
                    "Lindau thalers",
                    output_html="<table><tr><td>Lindau</td><td>thalers</td></tr></table>",
                )
            ],
        )
    ),
    _cell("a plot in a notebook of version 3", "plot", hidden=(_IN_BASE64,)): _old_notebook(
        v3.new_code_cell(
            "plot()", prompt_number=7, outputs=[v3.new_output("display_data", output_png=_SQUARE)]
        )
    ),
}


# ---- srt and vtt ---------------------------------------------------------------------------------------------


def _cue(name: str, *shown: str, hidden: tuple[str, ...] = ()) -> Feature:
    """A feature of cues between the first and the last cue."""
    return Feature(name, (_START, *shown, _END), hidden=("-->", *hidden))


_Cue = tuple[float, float, str]
_FIRST: _Cue = (1.25, 3.5, _START)
_LAST: _Cue = (61.125, 64.75, _END)


def _time(seconds: float, point: str) -> str:
    whole = int(seconds)
    return (
        f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{round((seconds - whole) * 1000):03}"
    )


def _srt(*cues: _Cue, point: str = ",", end: str = "\n", first: int = 1) -> str:
    return end.join(
        f"{number}{end}{_time(start, point)} --> {_time(stop, point)}{end}{text}{end}"
        for number, (start, stop, text) in enumerate(cues, first)
    )


def _vtt(*cues: _Cue, head: str = "WEBVTT", settings: str = "") -> str:
    return f"{head}\n\n" + "\n".join(
        f"{_time(start, '.')} --> {_time(stop, '.')}{settings}\n{text}\n" for start, stop, text in cues
    )


def _said(text: str) -> tuple[_Cue]:
    """Return one cue in the middle."""
    return ((12.375, 15.625, text),)


_CUES: dict[Feature, tuple[_Cue, ...]] = {
    _cue("a cue of one line", "lantern is lit"): _said("The lantern is lit."),
    _cue("a cue of two lines", "the harbour", "master waves", hidden=("harbourmaster",)): _said(
        "And the harbour\nmaster waves."
    ),
    _cue("times", "lantern", hidden=("00:00:12", "15,625", "15.625", "00:00:01")): _said("A lantern."),
    _cue("words in italics", "lantern is lit", hidden=("<i>", "</i>")): _said("The <i>lantern</i> is lit."),
    _cue("words in bold and underlined", "lantern is lit", hidden=("<b>", "<u>")): _said(
        "The <b>lantern</b> <u>is lit</u>."
    ),
    _cue("italics in a word", "unmoored", hidden=("un moored",)): _said("She is un<i>moor</i>ed."),
    _cue("italics over two lines", "the harbour", "master waves", hidden=("<i>", "harbourmaster")): _said(
        "<i>And the harbour\nmaster waves.</i>"
    ),
    _cue("tags in tags", "lantern is lit", hidden=("<b>", "</i>")): _said(
        "<b><i>The lantern</i> is lit.</b>"
    ),
    _cue("a tag that is not closed", "lantern is lit", hidden=("<i>",)): _said("<i>The lantern is lit."),
    _cue("dashes of two speakers", "Is the crane free", "Until noon"): _said(
        "- Is the crane free?\n- Until noon."
    ),
    _cue("a speaker in capitals", "PILOT: The tide turns"): _said("PILOT: The tide turns."),
    _cue("a sound in brackets", "[foghorn]"): _said("[foghorn]"),
    _cue("a sound in parentheses", "(gulls cry)"): _said("(gulls cry)"),
    _cue("a song", "♪ Heave away, haul away ♪"): _said("♪ Heave away, haul away ♪"),
    _cue("a figure as text", "1984", "lantern"): ((12.0, 13.0, "1984"), (13.0, 14.0, "A lantern.")),
    _cue("a figure as last line", "The year of the storm", "1984"): _said("The year of the storm:\n1984"),
    _cue("a time as text", "moors at 12:45 sharp"): _said("She moors at 12:45 sharp."),
    _cue("Chinese", "泊位费每日十二元", "请勿停泊"): _said("泊位费每日十二元\n请勿停泊"),
    _cue("two languages", "Berths cost crowns", "泊位费用克朗支付"): _said(
        "Berths cost crowns.\n泊位费用克朗支付。"
    ),
    _cue("Arabic", "المرفأ مغلق"): _said("المرفأ مغلق"),
    _cue("accents", "Gebühren für Außenhäfen"): _said("Gebühren für Außenhäfen."),
    _cue("an emoji", "lantern ⚓"): _said("A lantern ⚓"),
    _cue("cues that overlap", "lantern", "windlass"): (
        (12.0, 18.0, "A lantern."),
        (14.0, 20.0, "A windlass."),
    ),
    _cue("cues without a pause", "lantern", "windlass"): (
        (12.0, 14.0, "A lantern."),
        (14.0, 16.0, "A windlass."),
    ),
    _cue("a sentence over two cues", "The lantern is", "lit at dusk", hidden=("islit",)): (
        (12.0, 14.0, "The lantern is"),
        (14.0, 16.0, "lit at dusk."),
    ),
    _cue("an hour later", "lantern", hidden=("01:02",)): ((3725.5, 3728.5, "A lantern."),),
    _cue("a long cue", "lighthouse", "capstan"): _said(" ".join(["lighthouse", *["spray"] * 300, "capstan"])),
    _cue("spaces around the text", "lantern is lit"): _said("  The lantern is lit.  "),
    _cue("an address on the web", "https://harbour.example/dues"): _said("See https://harbour.example/dues"),
    _cue("an ellipsis and a long dash", "lantern… — is lit"): _said("The lantern… — is lit"),
}

_ROWS_OF_SRT = (_FIRST, *_said("The lantern is lit."), _LAST)
_PLAIN_SRT = _srt(*_ROWS_OF_SRT)


def _srt_in(text: str, codec: str) -> bytes:
    return _srt(_FIRST, *_said(text), _LAST).encode(codec)


_SRT: dict[Feature, str | bytes] = {
    _cue("numbers of cues", "lantern", hidden=("4711", "4712", "4713")): _srt(*_ROWS_OF_SRT, first=4711),
    _cue("points in times", "lantern", hidden=("12.375",)): _srt(*_ROWS_OF_SRT, point="."),
    _cue("hours of one digit", "lantern", hidden=("0:00:12",)): _PLAIN_SRT.replace("00:00:", "0:00:"),
    _cue("times without milliseconds", "lantern", hidden=("00:00:12",)): _PLAIN_SRT.replace(
        ",375", ""
    ).replace(",625", ""),
    _cue("spaces in the line of times", "lantern", hidden=("00:00:12",)): _PLAIN_SRT.replace(
        " --> ", "   -->   "
    ).replace(",625", ",625  "),
    _cue("coordinates", "lantern", hidden=("X1:40", "Y2:480")): _PLAIN_SRT.replace(
        ",625", ",625  X1:40 X2:600 Y1:20 Y2:480"
    ),
    _cue("a place in braces", "lantern", hidden=("an8",)): _srt(
        _FIRST, *_said("{\\an8}The lantern is lit."), _LAST
    ),
    _cue("a point in braces", "lantern", hidden=("pos(",)): _srt(
        _FIRST, *_said("{\\pos(192,204)}The lantern is lit."), _LAST
    ),
    _cue("italics in braces", "lantern is lit", hidden=("i1",)): _srt(
        _FIRST, *_said("The {\\i1}lantern{\\i0} is lit."), _LAST
    ),
    _cue("coloured words", "lantern is lit", hidden=("font", "ff0000")): _srt(
        _FIRST, *_said('The <font color="#ff0000">lantern</font> is lit.'), _LAST
    ),
    _cue("colours and typefaces", "lantern is lit", hidden=("font", "Arial")): _srt(
        _FIRST, *_said('<font face="Arial" size="24"><b>The lantern</b></font> is lit.'), _LAST
    ),
    _cue("a cue without text", "lantern", hidden=("00:00:09",)): _srt(
        _FIRST, (9.0, 10.0, ""), *_said("A lantern."), _LAST
    ),
    _cue("no empty lines between cues", "lantern", hidden=("00:00:12", "4712")): _srt(
        *_ROWS_OF_SRT, first=4711
    ).replace("\n\n", "\n"),
    _cue("two empty lines between cues", "lantern", hidden=("4712",)): _srt(
        *_ROWS_OF_SRT, first=4711
    ).replace("\n\n", "\n\n\n"),
    _cue("no numbers", "lantern", hidden=("00:00:12",)): "\n".join(
        cue.partition("\n")[2] for cue in _PLAIN_SRT.split("\n\n")
    ).replace("\n00:", "\n\n00:"),
    _cue("every cue with one number", "lantern", hidden=("4711",)): _srt(*_ROWS_OF_SRT, first=4711)
    .replace("4712", "4711")
    .replace("4713", "4711"),
    _cue("numbers with zeros", "lantern", hidden=("0002",)): _PLAIN_SRT.replace("\n2\n", "\n0002\n"),
    _cue("empty lines before the first cue", "lantern"): f"\n\n{_PLAIN_SRT}",
    _cue("no line end after the last cue", "lantern"): _PLAIN_SRT.rstrip(),
    _cue("line ends of Windows", "lantern"): _srt(*_ROWS_OF_SRT, end="\r\n"),
    _cue("line ends of old Macs", "lantern", hidden=("00:00:12",)): _srt(*_ROWS_OF_SRT, end="\r"),
    _cue("a byte order mark", "lantern", hidden=("\ufeff", "ï»¿")): _PLAIN_SRT.encode("utf-8-sig"),
    _cue("UTF-16", "Gebühr am Pier", "泊位"): b"\xff\xfe" + _srt_in("Gebühr am Pier\n泊位", "utf-16-le"),
    _cue("UTF-16 with the high byte first", "Gebühr am Pier"): b"\xfe\xff"
    + _srt_in("Gebühr am Pier", "utf-16-be"),
    _cue("Windows-1252", "Gebühr “am Außenhafen”"): _srt_in("Die Gebühr “am Außenhafen”", "windows-1252"),
    _cue("GB18030", "泊位费每日十二元"): _srt_in("泊位费每日十二元，不含电费", "gb18030"),
    _cue("Windows-1251", "Причал закрыт до весны"): _srt_in("Причал закрыт до весны", "windows-1251"),
    _cue("Shift-JIS", "港の係留料は十二円です"): _srt_in("港の係留料は十二円です", "shift_jis"),
    _cue("a sign for less", "nine < eleven"): _srt(_FIRST, *_said("Note: nine < eleven."), _LAST),
    _cue("an ampersand", "Nord & Sons"): _srt(_FIRST, *_said("Nord & Sons"), _LAST),
    _cue("cues out of order", "lantern", "windlass"): _srt(
        _FIRST, (22.0, 24.0, "A windlass."), (12.0, 14.0, "A lantern."), _LAST
    ),
}

_CUES_OF_VTT = (_FIRST, *_said("The lantern is lit."), _LAST)
_PLAIN_VTT = _vtt(*_CUES_OF_VTT)


def _vtt_with(text: str, head: str = "WEBVTT") -> str:
    return _vtt(_FIRST, *_said(text), _LAST, head=head)


def _vtt_before_cue(block: str) -> str:
    """Return subtitles with a block before the cue in the middle."""
    return _PLAIN_VTT.replace("00:00:12", f"{block}\n\n00:00:12")


_VTT: dict[Feature, str | bytes] = {
    _cue("numbers of cues", "lantern", hidden=("4711",)): _PLAIN_VTT.replace("00:00:12", "4711\n00:00:12"),
    _cue("a name of a cue", "lantern", hidden=("gunwale",)): _PLAIN_VTT.replace(
        "00:00:12", "gunwale - 2\n00:00:12"
    ),
    _cue("times without hours", "lantern", hidden=("00:12.375", "00:01.250")): _PLAIN_VTT.replace(
        "00:00:", "00:"
    ).replace("00:01:0", "01:0"),
    _cue("places of cues", "lantern", hidden=("align", "position", "84%")): _vtt(
        *_CUES_OF_VTT, settings=" align:start position:10% line:84%"
    ),
    _cue("a title after the signature", "lantern", hidden=("WEBVTT", "gunwale")): _vtt(
        *_CUES_OF_VTT, head="WEBVTT - gunwale"
    ),
    _cue("headers of the file", "lantern", hidden=("WEBVTT", "Kind", "captions", "Language")): _vtt(
        *_CUES_OF_VTT, head="WEBVTT\nKind: captions\nLanguage: en"
    ),
    _cue("a map of times", "lantern", hidden=("TIMESTAMP", "MPEGTS")): _vtt(
        *_CUES_OF_VTT, head="WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000"
    ),
    _cue("a note", "lantern", hidden=("NOTE", "gunwale")): _vtt_before_cue("NOTE gunwale"),
    _cue("a note of several lines", "lantern", hidden=("NOTE", "gunwale", "kelson")): _vtt_before_cue(
        "NOTE\ngunwale\nkelson"
    ),
    _cue("a style", "lantern", hidden=("STYLE", "::cue", "papayawhip")): _vtt(
        *_CUES_OF_VTT, head="WEBVTT\n\nSTYLE\n::cue {\n  background-color: papayawhip;\n}"
    ),
    _cue("a region", "lantern", hidden=("REGION", "gunwale", "viewportanchor")): _vtt(
        *_CUES_OF_VTT, head="WEBVTT\n\nREGION\nid:gunwale\nwidth:40%\nlines:3\nviewportanchor:10%,90%"
    ),
    _cue("a speaker in a tag", "lantern is lit", hidden=("<v", "</v>")): _vtt_with(
        "<v Ida Holm>The lantern is lit.</v>"
    ),
    _cue("a speaker in a tag that is not closed", "lantern is lit", hidden=("<v",)): _vtt_with(
        "<v Ida Holm>The lantern is lit."
    ),
    _cue("two speakers in a cue", "lantern is lit", "until noon", hidden=("<v", "</v>")): _vtt_with(
        "<v Ida>The lantern is lit.</v>\n<v Nils>Yes, until noon.</v>"
    ),
    _cue("a speaker with a class", "lantern is lit", hidden=("<v", ".loud", "kelson")): _vtt_with(
        "<v.loud.kelson Ida>The lantern is lit.</v>"
    ),
    _cue(
        "a speaker's text over two lines", "the harbour", "master waves", "at noon", hidden=("</v>",)
    ): _vtt_with("<v Ida>And the harbour\nmaster waves</v> at noon"),
    _cue("classes", "lantern is lit", hidden=("<c", "yellow", "bg_blue")): _vtt_with(
        "The <c.yellow.bg_blue>lantern</c> is lit."
    ),
    _cue("a language", "Hafen is wet", hidden=("<lang", "de-DE")): _vtt_with(
        "The <lang de-DE>Hafen</lang> is wet."
    ),
    _cue("times within a cue", "The lantern is lit", hidden=("00:00:13", "13.500")): _vtt_with(
        "The <00:00:13.000>lantern <00:00:13.500>is lit."
    ),
    _cue("times and classes within a cue", "the lantern is lit", hidden=("00:00:13", "<c>")): _vtt_with(
        "the<00:00:13.000><c> lantern</c><00:00:13.500><c> is</c><00:00:14.000><c> lit</c>"
    ),
    _cue("readings above signs", "漢", "かん", "字", hidden=("<ruby", "<rt")): _vtt_with(
        "<ruby>漢<rt>かん</rt>字<rt>じ</rt></ruby>"
    ),
    _cue("entities", "Nord & Sons", "nine < eleven"): _vtt_with(
        "Nord &amp; Sons&lrm;:&nbsp;nine &lt; eleven"
    ),
    _cue("an ampersand", "Nord & Sons"): _vtt_with("Nord & Sons"),
    _cue("a cue without text", "lantern", hidden=("00:00:09",)): _vtt(
        _FIRST, (9.0, 10.0, ""), *_said("A lantern."), _LAST
    ),
    _cue("no empty lines between cues", "lantern", hidden=("00:00:12",)): "WEBVTT\n\n"
    + _PLAIN_VTT.partition("\n\n")[2].replace("\n\n", "\n"),
    _cue("a tab after the signature", "lantern", hidden=("WEBVTT",)): _vtt(
        *_CUES_OF_VTT, head="WEBVTT\tgunwale"
    ),
    _cue("tabs around the arrow", "lantern", hidden=("00:00:12",)): _PLAIN_VTT.replace(" --> ", "\t-->\t"),
    _cue("hours of three digits", "lantern", hidden=("100:00",)): _PLAIN_VTT.replace("00:01:0", "100:01:0"),
    _cue("line ends of Windows", "lantern"): _PLAIN_VTT.replace("\n", "\r\n"),
    _cue("line ends of old Macs", "lantern", hidden=("00:00:12",)): _PLAIN_VTT.replace("\n", "\r"),
    _cue("a byte order mark", "lantern", hidden=("WEBVTT", "\ufeff")): _PLAIN_VTT.encode("utf-8-sig"),
    _cue("no line end after the last cue", "lantern"): _PLAIN_VTT.rstrip(),
    _cue("two lines that roll up", "the lantern is lit", "until the tide turns"): _vtt(
        _FIRST,
        (12.0, 14.0, " \nthe lantern is lit"),
        (14.0, 16.0, "the lantern is lit\nuntil the tide turns"),
        _LAST,
    ),
}


# ---- md ------------------------------------------------------------------------------------------------------


def _md(
    name: str, *shown: str, rows: tuple[tuple[str, ...], ...] = (), hidden: tuple[str, ...] = ()
) -> Feature:
    """A feature between the first and the last paragraph."""
    return Feature(name, ("Harbour rules", _START, *shown, _END), rows, hidden)


_MD_ROWS = (("Harbour", "Dues"), ("Lindau", "thalers"), ("Ostend", "crowns"))
_MD_WORDS = ("Harbour", "Dues", "Lindau", "thalers", "Ostend", "crowns")

_MARKDOWN: dict[Feature, str] = {
    _md("a setext heading", "Berths", "lantern"): "Berths\n------\n\nA lantern.",
    _md(
        "a setext heading of two lines", "Berths on", "the quay", "lantern"
    ): "Berths on\nthe quay\n========\n\nA lantern.",
    _md("a closed heading", "Berths", "lantern", hidden=("Berths ##",)): "## Berths ##\n\nA lantern.",
    _md("headings of six levels", "Berths", "Quays", "Piers", "Moles", "Locks"): (
        "## Berths\n\n### Quays\n\n#### Piers\n\n##### Moles\n\n###### Locks"
    ),
    _md("emphasis in a heading", "Berths of the quay", "lantern"): "## Berths *of the* `quay`\n\nA lantern.",
    _md("an identifier of a heading", "Berths", "lantern", hidden=("{#", "gunwale")): (
        "## Berths {#gunwale}\n\nA lantern."
    ),
    _md("attributes of a heading", "Berths", "lantern", hidden=("{", "gunwale")): (
        "## Berths {.gunwale data-level=2}\n\nA lantern."
    ),
    _md("a hash without a space", "#harbour is a tag"): "#harbour is a tag.",
    _md("nested lists", "tug", "barge", "lighter", "punt"): "- tug\n  - barge\n    - lighter\n- punt",
    _md("a list with paragraphs", "tug", "It waits", "barge"): "1. tug\n\n   It waits.\n\n2. barge",
    _md("a list which starts at seven", "7. tug", "8. barge"): "7. tug\n8. barge",
    _md("a list after a paragraph", "Boats for hire", "tug", "barge"): "Boats for hire:\n* tug\n* barge",
    _md("a list with a table", *_MD_WORDS[:4], rows=_MD_ROWS[:2]): (
        "- Prices:\n\n  | Harbour | Dues |\n  | --- | --- |\n  | Lindau | thalers |"
    ),
    _md(
        "a list with code", "Type this", "sail --now", "Then wait"
    ): "1. Type this:\n\n       sail --now\n\n2. Then wait.",
    _md("tasks", "light the lantern", "oil the windlass"): "- [x] light the lantern\n- [ ] oil the windlass",
    _md("a definition list", "Windlass", "lifts the anchor"): "Windlass\n: It lifts the anchor.",
    _md("a table", *_MD_WORDS, rows=_MD_ROWS): (
        "| Harbour | Dues |\n| ------- | ---- |\n| Lindau | thalers |\n| Ostend | crowns |"
    ),
    _md("a table with alignment", *_MD_WORDS, rows=_MD_ROWS): (
        "| Harbour | Dues |\n| :--- | ---: |\n| Lindau | thalers |\n| Ostend | crowns |"
    ),
    _md("a table without outer pipes", *_MD_WORDS, rows=_MD_ROWS): (
        "Harbour | Dues\n--- | ---\nLindau | thalers\nOstend | crowns"
    ),
    _md(
        "a table with an escaped pipe",
        "Lindau",
        "thalers | guilders",
        "Ostend",
        rows=(("Lindau", "guilders"),),
    ): ("| Harbour | Dues |\n| --- | --- |\n| Lindau | thalers \\| guilders |\n| Ostend | crowns |"),
    _md(
        "a table with code and pipes", "Lindau", "sail | moor", "Ostend", rows=(("Lindau", "sail | moor"),)
    ): ("| Harbour | Order |\n| --- | --- |\n| Lindau | `sail \\| moor` |\n| Ostend | wait |"),
    _md("a table with emphasis", *_MD_WORDS, rows=_MD_ROWS): (
        "| **Harbour** | *Dues* |\n| --- | --- |\n| Lindau | **thalers** |\n| [Ostend](o.md) | `crowns` |"
    ),
    _md(
        "a table with empty cells",
        "Harbour",
        "Dues",
        "Lindau",
        "Ostend",
        "crowns",
        rows=(("Ostend", "crowns"),),
    ): ("| Harbour | Dues |\n| --- | --- |\n| Lindau |  |\n| Ostend | crowns |"),
    _md(
        "a table with line breaks",
        "Lindau",
        "thalers",
        "guilders",
        "Ostend",
        rows=(("Lindau", "thalers", "guilders"),),
    ): ("| Harbour | Dues |\n| --- | --- |\n| Lindau | thalers<br>guilders |\n| Ostend | crowns |"),
    _md("a short row of a table", *_MD_WORDS[:3], "Ostend", "crowns", rows=(("Ostend", "crowns"),)): (
        "| Harbour | Dues |\n| --- | --- |\n| Lindau |\n| Ostend | crowns |"
    ),
    _md(
        "a Chinese table", "港口", "泊位费", "宁波", "十二元", rows=(("港口", "泊位费"), ("宁波", "十二元"))
    ): ("| 港口 | 泊位费 |\n|:---:|---|\n| 宁波 | 十二元 |"),
    _md("a table as HTML", *_MD_WORDS, rows=_MD_ROWS): (
        "<table>\n<tr><th>Harbour</th><th>Dues</th></tr>\n<tr><td>Lindau</td><td>thalers</td></tr>\n"
        "<tr>\n  <td>Ostend</td>\n  <td>crowns</td>\n</tr>\n</table>"
    ),
    Feature("a footnote", ("Harbour rules", _START, "crane", "lifts", _END), (("inspected yearly",),)): (
        "The crane[^1] lifts.\n\n[^1]: It is inspected yearly."
    ),
    Feature(
        "a footnote of two paragraphs", ("crane", "lifts"), (("inspected yearly",), ("never in winter",))
    ): ("The crane[^c] lifts.\n\n[^c]: It is inspected yearly.\n\n    But never in winter."),
    _md("a link", "harbour office"): "See the [harbour office](https://harbour.example/office).",
    _md("a link by reference", "harbour office", "customs house"): (
        "See the [harbour office][1] and the [customs house].\n\n[1]: https://harbour.example/office\n"
        "[customs house]: https://customs.example"
    ),
    _md("an address in angles", "https://harbour.example/dues"): "See <https://harbour.example/dues>.",
    _md("a mail address in angles", "ida@harbour.example"): "Write to <ida@harbour.example>.",
    _md(
        "a bare address", "https://harbour.example/low_tide_dues"
    ): "See https://harbour.example/low_tide_dues today.",
    _md(
        "a wiki link", "Customs house", "harbour office"
    ): "See [[Customs house]] and [[Office 4|harbour office]].",
    _md("a picture", "a red lantern"): "![a red lantern](lantern.png)",
    _md("a picture by reference", "a red lantern"): "![a red lantern][pic]\n\n[pic]: lantern.png",
    _md("a picture within a link", "build passing", "lantern"): (
        "[![build passing](https://ci.example/b.svg)](https://ci.example) A lantern."
    ),
    _md("a picture as HTML", "a red lantern"): '<img src="lantern.png" alt="a red lantern" width="90">',
    _md("a picture in base64", "a red lantern", hidden=(_IN_BASE64,)): (
        f"![a red lantern](data:image/png;base64,{_SQUARE})"
    ),
    _md("a block of HTML", "lantern", "is lit", hidden=("align=", "<div")): (
        '<div align="center">\n\n**A lantern** is lit.\n\n</div>'
    ),
    _md("keys and marks as HTML", "Press Ctrl to sail", "H2O", hidden=("<kbd>", "<sub>")): (
        "Press <kbd>Ctrl</kbd> to sail on H<sub>2</sub>O."
    ),
    _md("a comment", "lantern", hidden=("gunwale",)): "<!-- gunwale -->\n\nA lantern.",
    _md("a comment of several lines", "lantern", hidden=("gunwale", "Kelson")): (
        "<!--\n## Kelson\n\nthe gunwale\n-->\n\nA lantern."
    ),
    _md("a comment in a line", "A lantern is lit", hidden=("gunwale",)): "A lantern <!-- gunwale -->is lit.",
    _md("a comment as a reference", "lantern", hidden=("gunwale",)): "[//]: # (gunwale)\n\nA lantern.",
    _md("details", "More on dues", "eleven crowns", hidden=("<summary>",)): (
        "<details>\n<summary>More on dues</summary>\n\nThey are eleven crowns.\n\n</details>"
    ),
    _md("a fence", "moor()", "sail()"): "```python\nmoor()\nsail()\n```",
    _md("a fence with hashes", "# moor first", "## then sail", "lantern"): (
        "```sh\n# moor first\n## then sail\n```\n\nA lantern."
    ),
    _md("a fence of tildes", "# moor first", "sail()"): "~~~\n# moor first\nsail()\n~~~",
    _md(
        "a fence around a fence", "```", "moor()", "lantern"
    ): "````markdown\n```\nmoor()\n```\n````\n\nA lantern.",
    _md("a fence with a table", "| tug | barge |", "lantern"): "```\n| tug | barge |\n```\n\nA lantern.",
    _md("a fence that is not closed", "moor()"): "```python\nmoor()",
    _md("indented code", "# moor first", "sail()"): "    # moor first\n    sail()",
    _md("code in a line", "sail --now"): "Type `sail --now` to leave.",
    _md("a quote", "lantern", "is lit"): "> A lantern\n> is lit.",
    _md(
        "a quote in a quote", "Is the crane free", "until noon"
    ): "> > Is the crane free?\n>\n> Yes, until noon.",
    _md("a note of GitHub", "lantern is lit"): "> [!NOTE]\n> The lantern is lit.",
    _md(
        "a note of MkDocs", "Low tide", "lantern is lit", hidden=("!!!",)
    ): '!!! warning "Low tide"\n    The lantern is lit.',
    _md("a folded note of MkDocs", "Low tide", "lantern is lit", hidden=("???",)): (
        '??? note "Low tide"\n    The lantern is lit.'
    ),
    _md("a note between colons", "lantern is lit"): ":::note\nThe lantern is lit.\n:::",
    _md("strong and weak emphasis", "lantern is never lit"): "The **lantern** is *never* ***lit***.",
    _md("emphasis in a word", "unmoored", hidden=("un moored",)): "She is un*moor*ed.",
    _md("lines below words", "low_tide_dues and high_tide_dues"): "Set low_tide_dues and high_tide_dues.",
    _md("struck words", "eleven crowns"): "Dues are ~~eleven~~ crowns.",
    _md("escaped characters", "# no heading", "[tug] costs 5* crowns"): (
        "\\# no heading: a \\[tug\\] costs 5\\* crowns"
    ),
    _md("entities", "Nord & Söhne © 2024"): "Nord &amp; S&ouml;hne &copy; 2024",
    _md(
        "a hard break of two spaces", "windward", "leeward", hidden=("windwardleeward",)
    ): "windward  \nleeward",
    _md("a hard break of a backslash", "windward", "leeward", hidden=("windward\\",)): "windward\\\nleeward",
    _md("a sentence over two lines", "the harbour master waves"): "And the harbour\nmaster waves.",
    _md(
        "mathematics in a line", "draught", "lantern"
    ): "The draught is $d = \\frac{a}{b}$ below the lantern.",
    _md("mathematics in a block", "draught"): "$$\n\\text{draught} = \\frac{a}{b}\n$$",
    _md("a rule", "lantern", "windlass"): "A lantern.\n\n---\n\nA windlass.",
    _md("an emoji", "lantern ⚓"): "A lantern ⚓",
    _md("Chinese", "泊位费", "每日十二元"): "## 泊位费\n\n每日**十二元**。",
    _md("a diagram of Mermaid", "Lock", "Quay"): "```mermaid\ngraph TD;\n  Lock-->Quay;\n```",
    _md("an abbreviation", "the VTS is staffed"): "And the VTS is staffed.\n\n*[VTS]: vessel traffic service",
}

_MARKDOWN_FILES: dict[Feature, str | bytes] = {
    Feature("a header of YAML", ("Harbour rules", _START, _END)): (
        f"---\ntitle: Harbour rules\nauthor: Ida Holm\ntags: [quay, mole]\n---\n\n{_START}.\n\n{_END}.\n"
    ),
    Feature("a title in quotes in a header of YAML", ("Harbour: the rules", _START, _END)): (
        f'---\ntitle: "Harbour: the rules"\ndraft: false\n---\n\n{_START}.\n\n{_END}.\n'
    ),
    Feature("a header of TOML", ("Harbour rules", _START, _END)): (
        f'+++\ntitle = "Harbour rules"\ndraft = false\n+++\n\n{_START}.\n\n{_END}.\n'
    ),
    Feature("a rule in the first line", (_START, "lantern", _END)): (
        f"---\n\n{_START}.\n\nA lantern.\n\n---\n\n{_END}.\n"
    ),
    Feature("no heading", (_START, _END)): f"{_START}.\n\n{_END}.\n",
    Feature("a byte order mark", ("Harbour rules", _START, _END), hidden=("\ufeff",)): (
        f"# Harbour rules\n\n{_START}.\n\n{_END}.\n".encode("utf-8-sig")
    ),
    Feature("line ends of Windows", ("Harbour rules", _START, *_MD_WORDS, _END), _MD_ROWS): (
        f"# Harbour rules\r\n\r\n{_START}.\r\n\r\n| Harbour | Dues |\r\n| --- | --- |\r\n| Lindau | thalers |\r\n"
        f"| Ostend | crowns |\r\n\r\n{_END}.\r\n"
    ),
    Feature("UTF-16", ("Harbour rules", _START, "Gebühr", _END)): (
        f"# Harbour rules\n\n{_START}.\n\nDie Gebühr.\n\n{_END}.\n".encode("utf-16")
    ),
    Feature("Windows-1252", ("Harbour rules", _START, "Gebühr “am Außenhafen”", _END)): (
        f"# Harbour rules\n\n{_START}.\n\nDie Gebühr “am Außenhafen”.\n\n{_END}.\n".encode("windows-1252")
    ),
}
