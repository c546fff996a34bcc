"""The lines of a PDF page with their positions, in reading order."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.core.line_breaks import WIDE
from portico_server.features.readers.columns import MIN_COLUMN_ROWS, TextBox, bounding_box, regions
from portico_server.features.readers.paragraphs import HYPHENS, TextLine
from portico_server.features.readers.superscripts import superscript_text

MAX_TEXT_PIECES = 1_000
"""Maximum number of text pieces on a page for detecting columns. The text of a page with more pieces stays in the
order of the file.
"""

MAX_FAINT_OPACITY = 8
"""Opacity, of 255, up to which a letter cannot be seen."""

MIN_FAINT_COLOUR = 247
"""Red, green and blue, of 255, from which a letter cannot be seen on a white page."""

MAX_SUPERSCRIPT_RATIO = 0.85
"""Maximum size of a raised number, relative to the letter before it."""

MAX_LETTER_GAP_RATIO = 1.6
"""Maximum gap between two letters of a word with spaces between its letters, relative to the usual gap."""

_RIGHT_TO_LEFT_WORD = re.compile(r"[\u0591-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]{2,200}")
_SPACED_LETTERS = re.compile(r"(?:[A-Za-zÀ-ÿ] ){4,200}[A-Za-zÀ-ÿ]")
_WORD_WITH_NUMBER = re.compile(r"([^\W\d_]{3}[.,;:!?)”’\"]?)([0-9]{1,2})(?![\w]|[.,][0-9])")
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
        self._colour = [ctypes.c_uint() for _ in range(4)]

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
            if any(line.box.overlaps(box) for box in boxes) and not any(
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
        text = self._shown_text(text, units)
        size = self._size(first + length // 2) or boxes[0].height
        return TextLine(text, bounding_box(boxes), size, self._is_faint(first))

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
            line_text += self._shown_text(match.group(), unit) + (
                " " if text[match.end() : match.end() + 1].isspace() else ""
            )
        if words:
            yield self._line_of_words(line_text, words)

    def _word_box(self, word: str, unit: int) -> TextBox | None:
        ends = {unit, unit + _utf16_length(word.rstrip(HYPHENS)) - 1}
        boxes = [box for box in map(self._letter_box, sorted(ends)) if box is not None]
        return bounding_box(boxes) if boxes else None

    def _line_of_words(self, text: str, words: Sequence[tuple[int, TextBox]]) -> TextLine:
        boxes = [box for _, box in words]
        middle_unit, middle = words[len(words) // 2]
        size = self._size(middle_unit) or middle.height
        return TextLine(text.strip(), bounding_box(boxes), size, self._is_faint(middle_unit))

    def _is_faint(self, unit: int) -> bool:
        """Return whether a letter is white or transparent, and so cannot be seen on a white page."""
        number = raw.FPDFText_GetCharIndexFromTextIndex(self._page, unit)
        if number < 0 or not raw.FPDFText_GetFillColor(self._page, number, *map(ctypes.byref, self._colour)):
            return False
        *colours, opacity = (component.value for component in self._colour)
        return opacity <= MAX_FAINT_OPACITY or min(colours) >= MIN_FAINT_COLOUR

    def _shown_text(self, text: str, units: int) -> str:
        """Return the text at a position with numbers of notes apart from words, and without spaces between letters."""
        if _SPACED_LETTERS.fullmatch(text.strip()) is not None:
            text = self._without_letter_spaces(text, units)
        elif _WORD_WITH_NUMBER.search(text) is not None:
            text = _WORD_WITH_NUMBER.sub(lambda match: self._with_note(match, units), text)
        if _RIGHT_TO_LEFT_WORD.search(text) is not None:
            text = _RIGHT_TO_LEFT_WORD.sub(lambda match: self._in_order_of_reading(match, units), text)
        return unicodedata.normalize("NFC", text)

    def _in_order_of_reading(self, match: re.Match[str], units: int) -> str:
        """Return a word of a script that is read from the right; the file may store its letters from the left."""
        first = self._letter_box(units + match.start())
        last = self._letter_box(units + match.end() - 1)
        is_reversed = first is not None and last is not None and first.right <= last.left
        return match[0][::-1] if is_reversed else match[0]

    def _with_note(self, match: re.Match[str], units: int) -> str:
        word, number = match.groups()
        place = units + _utf16_length(match.string[: match.start(2)])
        is_raised = 0 < self._size(place) <= MAX_SUPERSCRIPT_RATIO * self._size(place - 1)
        return word + (superscript_text(word, number) if is_raised else number)

    def _without_letter_spaces(self, text: str, units: int) -> str:
        """Return the words of a line whose letters have spaces between them. Spaces between words are wider."""
        places = [place for place, letter in enumerate(text) if not letter.isspace()]
        boxes = [self._letter_box(units + place) for place in places]
        gaps = [
            box.left - previous.right if box is not None and previous is not None else 0.0
            for previous, box in pairwise(boxes)
        ]
        widest = MAX_LETTER_GAP_RATIO * median(gaps)
        words = text[places[0]]
        for place, gap in zip(places[1:], gaps, strict=True):
            words += f"{' ' if gap > widest else ''}{text[place]}"
        return words

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


def _encloses(box: TextBox, inner: TextBox) -> bool:
    """Return whether a box contains another, except for the space above and below letters."""
    margin = inner.height
    return (
        box.left - 1 <= inner.left
        and inner.right <= box.right + 1
        and box.bottom - margin <= inner.bottom
        and inner.top <= box.top + margin
    )
