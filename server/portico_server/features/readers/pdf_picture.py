"""Renders a page as an image with a passage highlighted."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.columns import TextBox
from portico_server.features.readers.pdf_streams import open_pdf

PICTURE_DPI = 110
MAX_PICTURE_DOTS = 1_600
"""Maximum length of the longer side of a page image, in dots."""

MARK_COLOUR = (255, 224, 70)
MIN_MARKED_CHARS = 12
"""Minimum length of a piece of a passage that is searched for and highlighted, because shorter pieces occur in many
places.
"""


def draw_page(source: SourceDocument, number: int, passage: str) -> bytes:
    """Render page ``number``, counted from 1, as a PNG with ``passage`` highlighted. Raises `Unreadable`."""
    try:
        document = open_pdf(source)
    except pdfium.PdfiumError as error:
        raise Unreadable(
            "is protected by a password, or not a complete PDF: it cannot be rendered."
        ) from error
    try:
        if not 1 <= number <= len(document):
            raise Unreadable(f"has {len(document)} pages, but no page {number}.", "page_not_found")
        page = document[number - 1]
        textpage = page.get_textpage()
        try:
            for begin, count in _find_passage(textpage.get_text_range(), passage):
                for index in range(textpage.count_rects(begin, count)):
                    _mark(page, TextBox(*textpage.get_rect(index)))
        finally:
            textpage.close()
        scale = min(PICTURE_DPI / 72, MAX_PICTURE_DOTS / max(*page.get_size(), 1.0))
        return _png(page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False))
    except pdfium.PdfiumError as error:
        raise Unreadable(f"is damaged: page {number} cannot be rendered. Download it again.") from error
    finally:
        document.close()


def _find_passage(text: str, passage: str) -> Iterator[tuple[int, int]]:
    """Yield the positions of a passage in the text of a page, as start and length. If the whole passage is not found,
    each of its lines is searched for.

    White space is ignored, because the passage was assembled from lines, words and columns.
    """
    letters = [
        (place, letter) for place, letter in enumerate(text) if not letter.isspace() and letter != "\x00"
    ]
    packed_letters = "".join(letter for _, letter in letters)
    bare_passage = "".join(passage.split())
    if len(packed_letters) != len(letters) or not bare_passage:
        return
    pieces = (
        [bare_passage]
        if bare_passage in packed_letters
        else ["".join(line.split()) for line in passage.splitlines()]
    )
    for piece in pieces:
        at = packed_letters.find(piece) if piece == bare_passage or len(piece) >= MIN_MARKED_CHARS else -1
        if at >= 0:
            begin, end = letters[at][0], letters[at + len(piece) - 1][0]
            yield begin, end - begin + 1


def _mark(page: pdfium.PdfPage, box: TextBox) -> None:
    """Highlight a box with a translucent colour."""
    rect = raw.FPDFPageObj_CreateNewRect(box.left, box.bottom, box.right - box.left, box.top - box.bottom)
    raw.FPDFPageObj_SetFillColor(rect, *MARK_COLOUR, 255)
    raw.FPDFPageObj_SetBlendMode(rect, b"Multiply")
    raw.FPDFPath_SetDrawMode(rect, raw.FPDF_FILLMODE_ALTERNATE, False)
    raw.FPDFPage_InsertObject(page, rect)


def _png(bitmap: pdfium.PdfBitmap) -> bytes:
    """Encode a bitmap with three bytes per pixel as PNG (https://www.w3.org/TR/png-3/), without an image library."""
    try:
        data = bytes(bitmap.buffer)
        rows = (
            b"\0" + data[row * bitmap.stride : row * bitmap.stride + 3 * bitmap.width]
            for row in range(bitmap.height)
        )
        header = struct.pack(">IIBBBBB", bitmap.width, bitmap.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 6)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    finally:
        bitmap.close()
