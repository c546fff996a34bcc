"""PDF: one part for each page that has text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pypdfium2 as pdfium

from portico_server.knowledge.part import Part, Unreadable, Writer

_CJK = r"[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
_HYPHEN = re.compile(r"[\x02\ufffe\xad]\n?")  # what PDFium puts where a word was broken at the end of a line


def read(path: Path) -> Iterator[Part]:
    """Pages, counted from 1. `Unreadable` for a password, a damaged file, and one without any text."""
    if path.stat().st_size == 0:
        raise Unreadable("is empty: there is nothing in it to index.")
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if "assword" in str(error):
            raise Unreadable("is protected by a password. Save a copy without one and add that.") from error
        raise Unreadable("is not a whole PDF: it is damaged or was cut short. Fetch it again.") from error
    writer = Writer()
    empty = 0
    try:
        pages = len(document)
        for number in range(pages):
            text = _page(document, number)
            if text:
                yield writer.part(text, page=number + 1)
            else:
                empty += 1
    finally:
        document.close()
    if empty == pages:
        raise Unreadable(
            f"has no text on its {pages} page{'s' * (pages != 1)}: it holds pictures of pages. "
            "Run text recognition (OCR) over it and add the result."
        )


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
