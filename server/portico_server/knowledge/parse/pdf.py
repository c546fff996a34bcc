"""PDF: one part for each page with text, under title and bookmarks; columns in reading order, tables by rows, scans by
OCR."""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.core.dataclass import dataclass
from portico_server.knowledge.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.knowledge.parse import ocr
from portico_server.knowledge.parse import section as titles
from portico_server.knowledge.parse.columns import MIN_COLUMN_ROWS, TextBox, regions
from portico_server.knowledge.parse.pdf_picture import draw_page as draw_page
from portico_server.knowledge.parse.pdf_tables import PdfTable, PdfTables, group_rows

MAX_TEXT_PIECES = 1_000
"""Pieces of text of one page; one with more is left as it is."""


def text_by_columns(page: pdfium.PdfTextPage, text: str) -> str:
    """The ``text`` of a page, column by column; as it is if it has none that are torn apart."""
    count = page.count_rects()
    if not 2 * MIN_COLUMN_ROWS <= count <= MAX_TEXT_PIECES:
        return text
    quarters = _lies(page)
    pieces = _pieces(page, quarters)
    boxes = list(regions(pieces))
    if len(boxes) < 2:
        return text
    ordered_text = "\n".join(_text_in(page, box, pieces, quarters) for box in boxes)
    # Letters that lie across each other would be lost, or stand there twice.
    return ordered_text if len("".join(ordered_text.split())) == len("".join(text.split())) else text


def _pieces(page: pdfium.PdfTextPage, quarters: int) -> list[TextBox]:
    """The pieces of a page's text as it is turned clockwise by so many quarters, in the order of the file."""
    return [TextBox(*page.get_rect(number)).turned(quarters) for number in range(page.count_rects())]


def _text_in(page: pdfium.PdfTextPage, region: TextBox, pieces: Sequence[TextBox], quarters: int) -> str:
    """The text of a region of a page that is turned clockwise by so many quarters, as ``pieces`` are."""
    if not quarters:
        return _bounded_text(page, region)
    # PDFium ends no line there.
    column_text = ""
    before: TextBox | None = None
    for piece in pieces:
        if region.holds(piece):
            if before is not None:
                column_text += " " if piece.is_level_with(before) else "\n"
            column_text += _bounded_text(page, piece.turned(-quarters % 4)).strip()
            before = piece
    return column_text


def _bounded_text(page: pdfium.PdfTextPage, box: TextBox) -> str:
    return str(page.get_text_bounded(left=box.left, bottom=box.bottom, right=box.right, top=box.top))


def _lies(page: pdfium.PdfTextPage) -> int:
    """By how many quarters a page is to be turned clockwise for most of its letters to stand upright."""
    letters = page.count_chars()
    angles = [raw.FPDFText_GetCharAngle(page, number) for number in range(0, letters, letters // 100 + 1)]
    quarters = Counter(round(-angle / (math.pi / 2)) % 4 for angle in angles if angle >= 0)
    return max(quarters, key=lambda quarter: quarters[quarter], default=0)


MAX_BOOKMARKS = 10_000
"""Bookmarks that are looked at."""

OCR_DPI = 300
"""Dots per inch at which a page is drawn for that."""

MAX_OCR_DOTS = 4_000
"""Dots along the longer edge, at most."""

ROW_GROUP_CHARS = 800
"""Characters of one group of a table's rows, about."""

_CJK = r"[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
_HYPHEN = re.compile(r"[\x02\ufffe\xad]\n?")  # what PDFium puts where a word was broken at the end of a line


def read(source: SourceDocument) -> Iterator[Part]:
    """Pages, counted from 1, with title and path of bookmarks as headings; a table's rows are parts of their own.

    `Unreadable` for a password, a damaged file, and one without any text.
    """
    if source.size == 0:
        raise Unreadable("is empty: there is nothing in it to index.")
    try:
        document = pdfium.PdfDocument(source.content)
    except pdfium.PdfiumError as error:
        if "assword" in str(error):
            raise Unreadable("is protected by a password. Save a copy without one and add that.") from error
        raise Unreadable("is not a whole PDF: it is damaged or was cut short. Fetch it again.") from error
    writer = PartWriter()
    tables = PdfTables(source)
    empty = scanned_pages = 0
    try:
        pages = len(document)
        document.init_forms()  # before any page is opened
        headings = _headings(document)
        title = _title(document, source.name)
        heading: tuple[str, ...] = ()
        for number in range(pages):
            heading = headings.get(number, heading)
            blocks, scan = _page(document, number, tables)
            scanned_pages += scan
            empty += not blocks
            for block in blocks:
                yield writer.part(
                    block.text, page=number + 1, heading=titles.heading_below(title, heading), row=block.row
                )
    finally:
        tables.close()
        document.close()
    if empty == pages:
        raise Unreadable(_without_text(pages, scanned_pages))


def _without_text(pages: int, scanned_pages: int) -> str:
    number = f"has no text on its {pages} page{'s' * (pages != 1)}"
    if scanned_pages:
        return f"{number}, and none is recognised in the pictures there. {ocr.left_out()}".rstrip()
    return f"{number}: it holds pictures of pages, and nothing here reads them; {ocr.how_to_read()}"


@dataclass(frozen=True, slots=True)
class _PdfBlock:
    """Text of a page, or rows of a table in it, of which ``row`` is the first."""

    text: str
    row: int | None = None


def _title(document: pdfium.PdfDocument, name: str) -> str:
    try:
        return titles.clean_title(document.get_metadata_value("Title"), name)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return ""  # the text is what counts


def _headings(document: pdfium.PdfDocument) -> dict[int, tuple[str, ...]]:
    """The path of bookmarks by the page, from 0, to which the first one of it leads."""
    headings: dict[int, tuple[str, ...]] = {}
    path: list[str] = []
    try:
        for mark in islice(document.get_toc(), MAX_BOOKMARKS):
            path = [*path[: mark.level], " ".join(mark.get_title().split())[:200]]
            place = mark.get_dest()
            page = None if place is None else place.get_index()
            if page is not None and page >= 0:
                # Of several on one page, a chapter and its first section say the same: the deeper one says more.
                before = headings.get(page, ())
                if before == tuple(path[: len(before)]):
                    headings[page] = tuple(path)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return {}  # the text is what counts; a broken outline costs only the headings
    return headings


def _page(document: pdfium.PdfDocument, number: int, tables: PdfTables) -> tuple[list[_PdfBlock], bool]:
    """The blocks of a page from its upper edge down, then what is filled in, and whether it was read as a scan."""
    try:
        page = document[number]
        try:
            fields = list(_fields(page, document.formenv)) if document.formenv is not None else []
            pdf_blocks = [_PdfBlock("\n".join(["Filled in:", *fields]))] if fields else []
            blocks, scan = _content(page, number, tables)
            return [*blocks, *pdf_blocks], scan
        finally:
            page.close()
    except pdfium.PdfiumError as error:
        raise Unreadable(f"is damaged: page {number + 1} cannot be read. Fetch it again.") from error


def _content(page: pdfium.PdfPage, number: int, tables: PdfTables) -> tuple[list[_PdfBlock], bool]:
    """The blocks of what is printed on a page, and whether it was read as a scan."""
    textpage = page.get_textpage()
    try:
        raw_text = textpage.get_text_range()
        text = tidy(raw_text)
        if text:
            quarters = _lies(textpage)
            pdf_tables = tables.on(number, page, quarters)
            if pdf_tables:
                return _around(page, textpage, pdf_tables, quarters), False
            return [_PdfBlock(tidy(text_by_columns(textpage, raw_text)))], False
    finally:
        textpage.close()
    # Without OCR only a page with a picture is reported as a scan; a page of lines alone may be a drawing.
    kinds = None if ocr.engine() else [raw.FPDF_PAGEOBJ_IMAGE]
    if next(iter(page.get_objects(filter=kinds, max_depth=2)), None) is None:
        return [], False
    if ocr.passes_over(f"page {number + 1}"):
        return [], bool(ocr.engine())
    text = ocr.recognise(_drawn(page))
    return ([_PdfBlock(text)] if text else []), True


MAX_FIELDS = 2_000
"""Fields of a form on one page that are read."""

MAX_FIELD_CHARS = 10_000
"""Characters of the value of a field."""

_CHOSEN = {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}
_WRITTEN = {raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}


def _fields(page: pdfium.PdfPage, form: Any) -> Iterator[str]:
    """``NAME: VALUE`` for each field of a form that is filled in, as its author describes it; passwords are left out.

    What is filled in is drawn by the field and not by the page, so that it is not in the text of that.
    """
    for index in range(min(raw.FPDFPage_GetAnnotCount(page), MAX_FIELDS)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            if raw.FPDFAnnot_GetSubtype(annotation) != raw.FPDF_ANNOT_WIDGET:
                continue
            kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
            if kind in _CHOSEN:
                is_checked = bool(raw.FPDFAnnot_IsChecked(form, annotation))
                if kind == raw.FPDF_FORMFIELD_RADIOBUTTON:
                    value = (
                        _told(raw.FPDFAnnot_GetFormFieldExportValue, form, annotation) if is_checked else ""
                    )
                else:
                    value = "yes" if is_checked else "no"
            elif (
                kind in _WRITTEN
                and not raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & raw.FPDF_FORMFLAG_TEXT_PASSWORD
            ):
                value = _told(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
            else:
                continue
            name = _told(raw.FPDFAnnot_GetFormFieldAlternateName, form, annotation)
            name = name or _told(raw.FPDFAnnot_GetFormFieldName, form, annotation)
            if value:
                yield f"{name}: {value}" if name else value
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _told(ask: Any, form: Any, annotation: Any) -> str:
    """What PDFium says of a field: asked for the length in bytes first, then for the text in UTF-16."""
    size = min(ask(form, annotation, None, 0), 2 * MAX_FIELD_CHARS)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    if ask(form, annotation, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size) > size:
        return ""
    return " ".join(buffer.raw.decode("utf-16-le", "replace").replace("\x00", " ").split())


def _around(
    page: pdfium.PdfPage, textpage: pdfium.PdfTextPage, tables: list[PdfTable], quarters: int
) -> list[_PdfBlock]:
    """The tables of a page, and the text above, beside and below them."""
    text_box = TextBox(*page.get_mediabox()).turned(quarters)
    pieces = _pieces(textpage, quarters) if quarters else []
    blocks: list[_PdfBlock] = []

    def take(left_edge: float, bottom: float, right: float, top: float) -> None:
        if right - left_edge > 1 and top - bottom > 1:
            text = tidy(_text_in(textpage, TextBox(left_edge, bottom, right, top), pieces, quarters))
            if text:
                blocks.append(_PdfBlock(text))

    above = text_box.top
    for table in tables:
        box = table.box
        take(text_box.left, box.top, text_box.right, above)
        take(text_box.left, box.bottom, box.left, box.top)
        blocks.extend(_PdfBlock(text, row) for row, text in group_rows(table.rows, ROW_GROUP_CHARS))
        take(box.right, box.bottom, text_box.right, box.top)
        above = box.bottom
    take(text_box.left, text_box.bottom, text_box.right, above)
    return blocks


def _drawn(page: pdfium.PdfPage) -> bytes:
    """A page as a grey picture, in the format PGM."""
    scale = min(OCR_DPI / 72, MAX_OCR_DOTS / max(*page.get_size(), 1.0))
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        data = bytes(bitmap.buffer)
        rows = (data[i * bitmap.stride : i * bitmap.stride + bitmap.width] for i in range(bitmap.height))
        return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(rows)
    finally:
        bitmap.close()


def tidy(text: str) -> str:
    """The text of a page with broken words put together, Chinese ones too: their lines break anywhere."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    text = _HYPHEN.sub("", text)
    lines = text.split("\n")
    longest = max((len(line) for line in lines), default=0)
    joined_lines: list[str] = []
    for line in lines:
        full = joined_lines and len(joined_lines[-1].rsplit("\n", 1)[-1]) >= longest * 0.7
        if full and re.search(_CJK + r"$", joined_lines[-1]) and re.match(_CJK, line):
            joined_lines[-1] += line
        else:
            joined_lines.append(line)
    return "\n".join(joined_lines).strip()
