"""PDF: one part for each page that has text, under the bookmarks that lead to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import pypdfium2 as pdfium

from portico_server.knowledge.part import Part, Source, Unreadable, Writer

BOOKMARKS = 10_000
"""Bookmarks that are looked at."""

_CJK = r"[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
_HYPHEN = re.compile(r"[\x02\ufffe\xad]\n?")  # what PDFium puts where a word was broken at the end of a line


def read(source: Source) -> Iterator[Part]:
    """Pages, counted from 1, with the path of bookmarks as headings.

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
    writer = Writer()
    empty = 0
    try:
        pages = len(document)
        headings = _headings(document)
        heading: tuple[str, ...] = ()
        for number in range(pages):
            text = _page(document, number)
            heading = headings.get(number, heading)
            if text:
                yield writer.part(text, page=number + 1, heading=heading)
            else:
                empty += 1
    finally:
        document.close()
    if empty == pages:
        raise Unreadable(
            f"has no text on its {pages} page{'s' * (pages != 1)}: it holds pictures of pages. "
            "Run text recognition (OCR) over it and add the result."
        )


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


def _page(document: pdfium.PdfDocument, number: int) -> str:
    try:
        page = document[number]
        try:
            textpage = page.get_textpage()
            try:
                text = textpage.get_text_range()
            finally:
                textpage.close()
        finally:
            page.close()
    except pdfium.PdfiumError as error:
        raise Unreadable(f"is damaged: page {number + 1} cannot be read. Fetch it again.") from error
    return tidy(text)


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
