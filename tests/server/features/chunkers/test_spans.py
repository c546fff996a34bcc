"""How parts become chunks."""

import random
from itertools import pairwise

import pytest

from portico.wire import Place
from portico_server.core.errors import InvalidRequest
from portico_server.features.chunkers import sections, tables
from portico_server.features.chunkers.chunkers import CHUNKERS, check_chunking, chunk_parts
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sentences import chunk_sentences, sentences
from portico_server.features.chunkers.spans import cut, inside_grapheme, width

ENGLISH = (
    'Dr. Smith arrived at 10 a.m. on Jan. 5. He said "hello." Then he left! Why? Nobody knows… '
    "See Fig. 3, e.g. the left side. Version 1.2.3 is out.\n\nA new paragraph begins"
)
CHINESE = "雪莲花生长在高山。它很少见！你见过吗？“没有。”他说；然后走了。"


def part(text: str, **place: object) -> Part:
    return Part(text, Place(line=1, end=len(text), **place))  # type: ignore[arg-type]


def lengthy(seed: int) -> str:
    """Return random prose in two languages with emoji, flags and accents, of at least 4,000 characters."""
    draw = random.Random(seed)
    words = [
        "word",
        "naïve",
        "cafe\u0301",
        "👩‍👩‍👧",
        "🇨🇳🇫🇷",
        "👍🏽",
        "雪莲花",
        "高山",
        "한국어",
        "x" * 300,
        "。",
        "!\n\n",
        ".",
        "\n",
        "，",
    ]
    return " ".join(draw.choice(words) for _ in range(1200))


def test_sentences_are_split_at_real_sentence_ends() -> None:
    assert [ENGLISH[a:b].strip() for a, b in sentences(ENGLISH)] == [
        "Dr. Smith arrived at 10 a.m. on Jan. 5.",
        'He said "hello."',
        "Then he left!",
        "Why?",
        "Nobody knows…",
        "See Fig. 3, e.g. the left side.",
        "Version 1.2.3 is out.",
        "A new paragraph begins",
    ]
    assert [CHINESE[a:b] for a, b in sentences(CHINESE)] == [
        "雪莲花生长在高山。",
        "它很少见！",
        "你见过吗？",
        "“没有。”",
        "他说；",
        "然后走了。",
    ]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "", "\n\n", "no end", lengthy(0)])
def test_sentences_cover_the_text_without_gap_or_overlap(text: str) -> None:
    spans = list(sentences(text))
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)


@pytest.mark.parametrize("name", ["sentence", "markdown", "code"])
@pytest.mark.parametrize("seed", range(8))
def test_every_chunk_is_the_text_at_its_place_and_no_word_is_lost(name: str, seed: int) -> None:
    text = lengthy(seed)
    offset = 100
    source = Part(text, Place(page=3, line=7, heading=("A",), start=offset, end=offset + len(text)))
    chunks = CHUNKERS[name].chunk([source], 400, 60)
    covered_offsets = set()
    for item in chunks:
        start, end = item.place.start - offset, item.place.end - offset
        assert text[start:end] == item.text
        assert item.place.line == 7 + text.count("\n", 0, start)
        assert (item.place.page, item.place.heading) == (3, ("A",))
        assert 0 < width(item.text) <= 400
        covered_offsets.update(range(start, end))
    assert all(text[i].isspace() for i in set(range(len(text))) - covered_offsets)
    assert [item.place.start for item in chunks] == sorted(item.place.start for item in chunks)


@pytest.mark.parametrize("seed", range(4))
def test_no_cut_goes_through_a_grapheme(seed: int) -> None:
    text = lengthy(seed).replace(" ", "").replace("\n", "").replace("。", "").replace("，", "")
    for start, end in cut(text, (0, len(text)), 37):
        assert not inside_grapheme(text, start), text[start - 3 : start + 3]
        assert not inside_grapheme(text, end), text[end - 3 : end + 3]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("e\u0301", True),
        ("👩‍👧", True),
        ("👍🏽", True),
        ("🇨🇳", True),
        ("\r\n", True),
        ("ab", False),
        ("雪莲", False),
    ],
)
def test_graphemes_of_several_code_points_are_recognised(text: str, whole: bool) -> None:
    assert inside_grapheme(text, 1) is whole


def test_a_grapheme_wider_than_a_chunk_stays_whole() -> None:
    text = "e" + "\u0301" * 80 + " end"
    spans = list(cut(text, (0, len(text)), 10))
    assert spans[0] == (0, 81)
    assert spans[-1][1] == len(text)


def test_chunks_overlap_by_whole_sentences() -> None:
    text = " ".join(f"This is sentence number {i} of many." for i in range(60))
    chunks = chunk_sentences([part(text)], 400, 80)
    assert len(chunks) > 5
    for previous_chunk, next_chunk in pairwise(chunks):
        overlap = text[next_chunk.place.start : previous_chunk.place.end]
        assert overlap.startswith("This is sentence")
        assert overlap.endswith("of many.")
        assert len(overlap) <= 80


def test_a_chinese_chunk_has_half_as_many_characters() -> None:
    english = chunk_sentences([part("A short one. " * 400)], 1000, 0)
    chinese = chunk_sentences([part("雪莲花生长在高山。" * 400)], 1000, 0)
    assert 900 <= len(english[0].text) <= 1000
    assert 450 <= len(chinese[0].text) <= 500


def test_a_short_text_is_one_chunk_and_white_space_none() -> None:
    [only] = chunk_sentences([part("  One. Two.  ")], 1000, 100)
    assert (only.text, only.place.start, only.place.end) == ("One. Two.", 2, 11)
    assert chunk_sentences([part(" \n\n ")], 1000, 100) == []


def test_markdown_keeps_code_and_tables_whole_and_joins_a_title_with_what_follows() -> None:
    code = "```python\n" + "\n".join(f"line_{i} = {i}\n" for i in range(12)) + "```\n"
    text = "# Title\n\n## First\n\n" + "Prose. " * 30 + "\n\n" + code + "\nAfter. " * 30
    title = Part("# Title\n\n", Place(line=1, heading=("Title",), start=0, end=9))
    first = Part(text[9:], Place(line=3, heading=("Title", "First"), start=9, end=len(text)))
    chunks = sections.chunk_markdown([title, first], 400, 0)
    assert chunks[0].text.startswith("# Title\n\n## First\n\nProse.")
    assert chunks[0].place.heading == ("Title", "First")
    assert any(code.strip() in item.text for item in chunks)
    assert all(text[item.place.start : item.place.end] == item.text for item in chunks)


def test_markdown_sections_that_are_not_neighbours_stay_apart() -> None:
    first_part = Part("## A\n\nshort\n", Place(heading=("X", "A"), start=0, end=12))
    second_part = Part("# Y\n\nshort\n", Place(heading=("Y",), start=12, end=23))
    far = Part("# Z\n\nshort\n", Place(heading=("Y", "Z"), start=90, end=101))
    assert [
        item.place.heading for item in sections.chunk_markdown([first_part, second_part, far], 1000, 0)
    ] == [
        ("X", "A"),
        ("Y",),
        ("Y", "Z"),
    ]


def test_code_keeps_definitions_together_and_indentation() -> None:
    text = "import os\n\n\n" + "\n\n".join(
        f"def function_{i}():\n    a = {i}\n\n    return a\n" for i in range(20)
    )
    chunks = CHUNKERS["code"].chunk([part(text)], 200, 50)
    assert all(item.text.startswith(("import", "def ")) for item in chunks)
    assert all(item.text.count("def ") == item.text.count("return a") for item in chunks)
    assert chunks[1].place.line == text.count("\n", 0, chunks[1].place.start) + 1
    [long] = [Part("    indented = 1\n    more = 2\n", Place(line=1, end=30))]
    assert CHUNKERS["code"].chunk([long], 100, 0)[0].text == "    indented = 1\n    more = 2"


def test_rows_too_wide_for_a_chunk_repeat_the_header() -> None:
    text = "name | fee\n" + "\n".join(f"boat {i} {'x' * 60} | {i}" for i in range(20))
    chunks = tables.chunk_rows([Part(text, Place(row=2, end=len(text)))], 300, 50)
    assert all(item.text.startswith("name | fee\n") for item in chunks)
    assert all(width(item.text) <= 300 for item in chunks)
    assert [item.place.row for item in chunks][:2] == [2, 2 + chunks[0].text.count("boat")]
    assert sum(item.text.count("boat") for item in chunks) == 20


def test_rows_below_a_header_too_wide_to_repeat_keep_their_numbers() -> None:
    text = f"name | {'wide ' * 40} | row\n" + "\n".join(f"boat | {'x' * 60} | {row}" for row in range(2, 22))
    for item in tables.chunk_rows([Part(text, Place(row=2, end=len(text)))], 300, 50):
        rows = [int(line.rpartition(" ")[2]) for line in item.text.split("\n") if line.startswith("boat")]
        assert rows[:1] in ([], [item.place.row])


def test_a_static_strategy_counts_four_letters_or_two_chinese_characters_to_a_token() -> None:
    strategy = check_chunking(
        {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    )
    assert max(len(c.text) for c in chunk_parts([part("Some words. " * 300)], strategy, "sentence")) in range(
        380, 401
    )
    assert max(len(c.text) for c in chunk_parts([part("高山植物。" * 300)], strategy, "sentence")) in range(
        190, 201
    )


@pytest.mark.parametrize(
    ("strategy", "param"),
    [
        ("auto", "chunking_strategy"),
        ({"type": "sentences"}, "chunking_strategy.type"),
        ({"type": "static"}, "chunking_strategy.static"),
        (
            {"type": "static", "static": {"max_chunk_size_tokens": 99}},
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            {"type": "static", "static": {"chunk_overlap_tokens": 401}},
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ({"type": "sentence", "size": True}, "chunking_strategy.size"),
        ({"type": "sentence", "size": 100, "overlap": 51}, "chunking_strategy.overlap"),
    ],
)
def test_an_invalid_strategy_is_refused_and_the_invalid_field_named(strategy: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_chunking(strategy)
    assert error.value.param == param


def test_missing_strategy_fields_are_filled_with_defaults() -> None:
    assert check_chunking(None) == {"type": "auto"}
    assert check_chunking({"type": "static", "static": {}})["static"] == {
        "max_chunk_size_tokens": 800,
        "chunk_overlap_tokens": 400,
    }
    assert check_chunking({"type": "sentence"}) == {"type": "sentence", "size": 1000, "overlap": 100}
