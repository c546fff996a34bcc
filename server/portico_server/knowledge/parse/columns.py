"""Columns of a PDF page whose lines stand in the file row by row, across the columns: each is to be read to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

import pypdfium2 as pdfium

ROWS = 4
"""Rows across a gap that make columns, at least."""

PIECES = 1_000
"""Pieces of text of one page; one with more is left as it is."""

WIDE = 12
"""How many times its height a line of a column is long, at least: the cells of most tables are shorter."""


@dataclass(frozen=True, slots=True)
class Box:
    """A piece of text, in points from the left and the lower edge of the page."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        return self.top - self.bottom

    def is_level_with(self, other: Box) -> bool:
        """Whether both stand in one line."""
        shared = min(self.top, other.top) - max(self.bottom, other.bottom)
        return 2 * shared > min(self.height, other.height)


def in_order(page: pdfium.PdfTextPage, text: str) -> str:
    """The ``text`` of a page, column by column; as it is if it has none that are torn apart."""
    count = page.count_rects()
    if not 2 * ROWS <= count <= PIECES:
        return text
    regions = list(_regions([Box(*page.get_rect(number)) for number in range(count)]))
    if len(regions) < 2:
        return text
    ordered = "\n".join(
        page.get_text_bounded(left=box.left, bottom=box.bottom, right=box.right, top=box.top)
        for box in regions
    )
    # Letters that lie across each other would be lost, or stand there twice.
    return ordered if len("".join(ordered.split())) == len("".join(text.split())) else text


def _regions(pieces: Sequence[Box]) -> Iterator[Box]:
    """What is to be read as one, in the order in which it is to be read."""
    gap = _gap(pieces)
    if gap is None:
        yield _around(pieces)
        return
    down = sorted(pieces, key=lambda piece: -piece.top)
    for across, some in groupby(down, key=lambda piece: piece.left < gap < piece.right):
        band = list(some)
        if across:
            yield _around(band)
            continue
        for column in ([p for p in band if p.right <= gap], [p for p in band if p.left >= gap]):
            if column:
                these = set(column)
                # As they stand in the file: so a third column is seen, too.
                yield from _regions([piece for piece in pieces if piece in these])


def _gap(pieces: Sequence[Box]) -> float | None:
    """Where the columns part, from the left, if the text jumps from one to the other again and again."""
    jumps = [
        (left, right)
        for left, right in pairwise(pieces)
        if left.is_level_with(right) and right.left - left.right > max(left.height, right.height)
    ]
    best: list[tuple[Box, Box]] = []
    for _, jump in jumps[:: len(jumps) // 100 + 1]:
        here = [pair for pair in jumps if pair[0].right < jump.left <= pair[1].left]
        best = max(best, here, key=len)
    if len(best) < ROWS:
        return None
    gap = min(right.left for _, right in best) - 0.1
    if sum(piece.left < gap < piece.right for piece in pieces) > len(best):
        return None
    start, end = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    for lines in (
        [_line(left, pieces, start, gap) for left, _ in best],
        [_line(right, pieces, gap, end) for _, right in best],
    ):
        whole = _around(lines)
        long = median(line.right - line.left for line in lines)
        if long < max((whole.right - whole.left) / 2, WIDE * median(line.height for line in lines)):
            return None  # a table, or numbers behind words
    return gap


def _line(piece: Box, pieces: Sequence[Box], left: float, right: float) -> Box:
    """The whole line of a column in which a piece stands."""
    return _around(
        [
            other
            for other in pieces
            if left <= other.left and other.right <= right and other.is_level_with(piece)
        ]
    )


def _around(pieces: Sequence[Box]) -> Box:
    return Box(
        min(piece.left for piece in pieces),
        min(piece.bottom for piece in pieces),
        max(piece.right for piece in pieces),
        max(piece.top for piece in pieces),
    )
