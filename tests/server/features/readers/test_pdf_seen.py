"""What a person sees of a PDF: its pages, the notes on them and the attached files."""

from __future__ import annotations

import pytest
from tests.server.features.readers import documents
from tests.server.features.readers.reading import Reading


def line(text: str, x: int = 50, y: int = 700, size: int = 12, colour: str = "0 g") -> str:
    return f"{colour} BT /F {size} Tf {x} {y} Td ({text}) Tj ET\n"


def letters(text: str, gap: float, y: int = 700) -> str:
    """Return a line whose letters stand apart; a space is as wide as two gaps."""
    content = ""
    x = 50.0
    for letter in text:
        content += "" if letter == " " else f"BT /F 12 Tf {x} {y} Td ({letter}) Tj ET\n"
        x += 12 + gap
    return content


RULES = line("Harbour rules", y=740)
SEEN = {
    "a raised number of a note": (
        line("The crane") + line("1", 102, 705, 7) + line("lifts.", 112),
        "The crane[1] lifts.",
    ),
    "a number of the same size": (line("Crane") + line("1", 84), "Crane1"),
    "a raised number behind a unit": (line("40 m") + line("2", 78, 705, 7), "40 m2"),
    "a heading with spaces between its letters": (letters("ADMIRALTY CHARTS", 4), "ADMIRALTY CHARTS"),
    "white text": (line("secret", colour="1 g") + line("A lamp", y=680), "A lamp"),
    "transparent text": (f"q /Clear gs {line('secret')} Q {line('A lamp', y=680)}", "A lamp"),
    "white text on black": (f"0 g 40 690 200 30 re f {line('A lamp', colour='1 g')}", "A lamp"),
    "text beside the page": (line("secret", x=700) + line("A lamp", y=680), "A lamp"),
    "an initial of two lines": (
        line("F", 50, 680, 32) + line("ishermen return", 74, 695) + line("at dawn.", 74, 681),
        "Fishermen return\nat dawn.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
async def test_the_text_is_what_a_person_sees(read: Reading, kind: str) -> None:
    content, text = SEEN[kind]
    [part] = await read("a.pdf", documents.annotated(RULES + content))
    assert part.text == f"Harbour rules\n{text}"


async def test_text_outside_of_the_crop_box_is_not_read(read: Reading) -> None:
    data = documents.annotated(line("trimmed", y=60) + line("A lamp"), box="/CropBox [0 100 612 792]")
    assert [part.text for part in await read("a.pdf", data)] == ["A lamp"]


async def test_notes_follow_the_text_of_their_page(read: Reading) -> None:
    umlauts = f"<FEFF{'Schlüssel'.encode('utf-16-be').hex()}>"
    data = documents.annotated(
        RULES,
        "/Subtype /Text /Contents (replace it in May)",
        f"/Subtype /Highlight /QuadPoints [0 0 9 0 0 9 9 9] /Contents {umlauts}",
        "/Subtype /FreeText /DA (/F 9 Tf) /Contents (typed on the page)",
        "/Subtype /Text /F 2 /Contents (hidden)",
        "/Subtype /Popup /Contents (repeated)",
        "/Subtype /Link /Contents (a link)",
        "/Subtype /Square",
    )
    assert [part.text for part in await read("a.pdf", data)] == [
        "Harbour rules",
        "Comment: replace it in May\nComment: Schlüssel\ntyped on the page",
    ]


async def test_attached_files_are_read_after_the_pages(read: Reading) -> None:
    attachments = {
        "fees.csv": b"Berth,Fee\nA-01,23\n",
        "a/notes.txt": b"A lamp",
        "empty.txt": b"",
        "x.bin": b"\x00\x01",
    }
    parts = await read("a.pdf", documents.annotated(RULES, attachments=attachments))
    assert [(part.place.heading, part.text) for part in parts] == [
        ((), "Harbour rules"),
        (("fees.csv",), "Berth | Fee\nA-01 | 23"),
        (("notes.txt",), "A lamp"),
        ((), "Not read:\na.pdf: 1 attachment(s)"),
    ]


async def test_a_cover_page_without_text_does_not_hide_its_attachments(read: Reading) -> None:
    [part] = await read("a.pdf", documents.annotated("", attachments={"notes.txt": b"A lamp"}))
    assert part.text == "A lamp"
