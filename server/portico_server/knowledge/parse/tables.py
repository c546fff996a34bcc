"""Tables of PDF pages whose cells have drawn borders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.knowledge.document import SourceDocument

PAGES = 500
"""Pages of one document that are looked at closely: that takes some tenths of a second each."""

SHAPES = 5_000
"""Shapes of a page; one with more is a drawing."""

THIN = 3.0
"""Points: a shape that is no wider is a line."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: where it stands, in points from the left and the lower edge of the page, and its rows.

    Each row is its cells with `` | `` between them; the first one is the header.
    """

    left: float
    bottom: float
    right: float
    top: float
    rows: Sequence[str]


class Tables:
    """The tables of one document. The closer look is opened with the first page that needs it."""

    def __init__(self, source: SourceDocument) -> None:
        self._source = source
        self._document: Any = None
        self._left = PAGES

    def on(self, number: int, page: pdfium.PdfPage) -> list[Table]:
        """The tables of a page, counted from 0, from its upper edge down; none if they stand beside each other."""
        if self._left <= 0 or page.get_rotation() or not ruled(page):
            return []
        self._left -= 1
        found = sorted(self._find(number), key=lambda table: -table.top)
        apart = all(above.bottom >= below.top for above, below in pairwise(found))
        return found if apart else []

    def close(self) -> None:
        if self._document is not None:
            self._document.close()

    def _find(self, number: int) -> list[Table]:
        import pdfplumber  # half a second: for documents with tables alone

        try:
            if self._document is None:
                content = self._source.content
                self._document = pdfplumber.open(BytesIO(content) if isinstance(content, bytes) else content)
            page = self._document.pages[number]
            if tuple(page.mediabox[:2]) != (0, 0) or page.cropbox != page.mediabox:
                return []
            height = float(page.height)
            found = []
            for table in page.find_tables():
                rows = [" | ".join(_cell(cell) for cell in row) for row in table.extract()]
                rows = [row for row in rows if row.strip(" |")]
                if len(rows) > 1 and "|" in rows[0]:
                    x0, top, x1, bottom = table.bbox
                    found.append(Table(x0, height - bottom, x1, height - top, rows))
            page.close()
        except Exception:  # noqa: BLE001  # it raises what it likes at a page that PDFium reads well
            return []
        return found


def ruled(page: pdfium.PdfPage) -> bool:
    """Whether a page has lines or boxes from which a table could be made."""
    across = down = boxes = 0
    try:
        for count, shape in enumerate(page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH], max_depth=3), start=1):
            if count > SHAPES:
                return False
            left, bottom, right, top = shape.get_bounds()
            across += top - bottom <= THIN < right - left
            down += right - left <= THIN < top - bottom
            boxes += right - left > THIN and top - bottom > THIN
    except pdfium.PdfiumError:
        return False
    return (across >= 2 and down >= 2) or boxes >= 1


def groups(rows: Sequence[str], size: int) -> Iterator[tuple[int, str]]:
    """Rows in groups of about ``size`` characters below the header, and the number of the first: the header is 1."""
    header, held, first, length = rows[0], list[str](), 2, 0
    for number, row in enumerate(rows[1:], start=2):
        if held and length + len(row) > size:
            yield first, "\n".join([header, *held])
            held, length = [], 0
        first = first if held else number
        held.append(row)
        length += len(row)
    yield first, "\n".join([header, *held])


def _cell(value: str | None) -> str:
    return " ".join((value or "").split())
