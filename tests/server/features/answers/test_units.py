"""Where sentences begin and end, and which parts of a passage can be quoted."""

import pytest

from portico_server.features.answers.units import (
    QuotableUnit,
    section_around,
    section_below,
    sentences,
    units,
)


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. We stay.", ["It rains.", "We stay."]),
        ("Mr. Smith met J. K. Rowling. He left.", ["Mr. Smith met J. K. Rowling.", "He left."]),
        ("It costs 3.50 euros, i.e. little. Buy it.", ["It costs 3.50 euros, i.e. little.", "Buy it."]),
        ("See fig. 3 of vol. 2. Then stop.", ["See fig. 3 of vol. 2.", "Then stop."]),
        ("He lives in the U.S. The house is old.", ["He lives in the U.S.", "The house is old."]),
        ("It is 18 m. Little is known.", ["It is 18 m.", "Little is known."]),
        ("The U.S. Army left.", ["The U.S. Army left."]),
        ("It listens on `127.0.0.1`. Version 1.2 came.", ["It listens on `127.0.0.1`.", "Version 1.2 came."]),
        ('He said "Who goes?" and left.', ['He said "Who goes?" and left.']),
        ("“Go!” he said. She went.", ["“Go!” he said.", "She went."]),
        ("Wait... what? Yes!", ["Wait... what?", "Yes!"]),
        ("他走了。“好吗？”她问。然后笑了！", ["他走了。", "“好吗？”她问。", "然后笑了！"]),
        ("面包烤3.5小时。U.S. 是美国。", ["面包烤3.5小时。", "U.S. 是美国。"]),
        ("", []),
        (" \n \n ", []),
        ("Title\n\nText goes on", ["Title", "Text goes on"]),
        ("Name: Ada\nAge: 36", ["Name: Ada", "Age: 36"]),
    ],
)
def test_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_a_line_that_was_broken_because_it_was_full_continues() -> None:
    text = "This is a line that a writer broke since it had become too long for\nthe page. It ends here."
    assert split(text) == [text[:77], "It ends here."]


NARROW = """The harbour was dredged in the
autumn of 1987, since ships had
run aground twice. The council
paid for the work and decided in
March that it be repeated every
fourteen months."""
NARROW_CHINESE = (
    "港口在一九八七年秋天\n疏浚，因为两艘船搁浅\n了。议会支付了工程费\n用，并决定每十四个月\n重复一次。"
)
NAMES = (
    "The harbour was dredged in the autumn of 1987, when Mayor Ruth Lindgren and\n"
    "Harwick Works had signed for it. The council paid. See the contract with the\n"
    "`works` office."
)
SENTENCES = (
    "The council paid for the work and decided that it be repeated every year.\n"
    "`repeat` sets how often the council pays for the work in the old harbour.\n"
    "The harbour was dredged in the autumn, since ships had run aground twice."
)
LONG_POEM = """Behind the harbour lies the road on which the carters came,
And every carter had a horse, and every horse a name,
And every name was painted white upon a board of oak,
Until the winter of the flood, in which the axles broke"""
POEM = """The tide comes in before the dawn
And lifts the boats along the quay
No keeper sees that they are gone
He counts the ships upon the sea"""
ADDRESS = "Harbour Office\n12 Quay Street\n4021 Northport"
LIST = "rope\nlamp oil for the winter\npaint, white and red, ten tins\ntar\nbrushes"
VERSES = "床前明月光，疑是地上霜，\n举头望明月，低头思故乡，\n明月出天山，苍茫云海间，"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NARROW, [NARROW[: NARROW.index(" The council")], NARROW[NARROW.index("The council") :]]),
        (
            NARROW_CHINESE,
            [NARROW_CHINESE.split("议会")[0], NARROW_CHINESE[NARROW_CHINESE.index("议会") :]],
        ),
        (NAMES, [NAMES.split(" The council")[0], "The council paid.", NAMES[NAMES.index("See") :]]),
        (SENTENCES, SENTENCES.split("\n")),
        (LONG_POEM, LONG_POEM.split("\n")),
        (POEM, POEM.split("\n")),
        (ADDRESS, ADDRESS.split("\n")),
        (LIST, LIST.split("\n")),
        (VERSES, VERSES.split("\n")),
        (
            f"{'A paragraph of many words ' * 8}\nThe next one",
            [("A paragraph of many words " * 8).strip(), "The next one"],
        ),
    ],
)
def test_lines_of_a_narrow_column_continue_and_lines_that_an_author_broke_do_not(
    text: str, expected: list[str]
) -> None:
    assert split(text) == expected


PAGE = """# Oven

To start the oven:

1. Turn the knob.
2. Wait for ten minutes. It is loud.

| Bread | Degrees |
| --- | --- |
| Rye | 230 |
| Wheat | 210 |

Then run this:

```bash
oven start  # it beeps
```
"""


def quotable(text: str, **options: object) -> list[tuple[str, str, str]]:
    return [
        (
            unit.kind,
            text[unit.lead[0] : unit.lead[1]] if unit.lead else "",
            text[unit.start : unit.end],
        )
        for unit in units(text, **options)  # type: ignore[arg-type]
    ]


def test_lists_tables_and_code_are_separate_units_with_their_introductions() -> None:
    header = "| Bread | Degrees |\n| --- | --- |"
    assert quotable(PAGE) == [
        ("list", "", "To start the oven:\n\n1. Turn the knob.\n2. Wait for ten minutes. It is loud."),
        ("item", "To start the oven:", "1. Turn the knob."),
        ("item", "To start the oven:", "2. Wait for ten minutes. It is loud."),
        ("row", header, "| Rye | 230 |"),
        ("row", header, "| Wheat | 210 |"),
        ("code", "", "Then run this:\n\n```bash\noven start  # it beeps\n```"),
    ]


def test_rows_of_a_web_page_or_a_spreadsheet_have_their_header() -> None:
    assert quotable("Kind | Fee\n\nAdult | 5 EUR\n\nChild | 2 EUR") == [
        ("row", "Kind | Fee", "Adult | 5 EUR"),
        ("row", "Kind | Fee", "Child | 2 EUR"),
    ]


def test_a_table_that_was_cut_has_no_header() -> None:
    assert quotable("| Rye | 230 |\n| Wheat | 210 |") == [
        ("row", "", "| Rye | 230 |"),
        ("row", "", "| Wheat | 210 |"),
    ]


def test_headings_are_no_answers() -> None:
    assert quotable("Fees\n\nAll are listed.", headings=("Fees",)) == [("sentence", "", "All are listed.")]


def test_source_code_is_quoted_as_it_is() -> None:
    source = "def add(a, b):\n    return a + b"
    assert quotable(source, code=True) == [("code", "", source)]


MARKDOWN_SECTION = (
    "## Restart a node\n\nFirst move its work away:\n\n```bash\ndrain node1\n```\n\nThen restart it.\n\n"
    "## Rename a node\n\nNames are final."
)
RST_SECTION = (
    "Restart a node\n==============\n\nFirst move its work away::\n\n    drain node1\n    wait node1\n\n"
    "Then restart it.\n\n.. _rename:\n\nRename a node\n~~~~~~~~~~~~~\n\nNames are final."
)
ASCIIDOC_SECTION = (
    "== Restart a node\n\nFirst move its work away:\n\n----\n$ drain node1\n----\n\nThen restart it.\n\n"
    "[[rename]]\n== Rename a node\n\nNames are final."
)
STEPS = "To restart a node:\n\n1. Drain it.\n2. Stop it.\n3. Start it.\n\nThis takes a minute."


@pytest.mark.parametrize(
    ("text", "sentence", "section"),
    [
        (
            MARKDOWN_SECTION,
            "Then restart it.",
            "First move its work away:\n\n```bash\ndrain node1\n```\n\nThen restart it.",
        ),
        (
            RST_SECTION,
            "Then restart it.",
            "First move its work away::\n\n    drain node1\n    wait node1\n\nThen restart it.",
        ),
        (
            ASCIIDOC_SECTION,
            "Then restart it.",
            "First move its work away:\n\n----\n$ drain node1\n----\n\nThen restart it.",
        ),
        (MARKDOWN_SECTION, "Names are final.", "Names are final."),
        (RST_SECTION, "Names are final.", "Names are final."),
        (ASCIIDOC_SECTION, "Names are final.", "Names are final."),
        (STEPS, "To restart a node:", STEPS),
        (STEPS, "2. Stop it.", STEPS),
        (
            f"{'It is slow. ' * 60}It waits for the disk. It goes on.",
            "It waits for the disk.",
            "It waits for the disk. It goes on.",
        ),
    ],
)
def test_a_section_is_quoted_around_its_best_sentence(text: str, sentence: str, section: str) -> None:
    start = text.index(sentence)
    unit = section_around(text, QuotableUnit(start, start + len(sentence)))

    assert text[unit.start : unit.end] == section
    assert unit.best == (start, start + len(sentence))


@pytest.mark.parametrize(
    ("text", "heading", "first"),
    [
        (MARKDOWN_SECTION, "Rename a node", "Names are final."),
        (RST_SECTION, "Rename a node", "Names are final."),
        (ASCIIDOC_SECTION, "Rename a node", "Names are final."),
        ("**Can I rename it?**\n\nNo.", "Can I rename it?", "No."),
        ("Can I rename it?::\n\tNo, names are final.", "Can I rename it?", "No, names are final."),
        ("Q: Can I rename it?\n\nNo.", "Can I rename it?", "No."),
        ("问：可以改名吗？\n\n不可以。", "可以改名吗？", "不可以。"),
        ("Names are final.", "Rename a node", "Names are final."),
        ("## Restart\n\nStop it.", "Rename", ""),
    ],
)
def test_text_below_a_heading_is_found(text: str, heading: str, first: str) -> None:
    unit = section_below(text, lambda line: line == heading, ("Nodes", "Rename a node"))

    assert (text[unit.start : unit.end] if unit is not None else "") == first
