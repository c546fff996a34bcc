"""Properties of every chunker on any input: no text is lost, places are exact, sizes are respected."""

import pytest

from portico.testing.chunkers import CHUNKER_CHECKS, PROSE, ChunkerCheck, parts
from portico_server.features.chunkers.chunkers import CHUNKERS, check_chunking, chunk_parts

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
"""Chunkers that repeat a header before the text of their place."""


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize("check", CHUNKER_CHECKS, ids=lambda check: check.__name__)
def test_every_chunker_passes_the_common_checks(name: str, check: ChunkerCheck) -> None:
    check(CHUNKERS[name], name in REPEATS)


@pytest.mark.parametrize("name", CHUNKERS)
def test_every_chunker_is_selectable_by_name_with_its_default_sizes(name: str) -> None:
    strategy = check_chunking({"type": name}, by_model=True)
    assert (strategy["size"], strategy["overlap"]) == (CHUNKERS[name].size, CHUNKERS[name].overlap)
    assert chunk_parts(parts(PROSE), strategy, "sentence") == CHUNKERS[name].chunk(
        parts(PROSE), CHUNKERS[name].size, CHUNKERS[name].overlap
    )
    assert check_chunking({"type": name, "size": 300}, by_model=True)["overlap"] <= 150


def test_at_least_twenty_chunkers_have_distinct_descriptions() -> None:
    assert len(CHUNKERS) >= 20
    descriptions = [item.description for item in CHUNKERS.values()]
    assert len(set(descriptions)) == len(descriptions)
    assert all(len(text) > 10 for text in descriptions)


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
    chunks = CHUNKERS[name].chunk(parts(text.format(("\n" if ruled else gap).join(rows))), 400, 60)
    holding = [item.text for item in chunks if "boat 1" in item.text]
    assert len(holding) > 3
    assert all("Boat | Fee" in chunk_text for chunk_text in holding)
    assert "Some words first." in chunks[0].text and "And some behind." in chunks[-1].text
    for row in rows:
        assert sum(row in chunk_text for chunk_text in holding) == 1


def test_rows_without_a_header_are_split_without_repeating_a_row() -> None:
    rows = "\n".join(f"{i} | boat {i}" for i in range(100, 200))
    chunks = CHUNKERS["sentence"].chunk(parts(rows), 400, 0)
    assert sum("100 | boat 100" in item.text for item in chunks) == 1
