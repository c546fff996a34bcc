"""Slides, spreadsheets, notebooks, books, mail, subtitles, XML, sections of plain text, and archives of all of them."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.server.knowledge import documents, office

from portico.wire import Place
from portico_server.knowledge.parse.formats import is_document
from portico_server.knowledge.parse.pool import Readers
from portico_server.knowledge.parse.sheet import letters, shown
from portico_server.knowledge.parse.text import read as read_text
from portico_server.knowledge.part import Part, Source, Unreadable


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    readers = Readers(workers=1, seconds=30, memory=2**31)
    yield readers
    await readers.close()


class Reading:
    """Reads bytes under a name, in a worker."""

    def __init__(self, readers: Readers, folder: Path) -> None:
        self._readers = readers
        self._folder = folder

    async def __call__(self, name: str, data: bytes, chunking: dict[str, object] | None = None) -> list[Part]:
        path = self._folder / "blob"
        path.write_bytes(data)
        found: list[Part] = []
        async with aclosing(self._readers.read(path, name, chunking)) as runs:
            async for run in runs:
                found.extend(run)
        return found


@pytest.fixture
def read(readers: Readers, tmp_path: Path) -> Reading:
    return Reading(readers, tmp_path)


def stand_in_one_text(parts: list[Part]) -> bool:
    """Whether the places of parts follow each other without overlap, each as long as its text."""
    ends = 0
    for part in parts:
        if part.place.start < ends or part.place.end - part.place.start != len(part.text):
            return False
        ends = part.place.end
    return True


# --- office ------------------------------------------------------------------------------------------------------


async def test_slides_come_in_the_order_they_are_shown_with_their_notes(read: Reading) -> None:
    data = office.slides(
        ("Fees", "A berth costs 40 crowns.\nPay at the gate.", "Mention the discount."),
        ("价目", "帆船每晚四十克朗。", ""),
        table=[["Boat", "Fee"], ["Dinghy", "15"]],
    )
    first, second = await read("talk.pptx", data)
    assert first.text == (
        "Fees\nA berth costs 40 crowns.\nPay at the gate.\nBoat | Fee\nDinghy | 15\n\nNotes: Mention the discount."
    )
    assert (first.place.page, first.place.heading) == (1, ("Fees",))
    assert (second.text, second.place.page) == ("价目\n帆船每晚四十克朗。", 2)
    assert stand_in_one_text([first, second])


async def test_rows_of_a_spreadsheet_know_their_sheet_and_cells(read: Reading) -> None:
    rows: list[list[str | float | None]] = [
        ["Boat", "Fee"],
        *([f"boat {i} of many words" * 3, i + 0.5] for i in range(60)),
    ]
    found = await read("fees.xlsx", office.sheets({"Fees": rows, "说明": [["只有标题"]]}))
    assert len(found) > 3
    assert all(part.text.startswith("Boat | Fee\n") for part in found[:-1])
    first, second = found[:2]
    assert (first.place.sheet, first.place.row) == ("Fees", 2)
    assert first.place.cell == f"A2:B{(second.place.row or 0) - 1}"
    assert f"boat {(second.place.row or 0) - 2} of" in second.text.split("\n")[1]
    assert second.text.split("\n")[1].endswith(f"| {(second.place.row or 0) - 2}.5")
    assert (found[-1].text, found[-1].place.label()) == ("只有标题", "说明 A1:A1")
    assert stand_in_one_text(found)


async def test_a_table_that_begins_in_the_middle_of_a_sheet_keeps_its_cells(read: Reading) -> None:
    rows: list[list[str | float | None]] = [["Boat", "Fee"], ["Dinghy", 15], [None, None], ["Ferry", 90]]
    found = await read("fees.xlsx", office.sheets({"S": rows}, corner=(4, 2)))
    assert [(part.text, part.place.cell, part.place.row) for part in found] == [
        ("Boat | Fee\nDinghy | 15", "C6:D6", 6),
        ("Boat | Fee\nFerry | 90", "C8:D8", 8),
    ]


async def test_rows_that_are_cut_again_keep_their_cells(read: Reading) -> None:
    rows: list[list[str | float | None]] = [["Boat", "Fee"], *([f"boat {i}", i] for i in range(20))]
    found = await read(
        "fees.xlsx", office.sheets({"S": rows}), {"type": "records", "size": 100, "overlap": 0}
    )
    assert [(part.text, part.place.cell) for part in found[3:5]] == [
        ("Boat | Fee\nboat 3 | 3", "A5:B5"),
        ("Boat | Fee\nboat 4 | 4", "A6:B6"),
    ]


def test_cells_are_shown_as_people_see_them() -> None:
    assert [shown(value) for value in (15.0, 0.1 + 0.2, True, " a\n b ", 1e20)] == [
        "15",
        "0.3",
        "TRUE",
        "a b",
        "1e+20",
    ]
    assert [letters(i) for i in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]


async def test_cells_of_a_notebook_are_numbered_below_their_headings(read: Reading) -> None:
    data = office.notebook(
        ("markdown", "# Tides\n\nHigh at six.", ""),
        ("code", "print('ebb')", "ebb\n"),
        ("code", "", ""),
        ("markdown", "## 潮汐", ""),
    )
    found = await read("tides.ipynb", data)
    assert [(part.place.cell, part.place.heading) for part in found] == [
        ("1", ("Tides",)),
        ("2", ("Tides",)),
        ("4", ("Tides", "潮汐")),
    ]
    assert found[1].text == "```python\nprint('ebb')\n```\n\n```\nebb\n```"
    assert found[1].place.label() == "cell 2 · Tides"


async def test_a_book_is_read_in_the_order_of_its_chapters(read: Reading) -> None:
    data = office.book(
        "The Lock", ["<h1>One</h1><p>It was <i>dark</i>.</p>", "<h1>第二章</h1><p>天亮了。</p>"]
    )
    found = await read("lock.epub", data)
    assert [(part.place.heading, part.text) for part in found] == [
        ((), "The Lock, A. Writer"),
        (("One",), "One\n\nIt was dark."),
        (("第二章",), "第二章\n\n天亮了。"),
    ]
    assert stand_in_one_text(found)


@pytest.mark.parametrize(
    "name", ["x.pptx", "x.xlsx", "x.ods", "x.epub", "x.ipynb", "x.zip", "x.tar.gz", "x.docx"]
)
@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 and then nothing", b"not at all", office.zipped({"a/b": "c"})[:40]],
    ids=["empty", "begun", "other", "half"],
)
async def test_what_is_damaged_says_so(read: Reading, name: str, data: bytes) -> None:
    with pytest.raises(Unreadable, match=r"is empty|damaged|is not a|missing"):
        await read(name, data)


@pytest.mark.parametrize("name", ["x.pptx", "x.xlsx", "x.epub", "x.zip", "x.docx"])
async def test_what_would_unpack_to_too_much_is_refused_before_it_is(read: Reading, name: str) -> None:
    with pytest.raises(Unreadable, match="unpacks to 2861 MB"):
        await read(name, documents.bomb(3_000_000_000))


async def test_an_old_office_file_says_what_to_do(read: Reading) -> None:
    with pytest.raises(Unreadable, match=r"Save it as .pptx"):
        await read("old.pptx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))


# --- mail --------------------------------------------------------------------------------------------------------


async def test_a_mail_says_who_and_when_and_its_attachments_are_read(read: Reading) -> None:
    data = office.mail(
        "Berth 七",
        "See the list.",
        ("list.csv", b"boat,fee\nDinghy,15\n"),
        ("photo.jpg", b"\xff\xd8\xff\x00" * 9),
    )
    body, attached = await read("berth.eml", data)
    assert body.text.startswith(
        "Subject: Berth 七\nFrom: Ann <ann@example.org>\nTo: bob@example.org\nDate: Fri, 20"
    )
    assert body.text.endswith("Attachment: list.csv\nAttachment: photo.jpg\n\nSee the list.")
    assert attached.text == "boat | fee\nDinghy | 15"
    assert attached.place.heading == ("Berth 七", "list.csv")
    assert stand_in_one_text([body, attached])


async def test_a_mail_in_html_gives_its_text(read: Reading) -> None:
    [body] = await read("page.eml", office.mail("Hi", "", html="<p>Dear <b>Bob</b></p><script>x()</script>"))
    assert body.text.endswith("Dear Bob")


async def test_a_box_of_mails_has_a_part_for_each(read: Reading) -> None:
    box = b"".join(
        b"From ann@example.org Fri Nov 20 10:00:00 2026\n"
        + office.mail(f"No. {i}", f"Text {i}\n>From here", *extra)
        + b"\n"
        for i, extra in enumerate([[("a.txt", b"attached words")], [], []])
    )
    found = await read("all.mbox", box)
    assert [part.place.heading for part in found] == [("No. 0",), ("No. 0", "a.txt"), ("No. 1",), ("No. 2",)]
    assert stand_in_one_text(found)


# --- text with a structure -----------------------------------------------------------------------------------------


async def test_subtitles_know_their_seconds(read: Reading) -> None:
    srt = (
        "1\n00:00:05,250 --> 00:00:07,000\n<i>The harbour</i>\nopens at six.\n\n"
        "2\n01:02:03,000 --> 01:02:04,000\n港口。\n"
    )
    vtt = (
        "WEBVTT\n\nNOTE x\n\n00:05.250 --> 00:07.000 align:start\n<v Ann>The harbour</v>\nopens at six.\n\n"
        "1:02:03.000 --> 1:02:04.000\n港口。"
    )
    for name, data, first in (
        ("a.srt", srt, "The harbour opens at six."),
        ("a.vtt", vtt, "Ann: The harbour opens at six."),
    ):
        one, two = await read(name, data.encode())
        assert (one.text, one.place.seconds) == (first, 5.25)
        assert (two.text, two.place.label()) == ("港口。", "1:02:03")
    [both] = await read("a.srt", srt.encode(), {"type": "auto"})
    assert both.text == "The harbour opens at six.\n港口。"
    assert (both.place.seconds, both.place.start, both.place.end) == (5.25, 0, len(both.text))


async def test_xml_gives_its_records_below_the_elements_around_them(read: Reading) -> None:
    data = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>
    <harbour><boat id="7">
      <name>Dinghy</name><fee>15</fee><text>See <b>bold</b> after.</text><evil>&e;</evil></boat>
    <boat id="8"><name>渡轮</name></boat></harbour>"""
    found = await read("boats.xml", data.encode())
    whole = "\n".join(part.text for part in found)
    for words in ('boat (id="7")', "name: Dinghy", "fee: 15", "bold", "after.", "name: 渡轮"):
        assert words in whole
    assert "root:" not in whole
    assert any(part.place.heading == ("harbour", "boat") for part in found)
    assert stand_in_one_text(found)


async def test_xml_that_is_broken_is_still_read_as_text(read: Reading) -> None:
    [part] = await read("bad.xml", b"<a><b>words</a>")
    assert part.text == "<a><b>words</a>"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.rst",
            "Intro.\n\n=====\nTitle\n=====\n\nText.\n\nSub section\n-----------\n\nMore.\n\nOther\n-----\n\nEnd.\n",
        ),
        ("a.adoc", "Intro.\n\n= Title\n\nText.\n\n== Sub section\n\nMore.\n\n== Other\n\nEnd.\n"),
        ("a.org", "Intro.\n\n* Title\n\nText.\n\n** TODO Sub section   :tag:\n\nMore.\n\n** Other\n\nEnd.\n"),
        (
            "a.tex",
            "Intro.\n\n\\section{Title}\n\nText.\n\n\\subsection*{Sub \\emph{section}}\n\nMore.\n\n"
            "\\subsection{Other}\nEnd.\n",
        ),
    ],
)
async def test_sections_of_marked_up_text_know_their_headings(read: Reading, name: str, text: str) -> None:
    found = await read(name, text.encode())
    assert [part.place.heading for part in found] == [
        (),
        ("Title",),
        ("Title", "Sub section"),
        ("Title", "Other"),
    ]
    assert "".join(part.text for part in found) == text
    assert all(text[part.place.start : part.place.end] == part.text for part in found)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("港は六時に開きます。ボートは外で待っています。" * 3, "shift_jis"),
        ("港は六時に開きます。ボートは外で待っています。" * 3, "euc_jp"),
        ("항구는 여섯 시에 문을 엽니다. 배들은 밖에서 기다립니다. 겨울에는 닫혀 있습니다." * 3, "euc_kr"),
    ],
)
def test_japanese_and_korean_of_before_unicode_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    assert "".join(part.text for part in read_text(Source("text.txt", path))) == text


# --- archives ----------------------------------------------------------------------------------------------------

MEMBERS = {
    "docs/guide.md": b"# Ports\n\nThe port is 7419.\n",
    "docs/费用.csv": "船,费\n帆船,四十\n".encode(),
    "pages.pdf": documents.pdf("The tide is high."),
    ".git/config": b"[core]",
    "photo.jpg": b"\xff\xd8\xff\x00" * 9,
    "drawing.svg": b"<svg/>",
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "tar.bz2", "tar.xz"])
async def test_documents_in_an_archive_are_read_each_by_its_kind(read: Reading, kind: str) -> None:
    modes = {"tar": "w:", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
    data = office.zipped(MEMBERS) if kind == "zip" else office.tarred(MEMBERS, modes[kind])
    found = await read(f"all.{kind}", data)
    assert [part.place.heading for part in found] == [
        ("docs/guide.md", "Ports"),
        ("docs/费用.csv",),
        ("pages.pdf",),
    ]
    assert found[1].text == "船 | 费\n帆船 | 四十"
    assert (found[2].text, found[2].place.page) == ("The tide is high.", 1)
    assert stand_in_one_text(found)


@pytest.mark.parametrize(
    ("suffix", "packed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
async def test_a_single_compressed_file_is_read_by_the_name_inside(
    read: Reading, suffix: str, packed: object
) -> None:
    [part] = await read(f"guide.md.{suffix}", packed(b"# Ports\n\nOpen."))  # type: ignore[operator]
    assert part.place.heading == ("guide.md", "Ports")


async def test_an_archive_in_a_mail_in_an_archive_is_read_and_no_deeper(read: Reading) -> None:
    inner = office.zipped({"deep.txt": "found it"})
    data = office.zipped({"post.eml": office.mail("Hi", "see", ("in.zip", inner))})
    assert any(part.text == "found it" for part in await read("out.zip", data))
    deeper = office.zipped({"more.zip": data})
    found = await read("out.zip", office.zipped({"most.zip": deeper, "top.txt": "on top"}))
    assert "on top" in {part.text for part in found}
    assert "more than 3 deep" in found[-1].text
    assert "found it" not in {part.text for part in found}


async def test_a_damaged_document_in_an_archive_is_named_and_the_rest_read(read: Reading) -> None:
    found = await read("all.zip", office.zipped({"bad.pdf": b"%PDF-1.7 nothing", "good.txt": "fine"}))
    assert found[0].text == "fine"
    assert "bad.pdf is not a whole PDF" in found[-1].text
    assert stand_in_one_text(found)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\b"])
async def test_a_path_that_leads_out_of_an_archive_is_refused(read: Reading, name: str) -> None:
    for kind, data in (("zip", office.zipped({name: "x"})), ("tar", office.tarred({name: b"x"}, "w:"))):
        with pytest.raises(Unreadable, match="leads out of it"):
            await read(f"evil.{kind}", data)


async def test_bombs_are_refused(read: Reading) -> None:
    many = office.zipped({f"{i}.txt": "x" for i in range(10_001)})
    with pytest.raises(Unreadable, match="10001 parts"):
        await read("many.zip", many)
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", bytes(70 * 2**20))
    with pytest.raises(Unreadable, match="more than 64 MB"):
        await read("large.zip", large.getvalue())
    with pytest.raises(Unreadable, match="more than 64 MB"):
        await read("large.txt.gz", gzip.compress(b"a" * (70 * 2**20)))


async def test_a_locked_archive_says_so(read: Reading) -> None:
    data = bytearray(office.zipped({"a.txt": "x"}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    with pytest.raises(Unreadable, match="protected by a password"):
        await read("locked.zip", bytes(data))


async def test_an_archive_without_documents_is_called_empty(read: Reading) -> None:
    with pytest.raises(Unreadable, match="is empty"):
        await read("photos.zip", office.zipped({"a.jpg": b"\xff\xd8\xff\x00" * 9}))


def test_drawings_and_locks_are_no_documents() -> None:
    assert [is_document(name) for name in ("a.svg", "b/uv.lock", "x.PEM", "a.md", "Makefile", "lock")] == [
        *(False, False, False),
        *(True, True, True),
    ]


@pytest.mark.parametrize(
    ("place", "label"),
    [
        (Place(page=3, heading=("A", "B")), "page 3 · A › B"),
        (Place(row=4, sheet="Fees", cell="A4:B9"), "Fees A4:B9"),
        (Place(line=3, seconds=65.5), "1:05"),
        (Place(line=12, symbol="Client.ask"), "line 12 · Client.ask"),
        (Place(cell="7"), "cell 7"),
        (Place(), ""),
    ],
)
def test_a_place_is_told_in_a_few_words(place: Place, label: str) -> None:
    assert place.label() == label
