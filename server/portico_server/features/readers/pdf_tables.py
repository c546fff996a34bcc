"""Tables of PDF pages with drawn cell borders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import SourceDocument
from portico_server.features.readers.columns import TextBox

MAX_TABLE_PAGES = 500
"""Maximum number of pages in a document that are analysed. Each takes a few tenths of a second."""

MAX_SHAPES = 5_000
"""Maximum number of shapes on a page with tables. A page with more shapes is a drawing."""

MAX_LINE_POINTS = 3.0
"""Maximum thickness in points of a shape that counts as a line."""


@dataclass(frozen=True, slots=True)
class PdfTable:
    """A table: its position on the page when the page's letters are upright, and its rows.

    A row consists of its cells, joined by `` | ``. The first row is the header.
    """

    box: TextBox
    rows: Sequence[str]


class PdfTables:
    """The tables of one document. pdfplumber opens the document only when the first page needs its analysis."""

    def __init__(self, source: SourceDocument) -> None:
        self._source = source
        self._document: Any = None
        self._remaining_pages = MAX_TABLE_PAGES

    def on(self, number: int, page: pdfium.PdfPage, quarters: int) -> list[PdfTable]:
        """Return the tables of page ``number``, counted from 0, from top to bottom, as if the page were turned
        clockwise by ``quarters`` quarter turns.

        Returns no tables if tables are side by side.
        """
        if (
            self._remaining_pages <= 0
            or page.get_mediabox()[:2] != (0, 0)
            or page.get_cropbox() != page.get_mediabox()
        ):
            return []
        if not ruled(page):
            return []
        self._remaining_pages -= 1
        pdf_tables = sorted(self._find(number, page, quarters), key=lambda table: -table.box.top)
        apart = all(above.box.bottom >= below.box.top for above, below in pairwise(pdf_tables))
        return pdf_tables if apart else []

    def close(self) -> None:
        if self._document is not None:
            self._document.close()

    def _find(self, number: int, page: pdfium.PdfPage, quarters: int) -> list[PdfTable]:
        import pdfplumber  # importing takes half a second, so it happens only for documents with tables

        text_box = TextBox(*page.get_mediabox()).rotate(quarters)
        try:
            if page.get_rotation() != 90 * quarters:
                with pdfplumber.open(BytesIO(_page_alone(self._source, number, quarters))) as pdf:
                    return list(_tables_of(pdf.pages[0], text_box))
            if self._document is None:
                content = self._source.content
                self._document = pdfplumber.open(BytesIO(content) if isinstance(content, bytes) else content)
            looked_at = self._document.pages[number]
            pdf_tables = list(_tables_of(looked_at, text_box))
            looked_at.close()
        except Exception:  # noqa: BLE001  # it raises what it likes at a page that PDFium reads well
            return []
        return pdf_tables


def _page_alone(source: SourceDocument, number: int, quarters: int) -> bytes:
    """Return a PDF with only page ``number``, counted from 0, displayed turned clockwise by ``quarters`` quarter
    turns.
    """
    document, single_page = pdfium.PdfDocument(source.content), pdfium.PdfDocument.new()
    try:
        single_page.import_pages(document, [number])
        single_page[0].set_rotation(90 * quarters)
        bytes_io = BytesIO()
        single_page.save(bytes_io)
        return bytes_io.getvalue()
    finally:
        single_page.close()
        document.close()


def _tables_of(page: Any, text_box: TextBox) -> Iterator[PdfTable]:
    """Yield the tables that pdfplumber finds. ``text_box`` is the area of the page when its letters are upright."""
    for table in page.find_tables():
        rows = [" | ".join(_cell_text(cell) for cell in row) for row in table.extract()]
        rows = [row for row in rows if row.strip(" |")]
        if len(rows) > 1 and "|" in rows[0]:
            x0, top, x1, bottom = table.bbox
            yield PdfTable(
                TextBox(text_box.left + x0, text_box.top - bottom, text_box.left + x1, text_box.top - top),
                rows,
            )


def ruled(page: pdfium.PdfPage) -> bool:
    """Return whether a page has lines or boxes that may form a table."""
    across = down = boxes = 0
    try:
        for count, shape in enumerate(page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH], max_depth=3), start=1):
            if count > MAX_SHAPES:
                return False
            left_edge, bottom, right, top = shape.get_bounds()
            across += top - bottom <= MAX_LINE_POINTS < right - left_edge
            down += right - left_edge <= MAX_LINE_POINTS < top - bottom
            boxes += right - left_edge > MAX_LINE_POINTS and top - bottom > MAX_LINE_POINTS
    except pdfium.PdfiumError:
        return False
    return (across >= 2 and down >= 2) or boxes >= 1


def group_rows(rows: Sequence[str], size: int) -> Iterator[tuple[int, str]]:
    """Yield groups of rows of about ``size`` characters below the repeated header, each with the number of its first
    row, where the header is row 1.
    """
    header, pending_rows, first, length = rows[0], list[str](), 2, 0
    for number, row in enumerate(rows[1:], start=2):
        if pending_rows and length + len(row) > size:
            yield first, "\n".join([header, *pending_rows])
            pending_rows, length = [], 0
        first = first if pending_rows else number
        pending_rows.append(row)
        length += len(row)
    yield first, "\n".join([header, *pending_rows])


def _cell_text(value: str | None) -> str:
    return " ".join((value or "").split())
