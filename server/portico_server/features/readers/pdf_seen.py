"""Which lines of a PDF page a person sees: those on the page that stand out from what is drawn below them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

import pypdfium2 as pdfium

from portico_server.features.readers.columns import TextBox
from portico_server.features.readers.paragraphs import TextLine

MAX_PICTURE_DOTS = 2_000
"""Maximum length of the longer side of the picture in which faint lines are searched, in dots."""

MIN_INITIAL_RATIO = 1.8
"""Minimum size of an initial letter over several lines, relative to the letters beside it."""

MAX_INITIALS = 20
"""Maximum number of initial letters on a page."""

MIN_CONTRAST = 24
"""Minimum difference, of 255, of the brightest and the darkest dot where a line can be seen."""


def seen_lines(page: pdfium.PdfPage, lines: Iterable[TextLine], quarters: int) -> list[TextLine]:
    """Return the lines that are on the visible part of the page, without white lines on white and transparent lines.

    ``quarters`` quarter turns make the page upright, and the boxes of the lines are on the upright page. Faint lines
    of pages that are not upright are not tested.
    """
    page_box = _visible_box(page).rotate(quarters)
    on_page = _with_initials([line for line in lines if line.box.overlaps(page_box)])
    if quarters or not any(line.is_faint for line in on_page):
        return on_page
    scale = min(1.0, MAX_PICTURE_DOTS / max(*page.get_size(), 1.0))
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        dots = bytes(bitmap.buffer)
        positions = bitmap.get_posconv(page)
        return [
            line for line in on_page if not line.is_faint or _stands_out(line.box, bitmap, dots, positions)
        ]
    finally:
        bitmap.close()


def _with_initials(lines: Sequence[TextLine]) -> list[TextLine]:
    """Return the lines, with each large initial letter joined to the word that it begins."""
    words: dict[int, str] = {}
    letters = ((place, line) for place, line in enumerate(lines) if len(line.text.strip()) == 1)
    initials = ((place, line) for place, line in letters if line.text.strip().isupper())
    for initial_place, initial in islice(initials, MAX_INITIALS):
        beside = [
            place
            for place, line in enumerate(lines)
            if initial.size >= MIN_INITIAL_RATIO * line.size
            and 0 <= line.box.left - initial.box.right <= initial.box.height
            and initial.box.bottom <= (line.box.bottom + line.box.top) / 2 <= initial.box.top
        ]
        if beside:
            words[max(beside, key=lambda place: lines[place].box.top)] = initial.text.strip()
            words[initial_place] = ""
    return [
        replace(line, text=words[place] + line.text) if place in words else line
        for place, line in enumerate(lines)
        if words.get(place) != ""
    ]


def _visible_box(page: pdfium.PdfPage) -> TextBox:
    """Return the part of the page that viewers show."""
    crop_box, media_box = TextBox(*page.get_cropbox()), TextBox(*page.get_mediabox())
    return TextBox(
        max(crop_box.left, media_box.left),
        max(crop_box.bottom, media_box.bottom),
        min(crop_box.right, media_box.right),
        min(crop_box.top, media_box.top),
    )


def _stands_out(box: TextBox, bitmap: pdfium.PdfBitmap, dots: bytes, positions: pdfium.PdfPosConv) -> bool:
    corners = (positions.to_bitmap(box.left, box.bottom), positions.to_bitmap(box.right, box.top))
    columns, rows = (sorted(ends) for ends in zip(*corners, strict=True))
    first_column, last_column = max(columns[0], 0), min(columns[1], bitmap.width)
    starts = (row * bitmap.stride for row in range(max(rows[0], 0), min(rows[1], bitmap.height)))
    region = b"".join(dots[start + first_column : start + last_column] for start in starts)
    return not region or max(region) - min(region) >= MIN_CONTRAST
