"""PDF: one part per page with text, with the title and bookmarks as headings. Columns are read in order, tables by
rows, and scans by OCR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import (
    NotRead,
    Part,
    PartWriter,
    SourceDocument,
    Unreadable,
)
from portico_server.features.readers import ocr
from portico_server.features.readers import section as titles
from portico_server.features.readers.columns import TextBox
from portico_server.features.readers.paragraphs import Paragraph, TextLine, join_paragraphs
from portico_server.features.readers.pdf_lines import PdfLines
from portico_server.features.readers.pdf_notes import attachments, notes, page_annotations, utf16_text
from portico_server.features.readers.pdf_picture import draw_page as draw_page
from portico_server.features.readers.pdf_seen import seen_lines
from portico_server.features.readers.pdf_streams import open_pdf
from portico_server.features.readers.pdf_tables import PdfTable, PdfTables, group_rows

MAX_BOOKMARKS = 10_000
"""Maximum number of bookmarks that are read."""

OCR_DPI = 300
"""Resolution in dots per inch at which a page is rendered for OCR."""

MAX_OCR_DOTS = 4_000
"""Maximum length of a rendered page's longer edge, in dots."""

ROW_GROUP_CHARS = 800
"""Approximate number of characters in a group of a table's rows."""


def read(source: SourceDocument) -> Iterator[Part | SourceDocument | NotRead]:
    """Yield pages, counted from 1, with the title and the path of bookmarks as headings. The rows of tables are
    separate parts. The attached files follow.

    Raises `Unreadable` if the file has a password, is damaged, or contains no text.
    """
    if source.size == 0:
        raise Unreadable("is empty: it contains nothing to index.")
    try:
        document = open_pdf(source)
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
        inner = list(attachments(document))
    finally:
        tables.close()
        document.close()
    yield from inner
    if empty == pages and not inner:
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
    """Return the blocks of a page from top to bottom, followed by its notes and form fields, and whether OCR was used
    for the page.
    """
    try:
        page = document[number]
        try:
            fields = list(_fields(page, document.formenv)) if document.formenv is not None else []
            pdf_blocks = [_PdfBlock(text)] if (text := "\n".join(notes(page))) else []
            if fields:
                pdf_blocks.append(_PdfBlock("\n".join(["Filled in:", *fields])))
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
        text = textpage.get_text_range()
        if text.strip("\x00 \t\r\n"):
            lines = PdfLines(textpage, text)
            pdf_tables = tables.on(number, page, lines.quarters)
            ordered_lines = lines.ordered([table.box for table in pdf_tables])
            return _blocks(seen_lines(page, ordered_lines, lines.quarters), pdf_tables), False
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


_CHOSEN = {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}
_WRITTEN = {raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}


def _fields(page: pdfium.PdfPage, form: Any) -> Iterator[str]:
    """Yield ``NAME: VALUE`` for each filled form field, with the name that users see. Passwords are skipped.

    The text of the page does not contain the values, because fields draw their own values.
    """
    for annotation_kind, annotation in page_annotations(page):
        if annotation_kind != raw.FPDF_ANNOT_WIDGET:
            continue
        kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
        if kind in _CHOSEN:
            is_checked = bool(raw.FPDFAnnot_IsChecked(form, annotation))
            if kind == raw.FPDF_FORMFIELD_RADIOBUTTON:
                value = (
                    _form_text(raw.FPDFAnnot_GetFormFieldExportValue, form, annotation) if is_checked else ""
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


def _form_text(ask: Any, form: Any, annotation: Any) -> str:
    """Return a text property of a form field."""
    return utf16_text(partial(ask, form, annotation))


def _blocks(lines: Sequence[TextLine], tables: Sequence[PdfTable]) -> list[_PdfBlock]:
    """Return the text of a page and its tables, each table after the last paragraph above it in its column."""
    outside = [line for line in lines if not any(table.box.holds(line.box) for table in tables)]
    paragraphs = join_paragraphs(outside)
    blocks: list[_PdfBlock] = []
    start = 0
    for place, table in sorted(
        ((_place(table.box, paragraphs), table) for table in tables), key=itemgetter(0)
    ):
        blocks.extend(_text_block(paragraphs[start:place]))
        blocks.extend(_PdfBlock(text, row) for row, text in group_rows(table.rows, ROW_GROUP_CHARS))
        start = place
    return [*blocks, *_text_block(paragraphs[start:])]


def _text_block(paragraphs: Sequence[Paragraph]) -> list[_PdfBlock]:
    text = "\n".join(paragraph.text for paragraph in paragraphs)
    return [_PdfBlock(text)] if text else []


def _place(table: TextBox, paragraphs: Sequence[Paragraph]) -> int:
    """Return the number of paragraphs that precede a table."""
    column = [
        (number, paragraph.box.top > table.top)
        for number, paragraph in enumerate(paragraphs)
        if paragraph.box.left < table.right and table.left < paragraph.box.right
    ]
    above = [number for number, is_above in column if is_above]
    if above:
        return above[-1] + 1
    if column:
        return column[0][0]
    return sum(paragraph.box.top > table.top for paragraph in paragraphs)


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
