"""The lines of a PDF page with their positions, in reading order."""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.core.line_breaks import WIDE
from portico_server.features.readers.columns import MIN_COLUMN_ROWS, TextBox, bounding_box, regions
from portico_server.features.readers.paragraphs import HYPHENS, TextLine

MAX_TEXT_PIECES = 1_000
"""Maximum number of text pieces on a page for detecting columns. The text of a page with more pieces stays in the
order of the file.
"""

_WORD = re.compile(rf"[{WIDE}]|[^\s{WIDE}]+")
_LINE = re.compile(rf"[^\r\n{HYPHENS}]*[{HYPHENS}]?")


class PdfLines:
    """The text of a page as lines. ``quarters`` clockwise quarter turns make most of its letters upright."""

    def __init__(self, page: pdfium.PdfTextPage, text: str) -> None:
        self._page = page
        self._text = text
        self.quarters = upright_quarters(page)
        self._bounds = raw.FS_RECTF()
        self._matrix = raw.FS_MATRIX()

    def ordered(self, apart: Sequence[TextBox] = ()) -> list[TextLine]:
        """Return the lines in reading order, column by column. Lines are cut at the edges of the boxes ``apart``."""
        count = self._page.count_rects()
        pieces = self._pieces() if self.quarters or 2 * MIN_COLUMN_ROWS <= count <= MAX_TEXT_PIECES else []
        outside = [piece for piece in pieces if not any(box.holds(piece) for box in apart)]
        boxes = list(regions(outside)) if 2 * MIN_COLUMN_ROWS <= len(outside) <= MAX_TEXT_PIECES else []
        if self.quarters:
            lines = list(self._cut(self._text, 0, [*boxes, *apart]))  # PDFium does not break rotated lines
        else:
            lines = list(self._lines_of_text([*boxes, *apart] if len(boxes) > 1 else apart))
        if len(boxes) < 2:
            return lines
        columns = [[line for line in lines if box.holds(line.box)] for box in boxes]
        column_ids = {id(line) for column in columns for line in column}
        outside_lines = [line for line in lines if id(line) not in column_ids]
        # If the regions overlap or miss lines, reordering would lose or repeat text.
        if sum(map(len, columns)) != len(column_ids) or any(
            not _within(line, apart) for line in outside_lines
        ):
            return lines
        return [line for column in columns for line in column] + outside_lines

    def _pieces(self) -> list[TextBox]:
        """Return the pieces of the page's text in the order of the file, on the upright page."""
        return [
            TextBox(*self._page.get_rect(number)).rotate(self.quarters)
            for number in range(self._page.count_rects())
        ]

    def _lines_of_text(self, boxes: Sequence[TextBox]) -> Iterator[TextLine]:
        """Yield the lines of upright text. Lines that cross the edge of a box are cut."""
        units = 0  # PDFium counts the text in units of UTF-16
        start = 0
        for match in _LINE.finditer(self._text):
            units += _utf16_length(self._text[start : match.start()])
            start = match.start()
            if not match.group().strip():
                continue
            line = self._line(match.group(), units)
            if line is None:
                continue
            if any(_overlaps(line.box, box) for box in boxes) and not any(
                _encloses(box, line.box) for box in boxes
            ):
                yield from self._cut(match.group(), units, boxes)
            else:
                yield line

    def _line(self, text: str, units: int) -> TextLine | None:
        """Return the line whose text begins at a position, or ``None`` if it has no visible character."""
        stripped = text.strip(f" \t{HYPHENS}") or text.strip()
        first = units + _utf16_length(text[: text.find(stripped)])
        length = _utf16_length(stripped)
        ends = (self._letter_box(first), self._letter_box(first + length - 1))
        boxes = [box for box in ends if box is not None]
        if not boxes:
            return None
        return TextLine(text, bounding_box(boxes), self._size(first + length // 2) or boxes[0].height)

    def _cut(self, text: str, unit: int, boxes: Sequence[TextBox]) -> Iterator[TextLine]:
        """Yield the lines of a text that begins at a position, word by word. Lines end at the edge of a box."""
        words: list[tuple[int, TextBox]] = []
        line_text = ""
        region: int | None = None
        start = 0
        for match in _WORD.finditer(text):
            unit += _utf16_length(text[start : match.start()])
            start = match.start()
            box = self._word_box(match.group(), unit)
            if box is not None:
                word_region = _region(box, boxes)
                if words and (word_region != region or not _follows(box, words[-1][1])):
                    yield self._line_of_words(line_text, words)
                    words, line_text = [], ""
                words.append((unit, box))
                region = word_region
            line_text += match.group() + (" " if text[match.end() : match.end() + 1].isspace() else "")
        if words:
            yield self._line_of_words(line_text, words)

    def _word_box(self, word: str, unit: int) -> TextBox | None:
        ends = {unit, unit + _utf16_length(word.rstrip(HYPHENS)) - 1}
        boxes = [box for box in map(self._letter_box, sorted(ends)) if box is not None]
        return bounding_box(boxes) if boxes else None

    def _line_of_words(self, text: str, words: Sequence[tuple[int, TextBox]]) -> TextLine:
        boxes = [box for _, box in words]
        middle_unit, middle = words[len(words) // 2]
        return TextLine(text.strip(), bounding_box(boxes), self._size(middle_unit) or middle.height)

    def _size(self, unit: int) -> float:
        """Return the size of a letter's font, or 0 if it is unknown."""
        number = raw.FPDFText_GetCharIndexFromTextIndex(self._page, unit)
        if number < 0 or not raw.FPDFText_GetMatrix(self._page, number, ctypes.byref(self._matrix)):
            return 0.0
        return math.hypot(self._matrix.c, self._matrix.d) * float(
            raw.FPDFText_GetFontSize(self._page, number)
        )

    def _letter_box(self, unit: int) -> TextBox | None:
        """Return the box of a letter on the upright page, as wide as the letter and as high as its font."""
        number = raw.FPDFText_GetCharIndexFromTextIndex(self._page, unit)
        bounds = self._bounds
        if number < 0 or not raw.FPDFText_GetLooseCharBox(self._page, number, ctypes.byref(bounds)):
            return None
        return TextBox(bounds.left, bounds.bottom, bounds.right, bounds.top).rotate(self.quarters)


def upright_quarters(page: pdfium.PdfTextPage) -> int:
    """Return the number of clockwise quarter turns after which most letters of a page are upright."""
    letters = page.count_chars()
    angles = [raw.FPDFText_GetCharAngle(page, number) for number in range(0, letters, letters // 100 + 1)]
    quarters = Counter(round(-angle / (math.pi / 2)) % 4 for angle in angles if angle >= 0)
    return max(quarters, key=lambda quarter: quarters[quarter], default=0)


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _region(box: TextBox, boxes: Sequence[TextBox]) -> int | None:
    return next((number for number, inner in enumerate(boxes) if inner.holds(box)), None)


def _follows(box: TextBox, previous_box: TextBox) -> bool:
    """Return whether a word is on the same line as the previous word, and not in an earlier column."""
    return box.is_level_with(previous_box) and box.left > previous_box.left - previous_box.height


def _within(line: TextLine, boxes: Sequence[TextBox]) -> bool:
    return any(box.holds(line.box) for box in boxes)


def _overlaps(box: TextBox, inner: TextBox) -> bool:
    return (
        box.left < inner.right
        and inner.left < box.right
        and box.bottom < inner.top
        and inner.bottom < box.top
    )


def _encloses(box: TextBox, inner: TextBox) -> bool:
    """Return whether a box contains another, except for the space above and below letters."""
    margin = inner.height
    return (
        box.left - 1 <= inner.left
        and inner.right <= box.right + 1
        and box.bottom - margin <= inner.bottom
        and inner.top <= box.top + margin
    )
