"""Detects columns on a page whose text is stored row by row across the columns, so that each column is read as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

MIN_COLUMN_ROWS = 4
"""Minimum number of rows whose text jumps across a gap for the gap to separate columns."""

MIN_LINE_RATIO = 12
"""Minimum ratio of width to height of the lines in a column. The cells of most tables are narrower."""


@dataclass(frozen=True, slots=True)
class TextBox:
    """A piece of text with its bounding box, in points from the left and lower edges of the page."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        return self.top - self.bottom

    def rotate(self, quarters: int) -> TextBox:
        """Return the box after turning the page clockwise by ``quarters`` quarter turns."""
        box = self
        for _quarter in range(quarters):
            box = TextBox(box.bottom, -box.right, box.top, -box.left)
        return box

    def holds(self, text_box: TextBox) -> bool:
        """Return whether this box contains the centre of the other box."""
        return (
            2 * self.left <= text_box.left + text_box.right <= 2 * self.right
            and 2 * self.bottom <= text_box.bottom + text_box.top <= 2 * self.top
        )

    def overlaps(self, text_box: TextBox) -> bool:
        """Return whether the boxes have a common part."""
        return (
            self.left < text_box.right
            and text_box.left < self.right
            and self.bottom < text_box.top
            and text_box.bottom < self.top
        )

    def is_level_with(self, text_box: TextBox) -> bool:
        """Return whether both boxes are on the same line."""
        shared_height = min(self.top, text_box.top) - max(self.bottom, text_box.bottom)
        return 2 * shared_height > min(self.height, text_box.height)


def regions(pieces: Sequence[TextBox]) -> Iterator[TextBox]:
    """Yield the regions of a page in reading order."""
    gap = _gap(pieces)
    if gap is None:
        yield bounding_box(pieces)
        return
    down = sorted(pieces, key=lambda piece: -piece.top)
    for across, band_pieces in groupby(down, key=lambda piece: piece.left < gap < piece.right):
        band = list(band_pieces)
        if across:
            yield bounding_box(band)
            continue
        for column in ([p for p in band if p.right <= gap], [p for p in band if p.left >= gap]):
            if column:
                text_boxes = set(column)
                # The pieces stay in the order of the file, so that a third column is detected too.
                yield from regions([piece for piece in pieces if piece in text_boxes])


def _gap(pieces: Sequence[TextBox]) -> float | None:
    """Return the position of the gap between columns, from the left, or ``None`` unless the text repeatedly jumps
    across it.
    """
    jumps = [
        (text_box, right)
        for text_box, right in pairwise(pieces)
        if text_box.is_level_with(right) and right.left - text_box.right > max(text_box.height, right.height)
    ]
    best: list[tuple[TextBox, TextBox]] = []
    for _, jump in jumps[:: len(jumps) // 100 + 1]:
        crossing_jumps = [pair for pair in jumps if pair[0].right < jump.left <= pair[1].left]
        best = max(best, crossing_jumps, key=len)
    if len(best) < MIN_COLUMN_ROWS:
        return None
    gap = min(right.left for _, right in best) - 0.1
    if sum(piece.left < gap < piece.right for piece in pieces) > len(best):
        return None
    start, end = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    for lines in (
        [_line(text_box, pieces, start, gap) for text_box, _ in best],
        [_line(right, pieces, gap, end) for _, right in best],
    ):
        whole_box = bounding_box(lines)
        long = median(line.right - line.left for line in lines)
        if long < max(
            (whole_box.right - whole_box.left) / 2, MIN_LINE_RATIO * median(line.height for line in lines)
        ):
            return None  # the columns belong to a table, or to words followed by numbers
    return gap


def _line(piece: TextBox, pieces: Sequence[TextBox], left_edge: float, right: float) -> TextBox:
    """Return the whole line of a column that contains ``piece``."""
    return bounding_box(
        [
            text_box
            for text_box in pieces
            if left_edge <= text_box.left and text_box.right <= right and text_box.is_level_with(piece)
        ]
    )


def bounding_box(pieces: Sequence[TextBox]) -> TextBox:
    """Return the smallest box that contains all pieces."""
    return TextBox(
        min(piece.left for piece in pieces),
        min(piece.bottom for piece in pieces),
        max(piece.right for piece in pieces),
        max(piece.top for piece in pieces),
    )
