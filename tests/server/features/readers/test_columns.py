"""Pages in columns: the order of their text, joined lines and words, and lines that stay as their author broke them."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest
from tests.server.features.readers import documents
from tests.server.features.readers.reading import Reading

Piece = tuple[int, int, str]

TIDES = (
    "The maintenance of harbours in northern latitudes depends on a considerable number of circumstances, among which "
    "the temperature of the water is the most influential. Sediment accumulates near the entrance, and the dredging "
    "has to be repeated every fourteen months. In 1987 the town council decided that the lighthouse should remain lit "
    "throughout the whole winter, although no ship can reach the quays before the ice breaks in the month of March. "
)
WORKS = (
    "Winter storms move the shingle along the shore until it meets the older of the two piers. The engineers counted "
    "every stone that the sea had carried away since autumn and replaced it with granite from the quarry behind the "
    "town. A second survey was made when the workers had left, since the first one had been interrupted by the fog. "
)
LINE_POINTS = 13


def column(text: str, left: int, width: int, top: int) -> list[Piece]:
    """Return the lines of a text in a column: ``width`` in characters, ``top`` in points from the lower edge."""
    lines = textwrap.wrap(text.strip(), width)
    return [(left, top - LINE_POINTS * number, line) for number, line in enumerate(lines)]


def by_rows(*columns: Sequence[Piece]) -> list[Piece]:
    """Return the lines of columns row by row, as some programs write them."""
    return sorted((piece for lines in columns for piece in lines), key=lambda piece: (-piece[1], piece[0]))


def joined(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("quarters", [0, 1])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("is_interleaved", [False, True])
async def test_sentences_across_columns_are_joined(
    read: Reading, count: int, is_interleaved: bool, quarters: int
) -> None:
    width, distance = (44, 270) if count == 2 else (30, 185)
    text = (TIDES + WORKS) * count
    lines = textwrap.wrap(text, width)
    size = -(-len(lines) // count)
    columns = [
        column("\n".join(lines[size * number : size * (number + 1)]), 40 + distance * number, width, 640)
        for number in range(count)
    ]
    head = [(40, 740, "Journal of Harbour Studies, volume 12"), (180, 700, "On tides and works")]
    pieces = [*head, *(by_rows(*columns) if is_interleaved else chain(*columns))]
    (part,) = await read("paper.pdf", documents.laid_out(pieces, quarters=quarters))
    assert part.text.split("\n") == [*(piece[2] for piece in head), joined(text)]


async def test_a_note_or_caption_within_a_paragraph_is_moved_behind_it(read: Reading) -> None:
    lines = textwrap.wrap(TIDES + WORKS, 44)
    first = [(40, 700 - LINE_POINTS * number, line) for number, line in enumerate(lines[:9])]
    second = [(320, 600 - LINE_POINTS * number, line) for number, line in enumerate(lines[9:])]
    note = column(
        "1 The office measured the depth twice and corrected it for the drift of the gauge.", 40, 44, 90
    )
    caption = column(
        "Figure 1: The temperature of the water at the three stations, in degrees.", 320, 44, 700
    )
    foot = [(300, 40, "17")]
    (part,) = await read("paper.pdf", documents.laid_out([*first, *note, *caption, *second, *foot]))
    assert part.text.split("\n") == [
        joined(TIDES + WORKS),
        joined(" ".join(piece[2] for piece in note)),
        joined(" ".join(piece[2] for piece in caption)),
        "17",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("exam", "ple of a word", "example of a word"),
        ("a state-of-the", "art instrument", "a state-of-the-art instrument"),
        ("the well", "known harbour", "the well-known harbour"),
        ("a CCS", "compliant message", "a CCS-compliant message"),
        ("the ice", "breaker, as the ice-breaker", "the ice-breaker, as the ice-breaker"),
        ("from 1987", "1990 it grew", "from 1987-1990 it grew"),
    ],
)
async def test_words_hyphenated_at_a_line_end_are_rejoined(
    read: Reading, before: str, after: str, expected: str
) -> None:
    start = "The first words of this line take nearly all of it, "
    pieces = [(40, 700, f"{start}{before}-"), (40, 687, f"{after} and some more words to fill this line")]
    (part,) = await read("word.pdf", documents.laid_out(pieces))
    assert part.text == f"{start}{expected} and some more words to fill this line"


POEM = (
    "The tide comes in before the dawn",
    "And lifts the boats along the quay",
    "No keeper sees that they are gone",
    "He counts the ships upon the sea",
    "The lamp is lit, the night is long",
    "And every wave repeats its song",
)
ADDRESS = ("Harbour Office", "12 Quay Street", "4021 Northport", "Norway")
ITEMS = ("rope", "lamp oil for the winter", "paint, white and red, ten tins", "tar", "brushes")
BULLETS = (
    "- Ropes are stored behind the second door on the left",
    "- Lamps are stored in the cellar below the old kitchen",
    "- Paint is stored in the shed that stands near the pier",
)
FEES = ("small boat without a cabin 12", "large boat without a cabin 28", "sailing boat with a cabin 54")


@pytest.mark.parametrize("lines", [POEM, ADDRESS, BULLETS, FEES, ITEMS])
async def test_deliberate_line_breaks_are_preserved(read: Reading, lines: Sequence[str]) -> None:
    pieces = [(60, 700 - 14 * number, line) for number, line in enumerate(lines)]
    (part,) = await read("lines.pdf", documents.laid_out(pieces))
    assert part.text.split("\n") == list(lines)
    below = column(TIDES, 60, 60, 560)
    (part,) = await read("letter.pdf", documents.laid_out([*pieces, *below]))
    assert part.text.split("\n") == [*lines, joined(TIDES)]


async def test_lines_of_chinese_are_joined_and_verses_stay(read: Reading) -> None:
    prose = (
        "数据库管理系统是一种供应商提供的软件，它保存数据，并让许多程序同时读取这些数据。管理员每天备份一次。"
    )
    lines = [prose[at : at + 16] for at in range(0, len(prose), 16)]
    verses = ["床前明月光，", "疑是地上霜。", "举头望明月，", "低头思故乡。"]
    chapter = ["第一章", "数据库管理系统是一种供应商提供的"]
    pages = ["\n".join(page) for page in (lines, verses, chapter)]
    parts = await read("book.pdf", documents.pdf(*pages))
    assert [part.text for part in parts] == [prose, *pages[1:]]


def vertical(text: str, length: int) -> Iterator[str]:
    return (text[at : at + length] for at in range(0, len(text), length))


@pytest.mark.parametrize("order", [1, -1])
async def test_vertical_chinese_is_read_from_right_to_left(read: Reading, order: int) -> None:
    text = "高山植物生长在海拔四千米以上的地方，花期在七月到八月。雪莲花是其中最有名的一种，数量正在减少。"
    columns = [(540 - 20 * number, 740, line) for number, line in enumerate(vertical(text, 12))]
    (part,) = await read("book.pdf", documents.vertical(columns[::order]))
    assert part.text == text


async def test_a_table_in_a_column_does_not_cut_the_other_column(read: Reading) -> None:
    left_column = column(TIDES, 40, 44, 700)
    right = column(WORKS, 320, 44, 700)
    cells = [(44, 530, "Boat"), (144, 530, "Fee"), (44, 514, "Dinghy"), (144, 514, "15")]
    across = [f"40 {y} m 240 {y} l S" for y in (542, 526, 510)]
    downs = [f"{x} 510 m {x} 542 l S" for x in (40, 140, 240)]
    borders = "\n".join([*across, *downs]) + "\n"
    parts = await read("paper.pdf", documents.laid_out([*left_column, *cells, *right], drawn=borders))
    assert [part.text for part in parts] == [joined(TIDES), "Boat | Fee\nDinghy | 15", joined(WORKS)]
