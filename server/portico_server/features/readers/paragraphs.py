"""Joins the lines of a page to paragraphs by their layout. Pure functions.

A paragraph that a footnote, a caption or the end of a column interrupts is joined again, and what interrupted it
follows. Lines that their author broke, as in poems, addresses and lists, stay.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice, pairwise
from statistics import median

from portico_server.core.dataclass import dataclass
from portico_server.core.line_breaks import (
    WIDE,
    ColumnLine,
    begins_item,
    begins_within_sentence,
    continued_lines,
    ends_sentence,
    is_wide_break,
)
from portico_server.features.readers.columns import TextBox, bounding_box

MAX_SIZE_RATIO = 1.06
"""Maximum ratio of the sizes of two lines of the same text. Captions and footnotes are smaller."""

MAX_PITCH_RATIO = 1.25
"""Maximum distance of two lines of a block, relative to the usual distance on the page."""

MIN_OPEN_SHARE = 0.7
"""Minimum share of the column that the last line of an interrupted paragraph takes."""

MIN_INDENT = 0.7
"""Minimum indentation of a paragraph's first line, relative to the size of its letters."""

MAX_INTERRUPTIONS = 6
"""Maximum number of blocks between the two parts of an interrupted paragraph."""

MIN_BLOCK_LINES = 4
"""Minimum number of lines that tell the width of a column."""

MAX_NEAR_BLOCKS = 20
"""Maximum number of long blocks on each side of a short block that can tell the width of its column."""

MAX_PARAGRAPH_LINES = 1_000
"""Maximum number of lines of a paragraph, because each is joined with a copy of the lines before it."""

MAX_LINE_CHARS = 10_000
"""Maximum length of a line that is joined with the next piece on its level, in characters."""

MAX_COMPARED_CHARS = 100_000
"""Length of the text of a page that is searched for the spelling of a hyphenated word, in characters."""

MAX_WORD_CHARS = 60
"""Maximum length of a word that is compared with other words of the page."""

HYPHENS = "\x02\ufffe\xad"
"""PDFium's marks of a word that is hyphenated at the end of a line, and the soft hyphen."""

_HYPHEN = re.compile(f"[{HYPHENS}]")
_CAPTION = re.compile(
    r"(?:Fig(?:ure|\.)|Table|Listing|Algorithm|Abb(?:ildung|\.)|Tab\.|[图圖表])\s?\d", re.IGNORECASE
)
_NOTE = re.compile(r"(?:\d{1,2}|[*†‡§¹²³⁴⁵⁶⁷⁸⁹])\s?[^\W\d_a-z]")
_COMPOUND = re.compile(r"(?:^|\W)(?:(?:self|well|half)|[^\W\d_]+-[^\W_-]+)$", re.IGNORECASE)
_HYPHENATED = re.compile(rf"\w[-‐{HYPHENS}]")
_VERTICAL_SPACE = re.compile(rf"(?<=[{WIDE}\d]) (?=[{WIDE}\d])")
_LAST_WORD = re.compile(r"[^\s]+$")


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of a page. ``size`` is the height of its letters, in points. A faint line cannot be seen on white."""

    text: str
    box: TextBox
    size: float
    is_faint: bool = False

    @property
    def is_vertical(self) -> bool:
        """Return whether the characters stand below each other."""
        return len(self.text) > 1 and self.box.height > 1.5 * (self.box.right - self.box.left)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of a page, the box of its first line, and the number of its lines."""

    text: str
    box: TextBox
    lines: int = 1


def join_paragraphs(lines: Sequence[TextLine]) -> list[Paragraph]:
    """Return the paragraphs of lines in reading order."""
    blocks = list(_blocks(_order_vertical(_merge_level([line for line in lines if line.text.strip()]))))
    rooms = _rooms(blocks)
    text = "\n".join(line.text for line in lines)[:MAX_COMPARED_CHARS]
    paragraphs = [_paragraphs(block, room, text) for block, room in zip(blocks, rooms, strict=True)]
    return [
        replace(paragraph, text=_HYPHEN.sub("-", paragraph.text))
        for paragraph in _resume(blocks, rooms, paragraphs, text)
    ]


def _merge_level(lines: Sequence[TextLine]) -> list[TextLine]:
    """Return the lines, each with the pieces that follow it on the same level, such as the text after a superscript."""
    joined_lines: list[TextLine] = []
    for line in lines:
        last_line = joined_lines[-1] if joined_lines else None
        if last_line is not None and line.box.is_level_with(last_line.box):
            gap = line.box.left - last_line.box.right
            if (
                -0.5 * line.size < gap < 1.5 * max(line.size, last_line.size)
                and len(last_line.text) < MAX_LINE_CHARS
                and not last_line.is_vertical
            ):
                space = " " if gap > 0.12 * last_line.size and last_line.text[-1:] != " " else ""
                joined_lines[-1] = TextLine(
                    last_line.text + space + line.text,
                    bounding_box([last_line.box, line.box]),
                    max(line.size, last_line.size),
                )
                continue
        joined_lines.append(line)
    return joined_lines


def _order_vertical(lines: Sequence[TextLine]) -> Iterator[TextLine]:
    """Yield the lines, and vertical lines from right to left, turned as if they were horizontal."""
    for vertical, group in groupby(_mark_vertical(lines), key=lambda pair: pair[1]):
        run = [line for line, _ in group]
        if not vertical:
            yield from run
            continue
        run.sort(key=lambda line: -line.box.top)
        tiers: list[list[TextLine]] = []
        bottom = 0.0
        for line in run:
            if tiers and line.box.top > bottom:
                tiers[-1].append(line)
                bottom = min(bottom, line.box.bottom)
            else:
                tiers.append([line])
                bottom = line.box.bottom
        for tier in tiers:
            for line in sorted(tier, key=lambda line: -line.box.right):
                box = line.box
                yield TextLine(
                    _VERTICAL_SPACE.sub("", line.text),
                    TextBox(-box.top, box.left, -box.bottom, box.right),
                    line.size,
                )


def _mark_vertical(lines: Sequence[TextLine]) -> Iterator[tuple[TextLine, bool]]:
    """Yield each line with whether it is vertical. A single character is as vertical as the line beside it."""
    for number, line in enumerate(lines):
        beside = lines[max(number - 1, 0) : number + 2]
        is_single = len(line.text.strip()) == 1 and any(
            peer.is_vertical and abs(peer.box.top - line.box.top) < line.size for peer in beside
        )
        yield line, line.is_vertical or is_single


def _blocks(lines: Iterator[TextLine]) -> Iterator[list[TextLine]]:
    """Yield runs of lines of one size below each other, at the usual distance."""
    all_lines = list(lines)
    pitches = [
        above.box.top - below.box.top for above, below in pairwise(all_lines) if _is_below(below, above)
    ]
    limit = MAX_PITCH_RATIO * median(pitches) if pitches else 0.0
    block: list[TextLine] = []
    for line in all_lines:
        if block and not (
            _is_below(line, block[-1])
            and _is_same_size(line, block[-1])
            and block[-1].box.top - line.box.top <= max(limit, 1.3 * line.size)
        ):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _is_below(line: TextLine, above: TextLine) -> bool:
    return (
        line.box.top < above.box.top
        and line.box.bottom < above.box.bottom
        and line.box.left < above.box.right
        and above.box.left < line.box.right
    )


def _is_same_size(line: TextLine, peer: TextLine) -> bool:
    return max(line.size, peer.size) <= MAX_SIZE_RATIO * min(line.size, peer.size)


def _rooms(blocks: Sequence[Sequence[TextLine]]) -> list[float]:
    """Return the right edge of each block's column. A short block takes it from the nearest long block there."""
    rights = [max(line.box.right for line in block) for block in blocks]
    lefts = [min(line.box.left for line in block) for block in blocks]
    rooms = []
    long = [number for number, block in enumerate(blocks) if len(block) >= MIN_BLOCK_LINES]
    for number, block in enumerate(blocks):
        if len(block) >= MIN_BLOCK_LINES:
            rooms.append(rights[number])
            continue
        place = bisect(long, number)
        beside = [
            long_number
            for long_number in long[max(place - MAX_NEAR_BLOCKS, 0) : place + MAX_NEAR_BLOCKS]
            if abs(lefts[long_number] - lefts[number]) <= 2.5 * block[0].size
            and rights[long_number] >= rights[number]
        ]
        rooms.append(rights[min(beside, key=lambda column: abs(column - number), default=number)])
    return rooms


def _paragraphs(block: Sequence[TextLine], room: float, text: str) -> list[Paragraph]:
    """Return the paragraphs of a block."""
    left_edge = min(line.box.left for line in block)
    lines = [
        ColumnLine(line.text.strip(), line.box.right - left_edge, line.box.right - line.box.left)
        for line in block
    ]
    paragraphs: list[Paragraph] = []
    continues = False
    for number, (line, follows) in enumerate(
        zip(block, continued_lines(lines, room - left_edge), strict=True)
    ):
        paragraph = Paragraph(line.text.strip(), line.box)
        if (
            continues
            and paragraphs[-1].lines < MAX_PARAGRAPH_LINES
            and not _begins_paragraph(line, block[number - 1], paragraphs[-1])
        ):
            paragraphs[-1] = _join(paragraphs[-1], paragraph, text)
        else:
            paragraphs.append(paragraph)
        continues = follows
    return paragraphs


def _begins_paragraph(line: TextLine, above: TextLine, paragraph: Paragraph) -> bool:
    """Return whether a line is indented after the end of a sentence, or ends the indentation of an item."""
    indent = (line.box.left - above.box.left) / line.size
    if indent > MIN_INDENT:
        return ends_sentence(paragraph.text)
    return indent < -MIN_INDENT and paragraph.lines > 1 and not begins_within_sentence(line.text.strip())


def _join(paragraph: Paragraph, continuation: Paragraph, text: str) -> Paragraph:
    return Paragraph(
        join_lines(paragraph.text, continuation.text, text),
        paragraph.box,
        paragraph.lines + continuation.lines,
    )


def _resume(
    blocks: Sequence[Sequence[TextLine]],
    rooms: Sequence[float],
    paragraphs: Sequence[list[Paragraph]],
    text: str,
) -> Iterator[Paragraph]:
    """Yield the paragraphs of a page. A paragraph that ends in the middle of a sentence is joined with its
    continuation in a later block.
    """
    pending = deque(range(len(blocks)))
    while pending:
        number = pending.popleft()
        *earlier, last = paragraphs[number]
        yield from earlier
        place = _continuation(number, pending, blocks, rooms, paragraphs)
        if place is None:
            yield last
            continue
        following = pending[place]
        del pending[place]
        paragraphs[following][0] = _join(last, paragraphs[following][0], text)
        if len(paragraphs[following]) > 1:
            yield paragraphs[following].pop(0)
            pending.insert(place, following)
        else:
            pending.insert(0, following)


def _continuation(
    number: int,
    pending: Iterable[int],
    blocks: Sequence[Sequence[TextLine]],
    rooms: Sequence[float],
    paragraphs: Sequence[Sequence[Paragraph]],
) -> int | None:
    """Return the place in ``pending`` of the block that continues the last paragraph of block ``number``."""
    last_line, last = blocks[number][-1], paragraphs[number][-1].text
    left_edge = min(line.box.left for line in blocks[number])
    if (
        ends_sentence(last)
        or _CAPTION.match(last)
        or last_line.box.right - left_edge < MIN_OPEN_SHARE * (rooms[number] - left_edge)
        or (len(blocks[number]) == 1 and last[-1:] not in HYPHENS)
        or paragraphs[number][-1].lines >= MAX_PARAGRAPH_LINES
    ):
        return None
    for place, candidate in enumerate(islice(pending, MAX_INTERRUPTIONS + 1)):
        first = blocks[candidate][0]
        start = paragraphs[candidate][0].text
        if not _is_same_size(first, last_line) or _is_aside(start):
            continue
        if begins_within_sentence(start):
            return place
        if last[-1:] in HYPHENS or paragraphs[candidate][0].lines < 2 or paragraphs[number][-1].lines < 2:
            continue
        is_indented = first.box.left - blocks[candidate][1].box.left > MIN_INDENT * first.size
        return None if is_indented else place
    return None


def _is_aside(start: str) -> bool:
    """Return whether a block begins as an item, a caption or a footnote."""
    return begins_item(start) or _CAPTION.match(start) is not None or _NOTE.match(start) is not None


def join_lines(start: str, continuation: str, text: str) -> str:
    """Return two parts of a paragraph as one. ``text`` is the text of the page, which shows how it writes a word."""
    if _HYPHENATED.match(start[-2:]) is not None:
        start = start[:-1]
        word = _LAST_WORD.search(start[-MAX_WORD_CHARS:])
        part = continuation.split(maxsplit=1)[0].rstrip(".,;:!?)”’»") if continuation.strip() else ""
        is_compound = word is not None and (
            _COMPOUND.search(word.group()) is not None
            or word.group()[-2:].isupper()
            or not word.group()[-1:].isalpha()
            or f"{word.group()}-{part}" in text
        )
        return (
            f"{start}-{continuation}"
            if is_compound or not continuation[:1].islower()
            else start + continuation
        )
    return start + continuation if is_wide_break(start, continuation) else f"{start} {continuation}"
