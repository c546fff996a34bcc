"""PDF: one part per page with text, with the title and bookmarks as headings. Columns are read in order, tables by
rows, and scans by OCR.
"""

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
"""Maximum number of text pieces on a page for detecting columns. The text of a page with more pieces stays
unchanged.
"""


def text_by_columns(page: pdfium.PdfTextPage, text: str) -> str:
    """Return the ``text`` of a page column by column, or unchanged if the page has no interleaved columns."""
    count = page.count_rects()
    if not 2 * MIN_COLUMN_ROWS <= count <= MAX_TEXT_PIECES:
        return text
    quarters = _lies(page)
    pieces = _pieces(page, quarters)
    boxes = list(regions(pieces))
    if len(boxes) < 2:
        return text
    ordered_text = "\n".join(_text_in(page, box, pieces, quarters) for box in boxes)
    # If letters overlap, reordering would lose or duplicate them, so the text stays unchanged.
    return ordered_text if len("".join(ordered_text.split())) == len("".join(text.split())) else text


def _pieces(page: pdfium.PdfTextPage, quarters: int) -> list[TextBox]:
    """Return the pieces of a page's text in the order of the file, as if the page were turned clockwise by
    ``quarters`` quarter turns.
    """
    return [TextBox(*page.get_rect(number)).rotate(quarters) for number in range(page.count_rects())]


def _text_in(page: pdfium.PdfTextPage, region: TextBox, pieces: Sequence[TextBox], quarters: int) -> str:
    """Return the text in a region of a page. The region and ``pieces`` refer to the page turned clockwise by
    ``quarters``.
    """
    if not quarters:
        return _bounded_text(page, region)
    # PDFium does not break the lines of rotated text, so line breaks are added between the pieces.
    column_text = ""
    before: TextBox | None = None
    for piece in pieces:
        if region.holds(piece):
            if before is not None:
                column_text += " " if piece.is_level_with(before) else "\n"
            column_text += _bounded_text(page, piece.rotate(-quarters % 4)).strip()
            before = piece
    return column_text


def _bounded_text(page: pdfium.PdfTextPage, box: TextBox) -> str:
    return str(page.get_text_bounded(left=box.left, bottom=box.bottom, right=box.right, top=box.top))


def _lies(page: pdfium.PdfTextPage) -> int:
    """Return the number of clockwise quarter turns after which most letters of a page are upright."""
    letters = page.count_chars()
    angles = [raw.FPDFText_GetCharAngle(page, number) for number in range(0, letters, letters // 100 + 1)]
    quarters = Counter(round(-angle / (math.pi / 2)) % 4 for angle in angles if angle >= 0)
    return max(quarters, key=lambda quarter: quarters[quarter], default=0)


MAX_BOOKMARKS = 10_000
"""Maximum number of bookmarks that are read."""

OCR_DPI = 300
"""Resolution in dots per inch at which a page is rendered for OCR."""

MAX_OCR_DOTS = 4_000
"""Maximum length of a rendered page's longer edge, in dots."""

ROW_GROUP_CHARS = 800
"""Approximate number of characters in a group of a table's rows."""

_CJK = r"[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
_HYPHEN = re.compile(r"[\x02\ufffe\xad]\n?")  # PDFium's markers for a word hyphenated at the end of a line


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield pages, counted from 1, with the title and the path of bookmarks as headings. The rows of tables are
    separate parts.

    Raises `Unreadable` if the file has a password, is damaged, or contains no text.
    """
    if source.size == 0:
        raise Unreadable("is empty: it contains nothing to index.")
    try:
        document = pdfium.PdfDocument(source.content)
    except pdfium.PdfiumError as error:
        if "assword" in str(error):
            raise Unreadable("is protected by a password. Add a copy without a password.") from error
        raise Unreadable("is not a complete PDF: it is damaged or truncated. Download it again.") from error
    writer = PartWriter()
    tables = PdfTables(source)
    empty = scanned_pages = 0
    try:
        pages = len(document)
        document.init_forms()  # must be called before any page is opened
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
        return f"{number}, and no text was recognised in its images. {ocr.left_out()}".rstrip()
    return f"{number}: it contains images of pages, but OCR is not available; {ocr.how_to_read()}"


@dataclass(frozen=True, slots=True)
class _PdfBlock:
    """A text of a page, or rows of a table on it. For a table, ``row`` is the number of the first row."""

    text: str
    row: int | None = None


def _title(document: pdfium.PdfDocument, name: str) -> str:
    try:
        return titles.clean_title(document.get_metadata_value("Title"), name)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return ""  # the text is indexed without the title


def _headings(document: pdfium.PdfDocument) -> dict[int, tuple[str, ...]]:
    """Return the path of bookmarks for each page, counted from 0. If several bookmarks point to a page, the first
    counts, or the deepest bookmark below it.
    """
    headings: dict[int, tuple[str, ...]] = {}
    path: list[str] = []
    try:
        for mark in islice(document.get_toc(), MAX_BOOKMARKS):
            path = [*path[: mark.level], " ".join(mark.get_title().split())[:200]]
            place = mark.get_dest()
            page = None if place is None else place.get_index()
            if page is not None and page >= 0:
                # If a chapter and its first section begin on the same page, the deeper bookmark is more
                # specific.
                before = headings.get(page, ())
                if before == tuple(path[: len(before)]):
                    headings[page] = tuple(path)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return {}  # if the outline is damaged, only the headings are missing; the text is still indexed
    return headings


def _page(document: pdfium.PdfDocument, number: int, tables: PdfTables) -> tuple[list[_PdfBlock], bool]:
    """Return the blocks of a page from top to bottom, followed by its form fields, and whether OCR was used for
    the page.
    """
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
        raise Unreadable(f"is damaged: page {number + 1} cannot be read. Download it again.") from error


def _content(page: pdfium.PdfPage, number: int, tables: PdfTables) -> tuple[list[_PdfBlock], bool]:
    """Return the blocks of a page's printed content, and whether OCR was used."""
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
    # Without OCR, a page counts as a scan only if it contains an image, because a page with only lines may be
    # a drawing.
    kinds = None if ocr.engine() else [raw.FPDF_PAGEOBJ_IMAGE]
    if next(iter(page.get_objects(filter=kinds, max_depth=2)), None) is None:
        return [], False
    if ocr.passes_over(f"page {number + 1}"):
        return [], bool(ocr.engine())
    text = ocr.recognise(_draw(page))
    return ([_PdfBlock(text)] if text else []), True


MAX_FIELDS = 2_000
"""Maximum number of form fields read on a page."""

MAX_FIELD_CHARS = 10_000
"""Maximum length of a field's value in characters."""

_CHOSEN = {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}
_WRITTEN = {raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}


def _fields(page: pdfium.PdfPage, form: Any) -> Iterator[str]:
    """Yield ``NAME: VALUE`` for each filled form field, with the name that users see. Passwords are skipped.

    The text of the page does not contain the values, because fields draw their own values.
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
                        _form_text(raw.FPDFAnnot_GetFormFieldExportValue, form, annotation)
                        if is_checked
                        else ""
                    )
                else:
                    value = "yes" if is_checked else "no"
            elif (
                kind in _WRITTEN
                and not raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & raw.FPDF_FORMFLAG_TEXT_PASSWORD
            ):
                value = _form_text(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
            else:
                continue
            name = _form_text(raw.FPDFAnnot_GetFormFieldAlternateName, form, annotation)
            name = name or _form_text(raw.FPDFAnnot_GetFormFieldName, form, annotation)
            if value:
                yield f"{name}: {value}" if name else value
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _form_text(ask: Any, form: Any, annotation: Any) -> str:
    """Return a text property of a form field. PDFium is asked for the length in bytes first, then for the UTF-16
    text.
    """
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
    """Return the tables of a page, and the text above, next to and below them."""
    text_box = TextBox(*page.get_mediabox()).rotate(quarters)
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


def _draw(page: pdfium.PdfPage) -> bytes:
    """Render a page as a greyscale image in PGM format."""
    scale = min(OCR_DPI / 72, MAX_OCR_DOTS / max(*page.get_size(), 1.0))
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        data = bytes(bitmap.buffer)
        rows = (data[i * bitmap.stride : i * bitmap.stride + bitmap.width] for i in range(bitmap.height))
        return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(rows)
    finally:
        bitmap.close()


def tidy(text: str) -> str:
    """Join the hyphenated words in the text of a page, and the lines of Chinese text, which can break anywhere."""
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
