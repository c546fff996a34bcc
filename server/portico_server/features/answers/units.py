"""The quotable units of a passage: sentences, list items, table rows, code. Pure functions over offsets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from portico.wire import Passage, Place
from portico_server.core.dataclass import dataclass
from portico_server.core.line_breaks import continued_lines, text_line
from portico_server.features.answers.language import CJK

# Sentence boundaries in running text. The functions are pure and return offsets, so that a quotation is the
# document's own text verbatim.


Span = tuple[int, int]
"""Offsets of the first character and of the position after the last character."""

_CLOSERS = "\"'”’»`)\\]）】》」』*_"
_END = re.compile(
    rf"(?P<wide>[。！？｡]+[{_CLOSERS}]*)"
    rf"|(?P<narrow>[.!?…]+[{_CLOSERS}]*)(?=\s|$|[{CJK}])"
    r"|(?<![ \t])(?:(?P<blank>[ \t]*\n[ \t]*\n\s*)|(?P<line>[ \t]*\n[ \t]*))"
)
"""Each run of white space is matched only from its beginning, so that long runs take no longer to process than other
text.
"""
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]+$")
_NEXT = re.compile(r"[\s\"'“‘(\[*_`«]*(?P<first>[^\W_]+)?")
_SPEECH_VERB = re.compile(r"[^。！？\s，]{0,8}[说說道问問答喊叫][。，]")
"""The verb that reports direct speech in Chinese and follows it."""

_INITIAL = re.compile(r"(?:[^\W\d_]\.)+$")
_NUMBER = re.compile(r"\d+\.$")
_ENDS_NUMBER = re.compile(r"\d[ \t\u00a0]*\Z")

_ABBREVIATED = (
    "mr mrs ms dr prof rev hon st sr jr vs etc e.g i.e eg ie cf al approx est fig figs eq eqs no nos vol "
    "vols pp ch sec sect ca c p ed eds dept univ assn bros inc ltd co corp gen col lt capt cmdr sgt maj "
    "adm gov sen rep pres supt jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur "
    "thurs fri sat sun ft mt ave blvd rd min max avg resp incl viz ibid op cit z.b d.h bzw usw nr str "
    "bspw vgl sog ggf mme mlle"
)
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Abbreviations whose period rarely ends a sentence, in lower case and without the period."""

ENDING = frozenset({"etc", "inc", "ltd", "co", "corp", "jr", "sr", "al", "no", "usw"})
"""Abbreviations that can also end a sentence."""

_OPENING = (
    "a an the this that these those it its he she they we i you his her their our in on at by from for "
    "with after before during when while if as since because although however but and or so then there "
    "here what who how why all some many most both each every no not once according under over between "
    "among until such"
)
_OPENERS = frozenset(_OPENING.split())
"""Words that often begin a sentence but rarely follow an initial."""


def sentences(text: str) -> list[Span]:
    """Return the sentences of ``text`` in order, without surrounding white space.

    A period does not end a sentence within a number, an address, an initial or an abbreviation. A line break ends a
    sentence unless the line was full.
    """
    spans: list[Span] = []
    begin = 0
    continued = _continued_ends(text)
    for match in _END.finditer(text):
        if match.start() < begin:
            continue
        if match["line"] is not None and match.start() in continued:
            continue
        if match["narrow"] is not None and not _ends(text, begin, match):
            continue
        if (
            match["wide"] is not None
            and _SPEECH_VERB.match(text, match.end())
            and match["wide"][-1] in "”’」』"
        ):
            continue
        begin = _add(spans, text, begin, match.end())
    _add(spans, text, begin, len(text))
    return spans


def _add(spans: list[Span], text: str, begin: int, end: int) -> int:
    piece = text[begin:end]
    stripped_piece = piece.strip()
    if stripped_piece:
        first = begin + len(piece) - len(piece.lstrip())
        spans.append((first, first + len(stripped_piece)))
    return end


def _ends(text: str, begin: int, match: re.Match[str]) -> bool:
    """Return whether a period, question mark or other mark ends a sentence, judged by the words before and after it."""
    after = _NEXT.match(text, match.end())
    first = after["first"] if after is not None else None
    if first is None:
        return True
    if match["narrow"][0] != "." or match["narrow"].startswith(".."):
        return not first[0].islower()
    before = _LAST_WORD.search(text, begin, match.start() + 1)
    word = before.group() if before is not None else ""
    if first[0].islower():
        return False
    if _INITIAL.fullmatch(word) and len(word) > 1 and not _is_unit(text, begin, before):
        return first.lower() in _OPENERS
    if _NUMBER.fullmatch(word) and before is not None and not text[begin : before.start()].strip():
        return False  # this is the number of a list item
    plain = word.rstrip(".").lower()
    if plain not in ABBREVIATIONS:
        return True
    return plain in ENDING and first.lower() in _OPENERS


def _is_unit(text: str, begin: int, word: re.Match[str] | None) -> bool:
    """Return whether a word of one letter is a unit behind a number, such as "m" in "18 m", rather than an initial."""
    if word is None or len(word.group()) != 2 or not word.group().islower():
        return False
    return _ENDS_NUMBER.search(text, max(begin, word.start() - 4), word.start()) is not None


def _continued_ends(text: str) -> frozenset[int]:
    """Return the ends of the lines that continue in the next line, judged by all lines of their paragraph."""
    ends: set[int] = set()
    for has_text, paragraph in groupby(_lines(text), key=lambda line: bool(line[1].strip())):
        lines = list(paragraph)
        if has_text and len(lines) > 1:
            continued = continued_lines([text_line(line) for _, line in lines])
            ends.update(
                begin + len(line.rstrip())
                for (begin, line), continues in zip(lines, continued, strict=True)
                if continues
            )
    return frozenset(ends)


MAX_BLOCK_CHARACTERS = 900
"""Maximum size of a list or code that is quoted as a whole with its lead-in, in characters. Longer ones are split."""

MAX_ITEM_CHARACTERS = 320
"""Maximum length of a list item that is quoted as a whole, in characters. A longer item is split into sentences."""

MAX_SECTION_CHARACTERS = 600
"""Maximum size of the part of a section that is quoted around its best sentence, in characters."""

_FENCE = re.compile(r"[ \t]*(```+|~~~+)")
_ASCIIDOC_FENCE = re.compile(r"(-{4,}|\.{4,})[ \t]*$")
_HEADING = re.compile(r"#{1,6}\s|={2,6}\s+\S|<!--")
_ANCHOR = re.compile(r"\[\[.*\]\]$|\.\. _.*:$|\.\.$")
"""A line that names the place before a heading, in AsciiDoc or reStructuredText; an empty comment of the latter."""

_HEADING_LINE = re.compile(
    r"(?:#{1,6}|={2,6})\s++(.+)|\*\*(.+)\*\*|__(.+)__|(.+[?？])::|(?:Q|问|問)[:：.]\s*+(.+[?？])"
)
_TITLE_RULE = re.compile(r"([=\-~^\"'*+#`])\1{2,}$")
_CODE_FOLLOWS = re.compile(r".*[:：]$|\.\. [a-z][a-z-]*::")
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦]|\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[)）、])[ \t]*\S")
_NESTED = re.compile(r"[ \t]{2,}\S")
_ROW = re.compile(r"[ \t]*\|.*\||.*\S \| \S.*")
_RULE = re.compile(r"[ \t]*\|?[ \t:|-]*-[ \t:|-]*\|?[ \t]*$")
_UNDERLINE = re.compile(r"[=-]{3,}[ \t]*$")
_INDENT = re.compile(r"[ \t]+(?=\S)")
_CELLS = re.compile(r"([A-Z]+)\d+:([A-Z]+)\d+")


@dataclass(frozen=True, slots=True)
class QuotableUnit:
    """A quotable piece of a passage: the passage's text from ``start`` to ``end``.

    ``lead`` is quoted before the piece: the header of its table, or the introduction of its list. ``best`` is the
    sentence that answers in a piece that is a section.
    """

    start: int
    end: int
    kind: str = "sentence"
    lead: Span | None = None
    best: Span | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    start: int
    end: int


def row_place(passage: Passage, unit: QuotableUnit) -> Place:
    """Return the place of a unit: its own row and cells if it is a row of a passage with several rows.

    A passage with rows begins with their header, and its place names its first row.
    """
    place = passage.place
    if unit.kind != "row" or unit.lead is None or place.row is None:
        return place
    row = place.row + passage.text.count("\n", unit.lead[1], unit.start) - 1
    cells = _CELLS.fullmatch(place.cell or "")
    begin = place.end - len(
        passage.text
    )  # where the text would begin in the file if no header was repeated above it
    return replace(
        place,
        row=row,
        cell=f"{cells[1]}{row}:{cells[2]}{row}" if cells else place.cell,
        start=begin + unit.start,
        end=begin + unit.end,
    )


def units(text: str, *, code: bool = False, headings: tuple[str, ...] = ()) -> list[QuotableUnit]:
    """Return the quotable pieces of ``text`` in order. ``code``: the whole passage is source code or data.

    Headings answer no question and are omitted. Lines that are in ``headings`` are omitted even if they are not marked
    up as headings.
    """
    if code:
        return [QuotableUnit(start, end, "code") for start, end in _parts(text, 0, len(text))]
    quotable_units: list[QuotableUnit] = []
    blocks = [block for block in _blocks(text) if text[block.start : block.end].strip() not in headings]
    lead: Span | None = None
    header: Span | None = None
    for number, block in enumerate(blocks):
        if block.kind == "table" and (number == 0 or blocks[number - 1].kind != "table"):
            header = None
        if block.kind == "prose":
            spans = sentences(text[block.start : block.end])
            quotable_units += (QuotableUnit(block.start + start, block.start + end) for start, end in spans)
            last = quotable_units[-1] if spans else None
            lead = (last.start, last.end) if last and text[last.end - 1] in ":：" else None
        elif block.kind == "table":
            rows, header = _rows(text, block, header)
            quotable_units += rows
        else:
            if lead is not None and quotable_units and block.end - lead[0] <= MAX_BLOCK_CHARACTERS:
                quotable_units[-1] = QuotableUnit(
                    lead[0], block.end, "code" if block.kind == "code" else "list"
                )
            if block.kind == "list":
                quotable_units += _items(text, block, lead)
            elif lead is None or block.end - lead[0] > MAX_BLOCK_CHARACTERS:
                quotable_units += (
                    QuotableUnit(start, end, "code") for start, end in _parts(text, block.start, block.end)
                )
            lead = None
    return quotable_units


def section_around(text: str, unit: QuotableUnit) -> QuotableUnit:
    """Return ``unit`` with what belongs to it in its section: its paragraph, what introduces it, and the list, code,
    table and paragraphs that follow, as far as `MAX_SECTION_CHARACTERS` allows.
    """
    blocks = list(_blocks(text))
    own_numbers = [number for number, block in enumerate(blocks) if _meet(block, unit)]
    if not own_numbers or unit.kind == "row":
        return unit
    first, last = own_numbers[0], own_numbers[-1]
    if blocks[last].end - blocks[first].start > MAX_SECTION_CHARACTERS:
        return _rest_of_block(text, unit, blocks[last])

    def fits(first: int, last: int, limit: int = MAX_SECTION_CHARACTERS) -> bool:
        """Return whether the blocks are in one section and within the limit. A heading separates sections."""
        spans = zip(blocks[first:last], blocks[first + 1 : last + 1], strict=True)
        return blocks[last].end - blocks[first].start <= limit and not any(
            text[above.end : below.start].strip() for above, below in spans
        )

    while first and blocks[first].kind != "prose" and fits(first - 1, last, MAX_BLOCK_CHARACTERS):
        first -= 1
    while last + 1 < len(blocks):
        belongs = blocks[last + 1].kind != "prose"
        if not fits(first, last + 1, MAX_BLOCK_CHARACTERS if belongs else MAX_SECTION_CHARACTERS):
            break
        last += 1
    while first and fits(first - 1, last):
        first -= 1
    return QuotableUnit(
        blocks[first].start,
        blocks[last].end,
        "code" if blocks[last].kind == "code" else "section",
        best=(unit.start, unit.end),
    )


def _meet(block: _Block, unit: QuotableUnit) -> bool:
    return block.start < unit.end and unit.start < block.end


def _rest_of_block(text: str, unit: QuotableUnit, block: _Block) -> QuotableUnit:
    """Return ``unit`` with the sentences or items after it in its own long block."""
    following = (
        later_unit.end
        for later_unit in units(text)
        if unit.end <= later_unit.start and later_unit.end <= block.end
    )
    end = max((end for end in following if end - unit.start <= MAX_SECTION_CHARACTERS), default=unit.end)
    return replace(unit, end=end, best=(unit.start, unit.end))


def section_below(
    text: str, is_heading: Callable[[str], bool], headings: Sequence[str] = ()
) -> QuotableUnit | None:
    """Return the first unit below the first heading that ``is_heading`` accepts: a heading within ``text``, or the last
    one of ``headings``, below which ``text`` is.
    """
    begins = [end for heading, end in _headings(text) if is_heading(heading)]
    if not begins and headings and is_heading(headings[-1]):
        begins = [0]
    if not begins:
        return None
    return next((unit for unit in units(text, headings=(*headings,)) if unit.start >= begins[0]), None)


def _headings(text: str) -> Iterator[tuple[str, int]]:
    """Yield each heading within a text, and the offset of the text below it: also the questions of a list of questions
    and answers, which are terms of a definition list, or lines in bold.
    """
    above = ""
    for begin, line in _lines(text):
        bare = line.strip()
        if is_title_rule(above, bare):
            yield above, begin + len(line)
        elif match := _HEADING_LINE.fullmatch(bare):
            yield next(filter(None, match.groups())).rstrip("# "), begin + len(line)
        above = bare


def _blocks(text: str) -> Iterator[_Block]:
    """Yield blocks, which are runs of lines of one kind: prose, list, table or code. Headings and rules are omitted."""
    kind, start, end = "", 0, 0
    fence = indent = title = ""
    title_start = title_end = 0
    lines = list(_lines(text))
    for number, (begin, line) in enumerate(lines):
        stop = begin + len(line.rstrip())
        bare = line.strip()
        if fence:
            end = stop
            if bare.startswith(fence):
                yield _Block("code", start, end)
                kind = fence = ""
            continue
        if indent and (not bare or line.startswith(indent)):
            end = stop if bare else end
            continue
        if is_title_rule(title, bare):
            # The line above was the last one of its paragraph, and is a heading.
            if kind and start < title_start:
                yield _Block(kind, start, title_end)
            kind = title = indent = ""
            continue
        match = _FENCE.match(line) or _ASCIIDOC_FENCE.match(line)
        indent = "" if match is not None else _code_indent(lines, number)
        now = "code" if indent else _kind(line, kind)
        if match is not None or indent or now != kind or (not now and kind):
            if kind:
                yield _Block(kind, start, end)
            kind, start = now, begin
        if match is not None:
            fence, kind, start = match[1], "code", begin
        title, title_start, title_end = bare, begin, end
        if bare:
            end = stop
    if kind:
        yield _Block(kind, start, end)


def is_title_rule(title: str, rule: str) -> bool:
    """Return whether ``rule`` underlines ``title``, the line above it, as in reStructuredText: about as long."""
    if not title or not _TITLE_RULE.match(rule):
        return False
    return len(title) - 3 <= len(rule) <= 2 * len(title) + 3 and not _TITLE_RULE.match(title)


def _code_indent(lines: Sequence[tuple[int, str]], number: int) -> str:
    """Return the indentation of code that begins in line ``number``, or ``""``: it follows an empty line, and before
    that a line that ends in a colon or a directive of reStructuredText.
    """
    indent = _INDENT.match(lines[number][1])
    if indent is None or number < 2 or lines[number - 1][1].strip():
        return ""
    lead = lines[number - 2][1]
    deeper = indent.group().expandtabs(4).removeprefix(" " * (len(lead) - len(lead.lstrip())))
    return indent.group() if deeper and _CODE_FOLLOWS.match(lead.strip()) else ""


def _kind(line: str, before: str) -> str:
    """Return the kind of block to which ``line`` belongs, or ``""`` for none. ``before`` is the kind of the preceding
    line.
    """
    bare = line.strip()
    if not bare:
        return "list" if before == "list" else ""
    if _HEADING.match(bare) or _UNDERLINE.match(bare) or _ANCHOR.match(bare):
        return ""
    if _ROW.match(line) or (before == "table" and _RULE.match(line)):
        return "table"
    if _ITEM.match(line) or (before == "list" and _NESTED.match(line)):
        return "list"
    return "prose"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    begin = 0
    for line in text.splitlines(keepends=True):
        yield begin, line
        begin += len(line)


def _rows(text: str, block: _Block, header: Span | None) -> tuple[list[QuotableUnit], Span | None]:
    """Return a unit for each row of a table, and the table's header. The first row is the header if a rule follows
    it.
    """
    lines = [
        (block.start + begin, block.start + begin + len(line.rstrip()), line)
        for begin, line in _lines(text[block.start : block.end])
        if line.strip()
    ]
    rules = [place for place, (_start, _end, line) in enumerate(lines) if _RULE.match(line)]
    if header is None and (len(lines) > 1 or not rules) and lines and not _starts_within(lines, rules):
        header = (lines[0][0], lines[1][1] if rules == [1] else lines[0][1])
    return [
        QuotableUnit(start, end, "row", header)
        for place, (start, end, _line) in enumerate(lines)
        if place not in rules and (header is None or start >= header[1])
    ], header


def _starts_within(lines: list[tuple[int, int, str]], rules: list[int]) -> bool:
    """Return whether the beginning of a Markdown table is missing, so that no rule follows the first row."""
    return lines[0][2].lstrip().startswith("|") and 1 not in rules


def _items(text: str, block: _Block, lead: Span | None) -> Iterator[QuotableUnit]:
    """Yield a unit for each item of a list, or for each sentence of a long item."""
    starts = [
        block.start + begin
        for begin, line in _lines(text[block.start : block.end])
        if _ITEM.match(line) and not (_NESTED.match(line) and begin)
    ] or [block.start]
    for start, end in zip(starts, [*starts[1:], block.end], strict=True):
        piece = text[start:end]
        first, last = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        if last - first <= MAX_ITEM_CHARACTERS:
            yield QuotableUnit(first, last, "item", lead)
        else:
            yield from (
                QuotableUnit(first + a, first + b, "sentence", lead) for a, b in sentences(text[first:last])
            )


def _parts(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield short code as a whole, and the paragraphs of longer code."""
    if end - start <= MAX_BLOCK_CHARACTERS:
        pieces = [(start, end)]
    else:
        cuts = [match.span() for match in re.finditer(r"\n[ \t]*\n", text[start:end])]
        begins = [start, *(start + cut[1] for cut in cuts)]
        pieces = list(zip(begins, [*(start + cut[0] for cut in cuts), end], strict=True))
    for begin, stop in pieces:
        piece = text[begin:stop]
        if piece.strip():
            yield begin, begin + len(piece.rstrip())
