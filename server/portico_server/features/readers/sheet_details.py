"""What an xlsx or ods file says about its cells beside their values: how they show, notes, and what is hidden.

Also formulas of an xlsx file that have no stored values, because the program that wrote them does not evaluate
formulas.
"""

from __future__ import annotations

import html
import posixpath
import re
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import field
from itertools import islice, product
from typing import Any, BinaryIO

from lxml import etree

from portico_server.core.dataclass import dataclass
from portico_server.core.words import whole_number
from portico_server.features.chunkers.document import Unreadable
from portico_server.features.readers.number_formats import BUILT_IN_FORMATS
from portico_server.features.readers.office_graphics import (
    caption_lines,
    cell_picture_descriptions,
    description_line,
    undescribed_picture_count,
)
from portico_server.features.readers.opendocument_text import DRAW, OFFICE, TABLE, TEXT, ContentReader
from portico_server.features.readers.sheet_drawings import (
    MAX_DRAWINGS,
    drawing_lines,
    drawings_in,
    page_lines,
)

MAX_SHEET_BYTES = 64 * 1024 * 1024
"""Maximum unpacked size of a sheet in bytes; of larger sheets, only the values are read."""

MAX_STYLED_CELLS = 5_000_000
"""Maximum number of cells of a sheet whose formats are applied."""

MAX_CONTENT_BYTES = 256 * 1024 * 1024
"""Maximum unpacked size of the sheets of an ods file in bytes; of larger ones, only the values are read."""

MAX_SHOWN_TEXTS = 1_000_000
"""Maximum number of cells of a sheet in an ods file whose texts are read."""

MAX_VIEW_BYTES = 100_000
"""Maximum size of what a sheet in an xlsx file says about its view, before its cells."""

MAX_DIGITS = 15
"""Maximum number of digits that a spreadsheet shows of a number without a format."""

MAX_ROWS = 2**20
"""Maximum number of rows of a sheet."""

MAX_COLUMNS = 2**14
"""Maximum number of columns of a sheet."""

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"

_DAMAGE_ERRORS = (zipfile.BadZipFile, KeyError, etree.XMLSyntaxError, NotImplementedError, RuntimeError)
"""Errors of a part of the file that is damaged, encrypted or missing."""

_EMPTY = re.compile(rb"</f>\s*+(?:<v\s*+/>\s*+|<v></v>\s*+)?</c>")
# Each pattern first finds the end of the element, so that an element without one is read only once.
_ERROR = re.compile(
    rb'<(?:\w+:)?c\s(?=[^<>]*+>)((?>[^<>]*?\bt="e")[^<>]*+)>'
    rb"(?:<f[^<>]*/>|<f[^<>]*+>[^<]*+</f>)?<v>([^<]{1,20})</v>"
)
_STYLED = re.compile(rb'<(?:\w+:)?c\s(?=[^<>]*+>)((?>[^<>]*?\bs="(\d{1,5})")[^<>]*+)>')
_WITH_METADATA = re.compile(rb'<(?:\w+:)?c\s(?=[^<>]*+>)((?>[^<>]*?\bvm="(\d{1,7})")[^<>]*+)>')
_HIDDEN_ROW = re.compile(
    rb'<(?:\w+:)?row\s(?=[^<>]*+>)((?>[^<>]*?\b(?:hidden="(?:1|true)"|ht="0(?:\.0)?"))[^<>]*+)>'
)
_HIDDEN_COLUMNS = re.compile(
    rb'<(?:\w+:)?col\s(?=[^<>]*+>)((?>[^<>]*?\b(?:hidden="(?:1|true)"|width="0(?:\.0)?"))[^<>]*+)>'
)
_NO_ZEROS = re.compile(rb'<(?:\w+:)?sheetView\s[^<>]{0,1000}\bshowZeros="(?:0|false)"')
_DATES_OF_1904 = re.compile(rb'\bdate1904="(?:1|true)"')
"""States that the days of a workbook are counted from the year 1904, where a number alone does not say its weekday."""

_OUTLINE = re.compile(rb'\boutlineLevel="[1-7]"')
_FILTER = re.compile(
    rb'<(?:\w+:)?autoFilter\s(?=[^<>]*+(?<!/)>)(?>[^<>]*?\bref="[A-Z]{1,3}(\d{1,7}):[A-Z]{1,3}(\d{1,7})")'
)
_NUMBER_ATTRIBUTE = re.compile(rb'\b(r|min|max)="(\d{1,7})"')
_PLACE = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')
_CELL_NAME = re.compile(r"([A-Z]{1,3})(\d{1,7})")

Cell = tuple[int, int]
"""A row and a column, both counted from 0."""


@dataclass(frozen=True, slots=True)
class SheetArea:
    """The cells of a sheet that have values: its first row and column, and its size."""

    top: int
    left_column: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class SheetDetails:
    """What is known of the cells of a sheet beside their values.

    ``formulas`` have no stored value. ``texts`` are shown instead of the values. ``styles`` has the number of a format
    in ``formats`` for each cell of the area, row by row; it is empty if all cells are plain. ``merged`` has first and
    last cells, or is ``None`` if the reader of values knows them. ``drawn_lines`` are the texts of boxes, pictures and
    charts, and ``page_lines`` those of headers and footers. ``undescribed_picture_count`` counts pictures without a
    description.
    """

    formulas: Mapping[Cell, str] = field(default_factory=dict)
    texts: Mapping[Cell, str] = field(default_factory=dict)
    notes: Mapping[Cell, str] = field(default_factory=dict)
    styles: Sequence[int] = ()
    formats: Sequence[str] = ("",)
    hidden_rows: frozenset[int] = frozenset()
    hidden_columns: frozenset[int] = frozenset()
    merged_ranges: Sequence[tuple[Cell, Cell]] | None = None
    drawn_lines: Sequence[str] = ()
    page_lines: Sequence[str] = ()
    undescribed_picture_count: int = 0
    shows_zeros: bool = True


def sheet_details(file: BinaryIO) -> Callable[[str, SheetArea], SheetDetails]:
    """Return a function that reads the details of a sheet by its name and area. It knows none if the file is not xlsx
    or ods. Raises `Unreadable` if two sheets are the same part of the file.
    """
    file.seek(0)
    paths: Mapping[str, str] = {}
    formats: Sequence[str] = ("",)
    tables: Mapping[str, SheetDetails] = {}
    pictures: Mapping[str, str] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            paths = dict(_sheet_parts(archive))
            formats = _cell_formats(archive) if paths else formats
            pictures = _cell_pictures(archive) if paths else {}
            tables = _opendocument_tables(archive) if not paths else {}
    except _DAMAGE_ERRORS:
        pass  # a sheet of another kind; if the file is damaged, reading the values reports the damage
    finally:
        file.seek(0)

    def details_of(name: str, area: SheetArea) -> SheetDetails:
        if name not in paths:
            return tables.get(name, SheetDetails())
        try:
            with zipfile.ZipFile(file) as archive:
                return _details(archive, paths[name], formats, pictures, area)
        except _DAMAGE_ERRORS:
            return SheetDetails()

    return details_of


def _sheet_parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield, for each sheet, its name and the name of its part in the archive."""
    if "xl/workbook.xml" not in archive.NameToInfo:
        return
    targets = {
        item.get("Id"): item.get("Target", "") for item in _xml_tree(archive, "xl/_rels/workbook.xml.rels")
    }
    names: dict[str, str] = {}
    for sheet in _xml_tree(archive, "xl/workbook.xml").iter(f"{_MAIN}sheet"):
        path = _part_name("xl", str(targets.get(sheet.get(_ID), "")))
        if path not in archive.NameToInfo:
            continue
        name = str(sheet.get("name", ""))
        if path in names:
            raise Unreadable(
                f"is not a complete spreadsheet: its sheets '{names[path][:100]}' and '{name[:100]}' are the same "
                "part of the file. Save it again and add the new file."
            )
        names[path] = name
        if archive.NameToInfo[path].file_size <= MAX_SHEET_BYTES:
            yield name, path


def _part_name(folder: str, target: str) -> str:
    return target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))


def _cell_formats(archive: zipfile.ZipFile) -> Sequence[str]:
    """Return the number format of each cell style; empty for plain numbers and dates."""
    if "xl/styles.xml" not in archive.NameToInfo:
        return ("",)
    styles = _xml_tree(archive, "xl/styles.xml")
    formats: dict[str, str] = {str(number): code for number, code in BUILT_IN_FORMATS.items()}
    for item in styles.iter(f"{_MAIN}numFmt"):
        formats[item.get("numFmtId", "")] = item.get("formatCode", "")
    style_formats = styles.find(f"{_MAIN}cellXfs")
    if style_formats is None:
        return ("",)
    codes = [formats.get(item.get("numFmtId", ""), "") for item in style_formats.iter(f"{_MAIN}xf")]
    has_other_days = _DATES_OF_1904.search(archive.read("xl/workbook.xml")) is not None
    plain_formats = ("0", "General", "@", *(code for code in codes if "aaa" in code and has_other_days))
    return ["" if code in plain_formats else code for code in codes] or ("",)


def _cell_pictures(archive: zipfile.ZipFile) -> Mapping[str, str]:
    """Return the descriptions of pictures in cells by the number of metadata that the cells have."""
    parts = {kind.rpartition("/")[2]: part for _, kind, part in _related_parts(archive, "xl/workbook.xml")}
    kinds = ("sheetMetadata", "rdRichValue", "rdRichValueStructure")
    if not parts.keys() >= {*kinds}:
        return {}
    try:
        return cell_picture_descriptions(*(_xml_tree(archive, parts[kind]) for kind in kinds))
    except _DAMAGE_ERRORS:
        return {}


@dataclass(slots=True)
class _SheetParts:
    """Notes, lines of drawings, and rows that filters hide, which parts of an xlsx file keep for a sheet."""

    notes: Mapping[Cell, str] = field(default_factory=dict)
    drawn_lines: list[str] = field(default_factory=list)
    undescribed_picture_count: int = 0
    filtered_rows: set[int] = field(default_factory=set)

    def read(self, archive: zipfile.ZipFile, kind: str, part: str, hidden_rows: frozenset[int]) -> None:
        """Read one part."""
        if kind.endswith("/comments"):
            self.notes = _notes(archive, part)
        elif kind.endswith("/drawing"):
            self.undescribed_picture_count += undescribed_picture_count(_xml_tree(archive, part))
            charts = [(relation_id, chart) for relation_id, _, chart in _related_parts(archive, part)]
            self.drawn_lines += drawing_lines(archive, part, charts)
        elif kind.endswith("/vmlDrawing"):
            self.drawn_lines += caption_lines(archive.read(part))
        elif kind.endswith("/table") and hidden_rows:
            self.filtered_rows |= _filtered_rows(archive.read(part), hidden_rows)


def _details(
    archive: zipfile.ZipFile, path: str, formats: Sequence[str], pictures: Mapping[str, str], area: SheetArea
) -> SheetDetails:
    data = archive.read(path)
    hidden_rows, hidden_columns = _hidden(data)
    parts = _SheetParts(filtered_rows=_filtered_rows(data, hidden_rows))
    with suppress(*_DAMAGE_ERRORS):
        for _, kind, part in _related_parts(archive, path):
            with suppress(Unreadable, *_DAMAGE_ERRORS):
                parts.read(archive, kind, part, hidden_rows)
    picture_cells = _picture_cells(data, pictures)
    return SheetDetails(
        formulas=_formula_cells(data),
        texts={**_errors(data), **picture_cells},
        notes=parts.notes,
        styles=_styles(data, formats, area),
        formats=formats,
        hidden_rows=hidden_rows - parts.filtered_rows,
        hidden_columns=hidden_columns,
        drawn_lines=_distinct(parts.drawn_lines),
        page_lines=_distinct(page_lines(data)),
        shows_zeros=_NO_ZEROS.search(data, 0, MAX_VIEW_BYTES) is None,
        undescribed_picture_count=parts.undescribed_picture_count + [*picture_cells.values()].count(""),
    )


def _distinct(lines: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(filter(None, map(str.strip, lines))))


def _related_parts(archive: zipfile.ZipFile, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield the ids, types and names of the parts that a part refers to."""
    folder, name = posixpath.split(path)
    relations = f"{folder}/_rels/{name}.rels"
    if relations not in archive.NameToInfo:
        return
    for item in _xml_tree(archive, relations):
        part = _part_name(folder, item.get("Target", ""))
        if part in archive.NameToInfo and archive.NameToInfo[part].file_size <= MAX_SHEET_BYTES:
            yield item.get("Id", ""), item.get("Type", ""), part


def _styles(data: bytes, formats: Sequence[str], area: SheetArea) -> Sequence[int]:
    """Return the number of the format of each cell in an area, row by row; empty if all are plain."""
    size = area.height * area.width
    if not any(formats) or not 0 < size <= MAX_STYLED_CELLS:
        return ()
    cell_styles = array("H", bytes(2 * size))
    style_limit = min(len(formats), 2**16)
    columns: dict[bytes, int] = {}
    for match in _STYLED.finditer(data):
        style = int(match[2])
        place = _PLACE.search(match[1]) if style < style_limit and formats[style] else None
        if place is None:
            continue
        row, name = int(place[2]) - 1 - area.top, place[1]
        if name not in columns:
            columns[name] = column_number(name.decode()) - area.left_column
        column = columns[name]
        if 0 <= row < area.height and 0 <= column < area.width:
            cell_styles[row * area.width + column] = style
    return cell_styles


def _hidden(data: bytes) -> tuple[frozenset[int], frozenset[int]]:
    """Return the hidden rows and columns, without those of collapsed groups, which a click shows."""
    if not any(text in data for text in (b'hidden="', b' width="0', b' ht="0')):
        return frozenset(), frozenset()
    rows: set[int] = set()
    columns: set[int] = set()
    for pattern, numbers in ((_HIDDEN_ROW, rows), (_HIDDEN_COLUMNS, columns)):
        for match in pattern.finditer(data):
            if _OUTLINE.search(match[1]) is None:
                bounds = {key: int(number) for key, number in _NUMBER_ATTRIBUTE.findall(match[1])}
                first = bounds.get(b"r", bounds.get(b"min", 1))
                last = min(bounds.get(b"max", first), MAX_COLUMNS)
                numbers.update(range(first - 1, first) if b"r" in bounds else range(first - 1, last))
    return frozenset(rows), frozenset(columns)


def _filtered_rows(data: bytes, hidden_rows: frozenset[int]) -> set[int]:
    """Return the hidden rows that only a filter hides."""
    if not hidden_rows or b"filterColumn" not in data:
        return set()
    ranges = [(int(match[1]), int(match[2])) for match in _FILTER.finditer(data)][:10]
    return {row for row in hidden_rows for first, last in ranges if first <= row + 1 <= last}


def _errors(data: bytes) -> Mapping[Cell, str]:
    """Return the errors that cells show, such as ``#DIV/0!``."""
    errors: dict[Cell, str] = {}
    for match in _ERROR.finditer(data) if b't="e"' in data else ():
        place = _PLACE.search(match[1])
        if place is not None:
            cell = int(place[2]) - 1, column_number(place[1].decode())
            errors[cell] = html.unescape(match[2].decode("utf-8", "replace"))
    return errors


def _picture_cells(data: bytes, pictures: Mapping[str, str]) -> Mapping[Cell, str]:
    """Return the descriptions of the pictures in cells."""
    cells: dict[Cell, str] = {}
    for match in _WITH_METADATA.finditer(data) if pictures else ():
        place, description = _PLACE.search(match[1]), pictures.get(match[2].decode())
        if place is not None and description is not None:
            cells[int(place[2]) - 1, column_number(place[1].decode())] = description
    return cells


def _notes(archive: zipfile.ZipFile, part: str) -> Mapping[Cell, str]:
    notes: dict[Cell, str] = {}
    for item in _xml_tree(archive, part).iter(f"{_MAIN}comment"):
        place = _CELL_NAME.fullmatch(item.get("ref", ""))
        text = " ".join("".join(piece.text or "" for piece in item.iter(f"{_MAIN}t")).split())
        if place and text:
            # A program that knows no answers to notes shows a sentence about them, which ends in "Comment:".
            notes[int(place[2]) - 1, column_number(place[1])] = (
                text.partition("Comment: ")[2] if text.startswith("[Threaded comment]") else text
            )
    return notes


def _formula_cells(data: bytes) -> Mapping[Cell, str]:
    if not _EMPTY.search(data):
        return {}
    formulas: dict[Cell, str] = {}
    for cell in etree.fromstring(data, _xml_parser()).iter(f"{_MAIN}c"):
        formula, value = cell.findtext(f"{_MAIN}f"), cell.findtext(f"{_MAIN}v")
        place = _CELL_NAME.fullmatch(cell.get("r", ""))
        has_empty_text = cell.get("t") == "str" and cell.find(f"{_MAIN}v") is not None
        if formula and not value and place and not has_empty_text:
            formulas[int(place[2]) - 1, column_number(place[1])] = f"={' '.join(formula.split())}"
    return formulas


_VALUE_TYPE = f"{OFFICE}value-type"
_COLUMNS_REPEATED = f"{TABLE}number-columns-repeated"
_COLUMNS_SPANNED = f"{TABLE}number-columns-spanned"
_ROWS_SPANNED = f"{TABLE}number-rows-spanned"
_TIME_VALUE = f"{OFFICE}time-value"
_DAYS = re.compile(r"-?PT(?:2[4-9]|[3-9][0-9]|[0-9]{3,})H")
_NAMED_DATE = re.compile(r"[^\W\d_]{3}|[年月日时]|^[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?: [AP]M)?$|^[0-9]{4}$")
_NUMBER = re.compile("[0-9]")
_CELL = f"{TABLE}table-cell"
_COVERED = f"{TABLE}covered-table-cell"
_STRING_VALUE = f"{OFFICE}string-value"
_VALUE = f"{OFFICE}value"
_SVG = "{urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0}"
_PARAGRAPH = f"{TEXT}p"
_NUMBER_TYPES = ("float", "percentage", "currency")


@dataclass(frozen=True, slots=True)
class _OpenDocumentTable:
    """The details of a sheet of an ods file while its rows are read."""

    texts: dict[Cell, str] = field(default_factory=dict)
    notes: dict[Cell, str] = field(default_factory=dict)
    merged_ranges: list[tuple[Cell, Cell]] = field(default_factory=list)
    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: set[int] = field(default_factory=set)
    drawings: list[Any] = field(default_factory=list)


def _opendocument_tables(archive: zipfile.ZipFile) -> Mapping[str, SheetDetails]:
    """Return the details of each sheet of an ods file, which stores what the cells show."""
    info = archive.NameToInfo.get("content.xml")
    if info is None or info.file_size > MAX_CONTENT_BYTES:
        return {}
    tables: dict[str, _OpenDocumentTable] = {}
    table = _OpenDocumentTable()
    row = column = depth = 0
    with archive.open(info) as content:
        tags = (f"{TABLE}table", f"{TABLE}table-column", f"{TABLE}shapes", f"{TABLE}table-row")
        for event, item in etree.iterparse(content, ("start", "end"), tag=tags, resolve_entities=False):
            if item.tag == tags[0]:
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1:
                    table, row, column = _OpenDocumentTable(), 0, 0
                    if item.getparent() is not None and item.getparent().tag == f"{OFFICE}spreadsheet":
                        tables.setdefault(item.get(f"{TABLE}name", ""), table)
            elif event == "start" or depth != 1:
                continue  # a table in a cell
            elif item.tag == tags[1]:
                columns = _repeated(item, "columns", column, MAX_COLUMNS)
                table.hidden_columns.update(columns if _is_hidden(item) else ())
                column = columns.stop
            elif item.tag == tags[2]:
                table.drawings.extend(islice(drawings_in(item), MAX_DRAWINGS - len(table.drawings)))
            else:
                rows = _repeated(item, "rows", row, MAX_ROWS)
                table.hidden_rows.update(rows if _is_hidden(item) else ())
                _read_row(table, item, rows)
                row = rows.stop
                item.clear()
    drawn_lines, shown_page_lines = _lines_of_drawings(archive, tables)
    return {
        name: SheetDetails(
            texts=table.texts,
            notes=table.notes,
            merged_ranges=table.merged_ranges,
            hidden_rows=frozenset(table.hidden_rows),
            hidden_columns=frozenset(table.hidden_columns),
            drawn_lines=drawn_lines.get(name, ()),
            page_lines=shown_page_lines,
            undescribed_picture_count=sum(map(_is_undescribed_picture, table.drawings)),
        )
        for name, table in tables.items()
    }


def _lines_of_drawings(
    archive: zipfile.ZipFile, tables: Mapping[str, _OpenDocumentTable]
) -> tuple[Mapping[str, Sequence[str]], Sequence[str]]:
    """Return the lines of the drawings of each sheet of an ods file, and those of the headers and footers of pages."""
    try:
        reader = ContentReader(archive, etree.Element("content"))
        lines = {
            name: _distinct(line for item in table.drawings for _, line in reader.lines_of(item))
            for name, table in tables.items()
        }
        return lines, reader.page_lines()
    except Unreadable:
        return {}, ()  # the styles are damaged


def _is_undescribed_picture(drawing: Any) -> bool:
    """Return whether a drawing is a picture, and not that of a chart, without a description."""
    if drawing.find(f".//{DRAW}image") is None or drawing.find(f".//{DRAW}object") is not None:
        return False
    return not any(description_line(drawing.findtext(f".//{_SVG}{name}")) for name in ("title", "desc"))


def _read_row(table: _OpenDocumentTable, item: Any, rows: range) -> None:
    column = 0
    for cell in item.iterchildren(_CELL, _COVERED):
        names = cell.keys()
        first, column = column, column + 1
        if _COLUMNS_REPEATED in names:
            column = _repeated(cell, "columns", first, MAX_COLUMNS).stop
        shown_text = _shown_text(cell) if _VALUE_TYPE in names else ""
        if shown_text and column - first == len(rows) == 1 and len(table.texts) < MAX_SHOWN_TEXTS:
            table.texts[rows.start, first] = shown_text
        elif shown_text:
            places = islice(product(rows, range(first, column)), MAX_SHOWN_TEXTS - len(table.texts))
            table.texts.update(dict.fromkeys(places, shown_text))
        if len(cell) > 1 or (len(cell) and _VALUE_TYPE not in names):
            _read_annotations(table, cell, (rows.start, first))
        if _ROWS_SPANNED in names or _COLUMNS_SPANNED in names:
            last_row = rows.start + _count(cell, _ROWS_SPANNED) - 1
            last_column = first + _count(cell, _COLUMNS_SPANNED) - 1
            table.merged_ranges.append(((rows.start, first), (last_row, last_column)))


def _read_annotations(table: _OpenDocumentTable, cell: Any, place: Cell) -> None:
    """Read the note and the drawings of a cell."""
    for note in cell.iterchildren(f"{OFFICE}annotation"):
        table.notes[place] = _paragraphs(note)
    cell_drawings = list(drawings_in(cell))
    if cell_drawings and len(table.drawings) < MAX_DRAWINGS:
        table.drawings.extend(map(deepcopy, cell_drawings))
        table.texts[place] = _paragraphs(cell)  # calamine also reads the texts of drawings


def _shown_text(cell: Any) -> str:
    """Return the text that a number, an error, or a time of a day or more shows; empty if its value says the same.

    calamine reads the text of an error as empty, and such a time as ``PT37H30M``.
    """
    kind = cell.get(_VALUE_TYPE)
    if kind == "string":
        return _paragraphs(cell) if cell.get(_STRING_VALUE) == "" else ""
    if kind == "time":
        return _paragraphs(cell) if _DAYS.match(cell.get(_TIME_VALUE, "")) else ""
    if kind == "date":
        return _shown_date(_paragraphs(cell), cell.get(f"{OFFICE}date-value", ""))
    if kind not in _NUMBER_TYPES:
        return ""
    text = _paragraphs(cell)
    if text and (len(text) <= MAX_DIGITS or text != cell.get(_VALUE)):
        return text
    return _digits(cell.get(_VALUE, ""), kind)


def _shown_date(text: str, value: str) -> str:
    """Return a date that is shown with a name, as a time or as a year; a day without the time that is not shown.
    Return an empty text for others, which read better in ISO format.
    """
    if _NAMED_DATE.search(text) or (text and not _NUMBER.search(text)):
        return text
    return value.partition("T")[0] if "T" in value and ":" not in text else ""


def _digits(number: str, kind: str) -> str:
    """Return a number without a format as spreadsheets show it, with 15 digits; empty if it is not a number."""
    try:
        return f"{float(number) * 100:.15g}%" if kind == "percentage" else f"{float(number):.15g}"
    except ValueError:
        return ""


def _is_hidden(item: Any) -> bool:
    """Return whether a row or column is hidden; a click shows those of a collapsed group."""
    groups = (f"{TABLE}table-row-group", f"{TABLE}table-column-group")
    return item.get(f"{TABLE}visibility") == "collapse" and item.getparent().tag not in groups


def _repeated(item: Any, kind: str, first: int, limit: int) -> range:
    """Return the numbers of the rows or columns that an element describes."""
    return range(first, max(first, min(first + _count(item, f"{TABLE}number-{kind}-repeated"), limit)))


def _count(item: Any, name: str) -> int:
    return max(1, whole_number(item.get(name, "1")) or 1)


def _paragraphs(cell: Any) -> str:
    """Return the paragraphs of a cell, without those of its note."""
    lines = list(cell)
    if len(lines) == 1 and not len(lines[0]):
        return " ".join((lines[0].text or "").split()) if lines[0].tag == _PARAGRAPH else ""
    return " ".join(" ".join("".join(line.itertext()) for line in cell.iterchildren(f"{TEXT}p")).split())


def column_number(letters: str) -> int:
    """Return the number of a column, counted from 0, by its name; the inverse of `letters`."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1


def letters(column: int) -> str:
    """Return the name of a column, counted from 0: A, B … Z, AA."""
    name = ""
    column += 1
    while column:
        column, remainder = divmod(column - 1, 26)
        name = chr(65 + remainder) + name
    return name


def _xml_tree(archive: zipfile.ZipFile, path: str) -> etree._Element:
    return etree.fromstring(archive.read(path), _xml_parser())


def _xml_parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True)
