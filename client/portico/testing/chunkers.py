"""The contract of every chunker: checks for authors of chunkers. Portico's own chunkers pass them too.

A check accepts a `ChunkingStrategy` and raises `AssertionError` for a violation, as ``docs/plugins.md`` shows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Final, TypeAlias

from portico.wire import Place
from portico_server.features.chunkers.chunkers import ChunkingStrategy
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.spans import inside_grapheme, width

__all__ = ["CHUNKER_CHECKS", "TEXTS", "ChunkerCheck", "parts"]

ChunkerCheck: TypeAlias = Callable[[ChunkingStrategy, bool], None]
"""A check: ``(strategy, repeats)``. ``repeats`` is true if chunks begin with a header that is not part of the text at
their place.
"""

PROSE = "The harbour opens at six. Boats wait outside; some leave again.\n\nIn winter it stays shut. Nobody minds.\n"
CHINESE = "港口六点开门。船在外面等候；有的又离开了。\n\n冬天港口关闭。没有人介意，因为水会结冰。\n"
MARKDOWN = (
    "# Fees\n\nIntro.\n\n## Berths\n\n| Boat | Fee |\n| --- | --- |\n"
    + "| Dinghy | 15 |\n" * 60
    + "\nAfter.\n"
)
PYTHON = (
    "import os\n\nclass Boat:\n    '''A boat.'''\n\n    def sail(self):\n        return 1\n\n"
    + "".join(f"    def move_{i}(self):\n        x = {i}\n        return x\n\n" for i in range(30))
    + "def main():\n    pass\n"
)
GO = (
    "package boats\n\nfunc (b *Boat) Sail() int {\n\treturn 1\n}\n\ntype Boat struct {\n\tName string\n}\n"
    * 12
)
DATA = json.dumps(
    {"name": "港口", "berths": [{"id": i, "tags": ["a, b", "}{"], "note": "x" * 50} for i in range(40)]},
    indent=1,
)
LINES = "\n".join(json.dumps({"id": i, "text": "word " * 9}) for i in range(60))
LOG = "".join(
    f"2026-11-20 10:{i:02}:00 ERROR boat {i}\nTraceback (most recent call last):\n  File x\n"
    for i in range(40)
)
LAW = "第一章 总则\n\n" + "".join(
    f"第{n}条 船舶应当遵守港口的规定。\n违反的，罚款。\n" for n in "一二三四五六七八九"
)
CHAT = "".join(f"Ann: Where is boat {i}?\n小明：在码头。真的！\nIt is.\n" for i in range(30))
FORMULAS = (
    "Energy is $E = mc^2$. So we have\n\n\\begin{equation}\na = b. c = d.\n\\end{equation}\n\nand then on. "
    * 12
)
PATCH = "diff --git a/x b/x\n--- a/x\n+++ b/x\n" + "@@ -1,2 +1,2 @@\n-old line\n+new line\n same\n" * 30
TABLE = "name | fee\n" + "\n".join(f"boat {i} | {i * 3}" for i in range(90))
WEIRD = (
    "\u200b\u3000 e\u0301" * 40 + "👩‍👩‍👧🇨🇳" * 60 + "\x0b\x0c\x1c\x85\u2028" + "{[\"'`$$\\[ | --- ```" * 30
)
TEXTS = {
    "prose": PROSE * 12, "chinese": CHINESE * 12, "markdown": MARKDOWN, "python": PYTHON, "go": GO, "json": DATA,
    "jsonl": LINES, "log": LOG, "law": LAW, "chat": CHAT, "formulas": FORMULAS, "patch": PATCH, "table": TABLE,
    "weird": WEIRD, "one line": "just one line", "huge line": "word," * 3_000, "huge word": "x" * 9_000,
    "huge chinese": "字" * 4_000, "lines only": "\n" * 500 + "end", "crlf": "a\r\nb\r\n\r\nc\r\n" * 90,
    "broken json": '{"a": [1, 2, {"b": "' + "y" * 900, "deep": "[" * 5_000 + "]" * 5_000,
}  # fmt: skip
"""Texts of every kind. Every chunker is tested with all of them, because users may choose the wrong chunker."""


def parts(text: str, pieces: int = 1) -> list[Part]:
    """Split a text into consecutive parts, like those that a reader returns."""
    found_parts = []
    step = -(-len(text) // pieces)
    for i in range(0, len(text), step):
        part = text[i : i + step]
        line = text.count("\n", 0, i) + 1
        found_parts.append(Part(part, Place(line=line, heading=("A",), row=2, start=i, end=i + len(part))))
    return found_parts


def nothing_is_lost_and_every_place_is_exact(strategy: ChunkingStrategy, repeats: bool = False) -> None:
    """Check that every chunk has its exact place and that no text is lost. Each sample is passed in one part and in
    three; the samples include CJK, code, tables, control characters and lines of any length.
    """
    for kind, text in TEXTS.items():
        for pieces in (1, 3):
            _keeps_its_promises(strategy, repeats, text, pieces, f"{strategy.name} on {kind} in {pieces}")


def _keeps_its_promises(strategy: ChunkingStrategy, repeats: bool, text: str, pieces: int, case: str) -> None:
    size, overlap = 400, 60
    found_parts = strategy.chunk(parts(text, pieces), size, overlap)
    coverage = bytearray(len(text))
    for item in found_parts:
        start, end = item.place.start, item.place.end
        expected_text = text[start:end]
        if repeats:
            assert item.text.strip().endswith(expected_text.strip())
        else:
            assert item.text == expected_text, case
        assert item.text.strip(), case
        assert item.place.line == text.count("\n", 0, start) + 1, case
        assert item.place.heading[:1] == ("A",)
        assert width(item.text) <= size or all(
            inside_grapheme(expected_text, i) for i in range(1, len(expected_text))
        )
        coverage[start:end] = b"\x01" * (end - start)
    lost_chars = [c for i, c in enumerate(text) if not coverage[i] and not c.isspace()]
    assert not lost_chars, f"{case} lost {''.join(lost_chars)[:80]!r}"
    assert [item.place.start for item in found_parts] == sorted(item.place.start for item in found_parts)


def random_text_keeps_the_same_promises(strategy: ChunkingStrategy, repeats: bool = False) -> None:
    """Check a text made of pieces of all samples in random order: places are exact, no text is lost, and the same text
    always gives the same chunks.
    """
    samples = [text[i : i + 60] for text in TEXTS.values() for i in range(0, min(len(text), 600), 60)]
    for seed in range(3):
        draw = random.Random(seed)  # noqa: S311  # the same text in each run
        text = "".join(draw.choice(samples) for _ in range(120))
        found_parts = strategy.chunk(parts(text), 300, 40)
        coverage = bytearray(len(text))
        for item in found_parts:
            coverage[item.place.start : item.place.end] = b"\x01" * (item.place.end - item.place.start)
            assert width(text[item.place.start : item.place.end]) <= 300
        assert not [c for i, c in enumerate(text) if not coverage[i] and not c.isspace()]
        assert strategy.chunk(parts(text), 300, 40) == found_parts


def of_nothing_there_are_no_chunks(strategy: ChunkingStrategy, repeats: bool = False) -> None:
    """Check that there are no chunks for no parts or for whitespace."""
    assert strategy.chunk([], 400, 60) == []
    for text in ("", " \n\t\n", "\u3000"):
        assert strategy.chunk([Part(text, Place(line=1, end=len(text)))], 400, 60) == []


def a_long_text_takes_no_more_than_its_length(strategy: ChunkingStrategy, repeats: bool = False) -> None:
    """Check that long texts do not need quadratic work, which would take minutes: the time limit of the tests detects
    that.
    """
    for text in (
        PROSE * 1_500,
        "(" * 20_000,
        "a: " * 20_000,
        "| - " * 10_000,
        "$x\n" * 20_000,
        '"' * 20_001,
        '"\\' * 20_000,
        "?" * 40_000,
        " \t" * 20_000 + "x",
        "\\[" * 20_000,
    ):
        assert strategy.chunk(parts(text), 1_000, 100)


CHUNKER_CHECKS: Final[tuple[ChunkerCheck, ...]] = (
    nothing_is_lost_and_every_place_is_exact,
    random_text_keeps_the_same_promises,
    of_nothing_there_are_no_chunks,
    a_long_text_takes_no_more_than_its_length,
)
