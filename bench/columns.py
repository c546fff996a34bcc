"""Measures how PDF pages in columns are read: ``python bench/columns.py [--seed N] [--against CHECKOUT]``.

Each page is set from paragraphs of the XQuAD sets in FOLDER (as for `answers.py`): two or three columns, stored column
by column or row by row, with a running head, a footnote, a caption and a page number; lines are broken by the width of
their letters, English words also by hyphens. Chinese columns are horizontal or vertical.

``whole``: sentences of the paragraphs that are one quotable unit of the page. ``mixed``: units that contain text of a
sentence and of a footnote, a caption or a head. ``lines``: lines of poems, addresses and lists on pages of their own
that stay separate. Rows of plain text: paragraphs of English, and of the documentation's Markdown, with lines of so
many columns; ``lines`` of Markdown as written: sentences at the end of a line that end there. ``ms``: processor time
of a page, with ``--against`` also that of another checkout.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from answers import DATA, read_all
from harness import HERE, Report
from PIL import ImageFont

from portico_server.features.answers.units import sentences, units
from portico_server.features.chunkers.document import Part, SourceDocument
from portico_server.features.readers.pdf import read

sys.path.insert(0, str(HERE.parent))

from tests.server.features.readers import documents  # must follow the change of the path

PAGES = 60
TOP, BOTTOM, PITCH = 700, 110, 13
"""Edges of the columns and distance of lines, in points."""

HYPHENATED_SHARE = 0.3
"""Share of English words that are hyphenated if they do not fit into their line."""

HEAD = "Proceedings of the ninth meeting on harbours"
NOTE = (
    "1 The office has measured every depth twice and has corrected it for the drift of its gauges since then."
)
CAPTION = "Figure 2: Depth of the water at all of the stations that were visited in the second winter."
ASIDES = (HEAD, NOTE, CAPTION)

TIME = """
import sys, time
from pathlib import Path
from portico_server.features.chunkers.document import SourceDocument
from portico_server.features.readers.pdf import read
files = [SourceDocument(path.name, path) for path in sorted(Path(sys.argv[1]).glob("*.pdf"))]
best = None
for _ in range(5):
    begin = time.process_time()
    for file in files:
        list(read(file))
    spent = time.process_time() - begin
    best = spent if best is None else min(best, spent)
print(1000 * best / len(files))
"""

LINES = (
    (
        "Because I could not stop for Death",
        "He kindly stopped for me",
        "The Carriage held but just Ourselves",
    ),
    (
        "Shall I compare thee to a summer's day?",
        "Thou art more lovely and more temperate",
        "Rough winds do shake",
    ),
    ("Mara Velling", "Harwick Works Ltd", "Gate 4, 17 Mill Lane", "Port Ansel 8812"),
    ("two pounds of flour", "salt", "half a pint of milk", "eggs", "butter for the tin"),
    ("1. Open the valve behind the pump", "2. Wait until the gauge shows four", "3. Close the valve"),
    ("Kettle 14.90", "Pan with a lid 32.00", "Spoon 2.10", "Set of four knives 58.00"),
)
WRAP_COLUMNS = (32, 60, 72, 80, 100)
"""Widths of the lines of plain text."""

FONT = ImageFont.load_default(10)

Piece = tuple[int, int, str]


@dataclass(slots=True)
class Page:
    """A page as PDF, its sentences, and the kind of its layout."""

    kind: str
    data: bytes
    sentences: list[str] = field(default_factory=list)


def broken(text: str, width: int, chance: random.Random) -> Iterator[str]:
    """Yield the lines of a text that is set in columns of ``width`` points."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if FONT.getlength(longer) <= width:
            line = longer
        elif len(word) > 7 and word.isalpha() and word.isascii() and chance.random() < HYPHENATED_SHARE:
            cut = len(word) // 2
            yield f"{line} {word[:cut]}-".strip()
            line = word[cut:]
        else:
            yield line
            line = word
    yield line


def english(paragraphs: Sequence[str], columns: int, by_rows: bool, chance: random.Random) -> Page:
    """Return a page of paragraphs in columns."""
    width, distance = (235, 275) if columns == 2 else (150, 180)
    room = (TOP - BOTTOM) // PITCH
    figure = list(broken(CAPTION, width, chance))
    height = len(figure) + 5  # the caption and the picture above it
    lines: list[str] = []
    texts: list[str] = []
    for paragraph in paragraphs:
        added = list(broken(paragraph, width, chance))
        if len(lines) + len(added) > columns * (room - 1) - height:
            break
        lines += added
        texts.append(paragraph)
    size = -(-(len(lines) + height) // columns)
    rows = [
        lines[:size],
        lines[size : 2 * size - height],
        *([lines[2 * size - height :]] if columns == 3 else []),
    ]
    if columns == 2:
        rows[1] = lines[size:]
    set_columns = [
        [
            (40 + distance * number, TOP - PITCH * (place + (height if number == 1 else 0)), line)
            for place, line in enumerate(column)
        ]
        for number, column in enumerate(rows)
    ]
    caption = [(40 + distance, TOP - PITCH * (place + 4), line) for place, line in enumerate(figure)]
    note = [(40, BOTTOM - 35 - PITCH * place, line) for place, line in enumerate(broken(NOTE, width, chance))]
    pieces: list[Piece] = [(40, 760, HEAD)]
    if by_rows:
        pieces += sorted(chain(*set_columns, caption, note), key=lambda piece: (-piece[1], piece[0]))
    else:
        pieces += [*set_columns[0], *note, *caption, *chain(*set_columns[1:])]
    escaped = [(x, y, line.replace("\\", "").replace("(", "").replace(")", "")) for x, y, line in pieces]
    set_texts = [text.replace("(", "").replace(")", "") for text in texts]
    kind = f"{columns} columns, {'by rows' if by_rows else 'by columns'}"
    return Page(
        kind,
        documents.laid_out([*escaped, (300, 30, "41")]),
        [text[a:b] for text in set_texts for a, b in sentences(text)],
    )


def vertical(paragraph: str, chance: random.Random) -> Page:
    """Return a page of Chinese in vertical columns."""
    length = chance.randint(14, 30)
    text = "".join(paragraph.split())[: 60 + chance.randint(0, 15)]
    lines = [text[at : at + length] for at in range(0, len(text), length)]
    columns = [(560 - 22 * number, 740, line) for number, line in enumerate(lines)]
    return Page("vertical Chinese", documents.vertical(columns), [text[a:b] for a, b in sentences(text)])


def horizontal(paragraph: str, chance: random.Random) -> Page:
    """Return a page of Chinese in one narrow column."""
    length = chance.randint(12, 22)
    text = "".join(paragraph.split())
    lines = [text[at : at + length] for at in range(0, len(text), length)][:40]
    text = "".join(lines)
    return Page("narrow Chinese", documents.pdf("\n".join(lines)), [text[a:b] for a, b in sentences(text)])


def markdown_paragraphs() -> list[str]:
    """Return the paragraphs of the documentation, which has a sentence a line."""
    files = [HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md"))]
    blocks = (block for file in files for block in file.read_text(encoding="utf-8").split("\n\n"))
    return [block for block in blocks if block[:1].isalpha()]


def line_end_share(paragraphs: Sequence[str]) -> float:
    """Return the share of the line ends after a full stop at which a sentence ends."""
    whole = count = 0
    for paragraph in paragraphs:
        ends = {end for _, end in sentences(paragraph)}
        stops = [match.end() for match in re.finditer(r"\.(?=\n)", paragraph)]
        whole += sum(stop in ends for stop in stops)
        count += len(stops)
    return whole / count


def whole_share(paragraphs: Sequence[str], width: int) -> float:
    """Return the share of the paragraphs' sentences that are whole if the lines have at most ``width`` columns."""
    whole = count = 0
    for paragraph in paragraphs:
        lines = textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)
        expected = [paragraph[a:b] for a, b in sentences(paragraph)]
        parts = {" ".join(lines[a:b].split()) for a, b in sentences(lines)}
        whole += sum(sentence in parts for sentence in expected)
        count += len(expected)
    return whole / count


def read_units(folder: Path, page: Page) -> list[str]:
    """Return the quotable units of a page."""
    path = folder / "page.pdf"
    path.write_bytes(page.data)
    texts = [part.text for part in read(SourceDocument(path.name, path)) if isinstance(part, Part)]
    return [plain(text[unit.start : unit.end]) for text in texts for unit in units(text)]


def plain(text: str) -> str:
    """Return a text with single spaces and straight apostrophes."""
    return " ".join(text.replace("’", "'").replace("‘", "'").split())


def main() -> None:
    """Read the pages, print and store the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    collections = {data.name: list(data.documents.values()) for data in read_all(options.data)}
    ascii_texts = [" ".join(text.split()) for text in collections["xquad-en"] if text.isascii()]
    chinese_texts = collections["xquad-zh"]
    pages: list[Page] = []
    for number in range(PAGES):
        texts = chance.sample(ascii_texts, 10)
        pages.append(english(texts, 2 + number % 2, number % 4 > 1, chance))
    for text in chance.sample(chinese_texts, PAGES // 2):
        pages += [vertical(text, chance), horizontal(text, chance)]
    report = Report("Pages in columns", ("pages", "whole", "mixed", "lines", "ms"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for kind in dict.fromkeys(page.kind for page in pages):
            whole = count = mixed = total = 0
            for page in (page for page in pages if page.kind == kind):
                page_units = read_units(folder, page)
                whole += sum(plain(sentence) in page_units for sentence in page.sentences)
                count += len(page.sentences)
                mixed += sum(
                    any(aside[:20] in unit and unit not in aside for aside in ASIDES) for unit in page_units
                )
                total += len(page_units)
            report.add(pages=kind, whole=whole / count, mixed=mixed / total)
        authored = [
            documents.laid_out([(60, 700 - 15 * place, line) for place, line in enumerate(lines)])
            for lines in LINES
        ]
        authored_units = [read_units(folder, Page("lines", data)) for data in authored]
        separate = sum(
            line in unit for lines, unit in zip(LINES, authored_units, strict=True) for line in lines
        )
        markdown = markdown_paragraphs()
        report.add(pages="Markdown as written", lines=line_end_share(markdown))
        joined = [" ".join(paragraph.split()) for paragraph in markdown]
        for name, paragraphs in (("plain text", ascii_texts), ("Markdown", joined)):
            for width in WRAP_COLUMNS:
                report.add(pages=f"{name}, {width} columns", whole=whole_share(paragraphs, width))
        report.add(pages="poems, addresses, lists", lines=separate / sum(map(len, LINES)))
        (folder / "page.pdf").unlink()
        for number, page in enumerate(pages):
            (folder / f"{number}.pdf").write_bytes(page.data)
        for checkout in filter(None, (HERE.parent, options.against)):
            report.add(pages=f"time, {checkout.name}", ms=time_pages(folder, checkout))
    report.show(options.json)


def time_pages(folder: Path, checkout: Path) -> float:
    """Return the milliseconds of processor time that a checkout needs for a page."""
    environment = {"PYTHONPATH": f"{checkout / 'server'}:{checkout / 'client'}"}
    command = [sys.executable, "-c", TIME, str(folder)]
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=True
    )
    return float(process.stdout)


if __name__ == "__main__":
    main()
