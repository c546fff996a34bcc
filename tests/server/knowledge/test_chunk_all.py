"""What holds for every chunker, whatever it is given: nothing is lost, places are exact, sizes are kept."""

import json
import random

import pytest

from portico.wire import Place
from portico_server.knowledge.chunk.chunkers import CHUNKERS, check_chunking, chunk_parts
from portico_server.knowledge.chunk.spans import inside_grapheme, width
from portico_server.knowledge.document import Part

SENTENCES = {
    "sentence",
    "window",
    "coarse",
    "medium",
    "fine",
    "late",
    "questions",
    "propositions",
    "contextual",
}
REPEATS = {"rows", "records", "slides", "table", "markdown", *SENTENCES}
"""Those that repeat a header above what their place says."""

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
"""Every kind of text is given to every chunker: users choose the wrong one."""


def parts(text: str, pieces: int = 1) -> list[Part]:
    """A text in consecutive parts, as a reader gives it."""
    found = []
    step = -(-len(text) // pieces)
    for i in range(0, len(text), step):
        part = text[i : i + step]
        line = text.count("\n", 0, i) + 1
        found.append(Part(part, Place(line=line, heading=("A",), row=2, start=i, end=i + len(part))))
    return found


@pytest.mark.parametrize("name", CHUNKERS)
def test_nothing_is_lost_and_every_place_is_exact(name: str) -> None:
    for kind, text in TEXTS.items():
        for pieces in (1, 3):
            keeps_its_promises(name, text, pieces, f"{name} on {kind} in {pieces}")


def keeps_its_promises(name: str, text: str, pieces: int, case: str) -> None:
    size, overlap = 400, 60
    found = CHUNKERS[name].chunk(parts(text, pieces), size, overlap)
    covered = bytearray(len(text))
    for item in found:
        start, end = item.place.start, item.place.end
        said = text[start:end]
        if name in REPEATS:
            assert item.text.strip().endswith(said.strip())
        else:
            assert item.text == said, case
        assert item.text.strip(), case
        assert item.place.line == text.count("\n", 0, start) + 1, case
        assert item.place.heading[:1] == ("A",)
        assert width(item.text) <= size or all(inside_grapheme(said, i) for i in range(1, len(said)))
        covered[start:end] = b"\x01" * (end - start)
    lost = [c for i, c in enumerate(text) if not covered[i] and not c.isspace()]
    assert not lost, f"{case} lost {''.join(lost)[:80]!r}"
    assert [item.place.start for item in found] == sorted(item.place.start for item in found)


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize("seed", range(3))
def test_random_text_keeps_the_same_promises(name: str, seed: int) -> None:
    draw = random.Random(seed)
    samples = [text[i : i + 60] for text in TEXTS.values() for i in range(0, min(len(text), 600), 60)]
    text = "".join(draw.choice(samples) for _ in range(120))
    found = CHUNKERS[name].chunk(parts(text), 300, 40)
    covered = bytearray(len(text))
    for item in found:
        covered[item.place.start : item.place.end] = b"\x01" * (item.place.end - item.place.start)
        assert width(text[item.place.start : item.place.end]) <= 300
    assert not [c for i, c in enumerate(text) if not covered[i] and not c.isspace()]
    again = CHUNKERS[name].chunk(parts(text), 300, 40)
    assert again == found


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize("text", ["", " \n\t\n", "\u3000"])
def test_of_nothing_there_are_no_chunks(name: str, text: str) -> None:
    assert CHUNKERS[name].chunk([Part(text, Place(line=1, end=len(text)))], 400, 60) == []
    assert CHUNKERS[name].chunk([], 400, 60) == []


@pytest.mark.parametrize("name", CHUNKERS)
def test_one_can_be_asked_for_by_name_with_sizes_of_its_own(name: str) -> None:
    strategy = check_chunking({"type": name}, by_model=True)
    assert (strategy["size"], strategy["overlap"]) == (CHUNKERS[name].size, CHUNKERS[name].overlap)
    assert chunk_parts(parts(PROSE), strategy, "sentence") == CHUNKERS[name].chunk(
        parts(PROSE), CHUNKERS[name].size, CHUNKERS[name].overlap
    )
    assert check_chunking({"type": name, "size": 300}, by_model=True)["overlap"] <= 150


def test_there_are_twenty_and_more_and_each_says_what_it_is_for() -> None:
    assert len(CHUNKERS) >= 20
    descriptions = [item.description for item in CHUNKERS.values()]
    assert len(set(descriptions)) == len(descriptions)
    assert all(len(text) > 10 for text in descriptions)


@pytest.mark.parametrize("name", CHUNKERS)
def test_a_long_text_takes_no_more_than_its_length(name: str) -> None:
    # Quadratic work would take minutes here; the time limit of the suite says so.
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
        assert CHUNKERS[name].chunk(parts(text), 1_000, 100)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("markdown", "Some words first.\n\n| Boat | Fee |\n| --- | --- |\n{}\nAnd some behind."),
        ("sentence", "Some words first.\n\nBoat | Fee\n{}\nAnd some behind."),
    ],
)
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_each_piece_of_a_table_that_is_cut_has_its_header(name: str, text: str, gap: str) -> None:
    ruled = name == "markdown"
    rows = [f"| boat {i} | {i * 3} |" if ruled else f"boat {i} | {i * 3}" for i in range(100, 200)]
    found = CHUNKERS[name].chunk(parts(text.format(("\n" if ruled else gap).join(rows))), 400, 60)
    holding = [item.text for item in found if "boat 1" in item.text]
    assert len(holding) > 3
    assert all("Boat | Fee" in said for said in holding)
    assert "Some words first." in found[0].text and "And some behind." in found[-1].text
    for row in rows:
        assert sum(row in said for said in holding) == 1


def test_rows_without_a_header_get_none() -> None:
    rows = "\n".join(f"{i} | boat {i}" for i in range(100, 200))
    found = CHUNKERS["sentence"].chunk(parts(rows), 400, 0)
    assert sum("100 | boat 100" in item.text for item in found) == 1
