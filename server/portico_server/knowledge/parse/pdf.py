"""PDF: one part for each page that has text, under title and bookmarks; tables by rows, scans by OCR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pypdfium2 as pdfium

from portico_server.knowledge.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.knowledge.parse import columns, ocr
from portico_server.knowledge.parse import title as titles
from portico_server.knowledge.parse.tables import Table, Tables, groups

BOOKMARKS = 10_000
"""Bookmarks that are looked at."""

DPI = 300
"""Dots per inch at which a page is drawn for that."""

DOTS = 4_000
"""Dots along the longer edge, at most."""

GROUP = 800
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
    tables = Tables(source)
    empty = scanned = 0
    try:
        pages = len(document)
        headings = _headings(document)
        title = _title(document, source.name)
        heading: tuple[str, ...] = ()
        for number in range(pages):
            heading = headings.get(number, heading)
            blocks, scan = _page(document, number, tables)
            scanned += scan
            empty += not blocks
            for block in blocks:
                yield writer.part(
                    block.text, page=number + 1, heading=titles.above(title, heading), row=block.row
                )
    finally:
        tables.close()
        document.close()
    if empty == pages:
        raise Unreadable(_without_text(pages, scanned))


def _without_text(pages: int, scanned: int) -> str:
    number = f"has no text on its {pages} page{'s' * (pages != 1)}"
    if scanned:
        return f"{number}, and none is recognised in the pictures there."
    return (
        f"{number}: it holds pictures of pages, and no text recognition (OCR) is set up here. {ocr.INSTALL}."
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Text of a page, or rows of a table in it, of which ``row`` is the first."""

    text: str
    row: int | None = None


def _title(document: pdfium.PdfDocument, name: str) -> str:
    try:
        return titles.stated(document.get_metadata_value("Title"), name)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return ""  # the text is what counts


def _headings(document: pdfium.PdfDocument) -> dict[int, tuple[str, ...]]:
    """The path of bookmarks by the page, from 0, to which the first one of it leads."""
    found: dict[int, tuple[str, ...]] = {}
    path: list[str] = []
    try:
        for mark in islice(document.get_toc(), BOOKMARKS):
            path = [*path[: mark.level], " ".join(mark.get_title().split())[:200]]
            place = mark.get_dest()
            page = None if place is None else place.get_index()
            if page is not None and page >= 0:
                # Of several on one page, a chapter and its first section say the same: the deeper one says more.
                before = found.get(page, ())
                if before == tuple(path[: len(before)]):
                    found[page] = tuple(path)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return {}  # the text is what counts; a broken outline costs only the headings
    return found


def _page(document: pdfium.PdfDocument, number: int, tables: Tables) -> tuple[list[_Block], bool]:
    """The blocks of a page from its upper edge down, and whether it was read as a scan."""
    try:
        page = document[number]
        try:
            textpage = page.get_textpage()
            try:
                raw = textpage.get_text_range()
                text = tidy(raw)
                if text:
                    found = tables.on(number, page)
                    if found:
                        return _around(page, textpage, found), False
                    return [_Block(tidy(columns.in_order(textpage, raw)))], False
            finally:
                textpage.close()
            if not ocr.languages() or next(iter(page.get_objects(max_depth=2)), None) is None:
                return [], False
            text = ocr.recognise(_drawn(page))
            return ([_Block(text)] if text else []), True
        finally:
            page.close()
    except pdfium.PdfiumError as error:
        raise Unreadable(f"is damaged: page {number + 1} cannot be read. Fetch it again.") from error


def _around(page: pdfium.PdfPage, textpage: pdfium.PdfTextPage, tables: list[Table]) -> list[_Block]:
    """The tables of a page, and the text above, beside and below them."""
    width, height = page.get_size()
    blocks: list[_Block] = []

    def take(left: float, bottom: float, right: float, top: float) -> None:
        if right - left > 1 and top - bottom > 1:
            text = tidy(textpage.get_text_bounded(left=left, bottom=bottom, right=right, top=top))
            if text:
                blocks.append(_Block(text))

    above = height
    for table in tables:
        take(0, table.top, width, above)
        take(0, table.bottom, table.left, table.top)
        blocks.extend(_Block(text, row) for row, text in groups(table.rows, GROUP))
        take(table.right, table.bottom, width, table.top)
        above = table.bottom
    take(0, 0, width, above)
    return blocks


def _drawn(page: pdfium.PdfPage) -> bytes:
    """A page as a grey picture, in the format PGM."""
    scale = min(DPI / 72, DOTS / max(*page.get_size(), 1.0))
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
    joined: list[str] = []
    for line in lines:
        full = joined and len(joined[-1].rsplit("\n", 1)[-1]) >= longest * 0.7
        if full and re.search(_CJK + r"$", joined[-1]) and re.match(_CJK, line):
            joined[-1] += line
        else:
            joined.append(line)
    return "\n".join(joined).strip()
