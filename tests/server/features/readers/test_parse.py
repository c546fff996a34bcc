"""The content read from documents of every format, and the errors for unreadable documents."""

from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from tests.server.features.readers import documents, office

from portico_server.features.chunkers.document import Part, SourceDocument, Unreadable
from portico_server.features.readers.formats import format_of
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.readers.section import clean_title
from portico_server.features.readers.text import SEGMENT_CHARS, encoding_of
from portico_server.features.readers.text import read as read_text

CHINESE = "高山植物生长在海拔四千米以上的地方，花期在七月到八月。雪莲花是其中最有名的一种，数量正在减少。"
TRADITIONAL = "高山植物生長在海拔四千米以上的地方，花期在七月到八月。雪蓮花是其中最有名的一種，數量正在減少。"


async def parts(readers: ReaderPool, path: Path, data: bytes, name: str = "") -> list[Part]:
    path.write_bytes(data)  # noqa: ASYNC240
    document_parts: list[Part] = []
    async with aclosing(readers.read(path, name or path.name)) as runs:
        async for run in runs:
            document_parts.extend(run)
    return document_parts


# --- text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Café au lait, naïve façade", "utf-8"),
        ("Café au lait", "utf-8-sig"),
        (CHINESE, "utf-8"),
        (CHINESE, "gb18030"),
        (CHINESE, "gb2312"),
        (TRADITIONAL, "big5"),
        (CHINESE, "utf-16"),
        (CHINESE * 3, "utf-16-le"),
        (CHINESE * 3, "utf-16-be"),
        ("Plain English words in wide characters.", "utf-16-le"),
        (CHINESE, "utf-32"),
        ("Où est la bibliothèque ? Être ou ne pas être, « voilà » la question.", "cp1252"),
        ("Mixed: " + CHINESE + " and some English, ASCII mostly. " * 20, "gb18030"),
    ],
)
def test_the_encoding_of_a_text_is_found(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    assert "".join(part.text for part in read_text(SourceDocument(path.name, path))) == text


GERMAN = "Die Größe der Tür ist für Äpfel zu klein. "
CHINESE = "面团要醒一夜，第二天早上再揉一次。"
LOST = "Not read:\nx.txt: {} character(s), shown as \ufffd"


@pytest.mark.parametrize(
    ("data", "shown_text", "lost_count"),
    [
        # jawah/charset_normalizer 743, docling-project/docling PR 4202
        (GERMAN.encode() + b"\xc3", f"{GERMAN}\ufffd", 1),
        (CHINESE.encode()[:-1], f"{CHINESE[:-1]}\ufffd", 1),
        (b"\xfc" + GERMAN.encode(), f"\ufffd{GERMAN}", 1),
        (GERMAN.encode() + b"\xe4" + CHINESE.encode(), f"{GERMAN}\ufffd{CHINESE}", 1),
        (CHINESE.encode() + b"\x80\xff" + CHINESE.encode(), f"{CHINESE}\ufffd\ufffd{CHINESE}", 2),
        (GERMAN.encode() * 9_000 + b"\xc3", f"{GERMAN * 9_000}\ufffd", 1),
        ((GERMAN.encode() + b"\xfc ") * 20, f"{GERMAN}\ufffd " * 20, 20),
        (GERMAN.encode() + "\ufeff".encode() + CHINESE.encode(), f"{GERMAN}\ufeff{CHINESE}", 0),
        (CHINESE.encode() + b"\x00" + CHINESE.encode(), f"{CHINESE}\ufffd{CHINESE}", 1),
        (GERMAN.encode("cp1252"), GERMAN, 0),
        (CHINESE.encode("gb18030") * 20 + b"\xff", f"{CHINESE * 20}\ufffd", 1),
        (b"plain text, one bad byte: \xff", "plain text, one bad byte: \xff", 0),
    ],
)
async def test_a_few_bad_bytes_do_not_change_the_encoding(
    readers: ReaderPool, tmp_path: Path, data: bytes, shown_text: str, lost_count: int
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(data)
    found_parts = [part async for run in readers.read(path, "x.txt") for part in run]
    read_text = "".join(part.text for part in found_parts)
    assert read_text == shown_text + (LOST.format(lost_count) if lost_count else "")


def test_an_encoding_that_shows_only_late_in_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "late.txt"
    text = "English first.\n" * 40_000 + CHINESE * 20
    path.write_bytes(text.encode("gb18030"))
    assert encoding_of(SourceDocument(path.name, path)) == "gb18030"
    assert "".join(part.text for part in read_text(SourceDocument(path.name, path))) == text


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
async def test_an_empty_file_is_called_empty(readers: ReaderPool, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unreadable, match="is empty"):
        await parts(readers, tmp_path / "nothing.txt", data)


async def test_a_binary_file_is_refused_as_unsupported(readers: ReaderPool, tmp_path: Path) -> None:
    for name in ("noise.txt", "noise.bin"):
        with pytest.raises(Unreadable) as error:
            await parts(readers, tmp_path / name, bytes(range(256)) * 40)
        assert error.value.code == "unsupported_file"


def test_a_long_text_is_read_in_segments_that_match_the_original(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    text = "".join(f"line {i} says something\n" for i in range(40_000))
    path.write_bytes(text.encode())
    segments = list(read_text(SourceDocument(path.name, path)))
    assert len(segments) > 3
    assert max(len(part.text) for part in segments) <= 2 * SEGMENT_CHARS
    for part in segments:
        assert text[part.place.start : part.place.end] == part.text
        assert part.place.line == text.count("\n", 0, part.place.start) + 1


async def test_a_pdf_is_recognised_by_its_content_under_any_name(readers: ReaderPool, tmp_path: Path) -> None:
    [page] = await parts(readers, tmp_path / "upload", documents.pdf("Hello there"))
    assert (page.text, page.place.page) == ("Hello there", 1)


# --- structured formats --------------------------------------------------------------------------------------------


async def test_markdown_sections_know_the_headings_above_them(readers: ReaderPool, tmp_path: Path) -> None:
    text = (
        "Before.\n\n# Install\n\nGet it.\n\n## Linux `apt`\n\n```sh\n# not a heading\n```\n\n"
        "## [Mac](https://x)\n\nBrew.\n\nUse\n===\n\nRun it.\n"
    )
    sections = await parts(readers, tmp_path / "guide.md", text.encode())
    assert [part.place.heading for part in sections] == [
        (),
        ("Install",),
        ("Install", "Linux apt"),
        ("Install", "Mac"),
        ("Use",),
    ]
    assert [part.place.line for part in sections] == [1, 3, 7, 13, 17]
    assert "".join(part.text for part in sections) == text
    assert all(text[part.place.start : part.place.end] == part.text for part in sections)


async def test_front_matter_is_a_title_and_what_it_says_about_the_page(
    readers: ReaderPool, tmp_path: Path
) -> None:
    for text, headings, shown_text in (
        (
            "---\ndate: 2024\ntitle: 'Tide tables'\n---\nHigh.\n# Low\n\nOut.\n",
            ["Tide tables", "Tide tables › Low"],
            "date: 2024\nHigh.\n# Low\n\nOut.\n",
        ),
        ("---\ntitle: Tides\n...\n\n# Tides\n\nHigh.\n", ["Tides"], "# Tides\n\nHigh.\n"),
        (
            '---\ntitle: Tides\nweight: 3\naliases:\n  - /t/\n- /u/\ndescription: "When water rises"\n---\n# High\n',
            ["Tides", "Tides › High"],
            "When water rises\n# High\n",
        ),
        (
            "---\nsummary: >\n  When water rises\n  and falls.\n---\n",
            [""],
            "  When water rises\n  and falls.\n",
        ),
        ("---\n\n# Low\n\ntitle: none\n", ["", "Low"], "---\n\n# Low\n\ntitle: none\n"),
        ("---\ntitle: Tides\n\n- High\n", [""], "---\ntitle: Tides\n\n- High\n"),
    ):
        sections = await parts(readers, tmp_path / "tides.md", text.encode())
        assert [" › ".join(part.place.heading) for part in sections] == headings
        assert "".join(part.text for part in sections) == shown_text


async def test_html_is_reduced_to_its_visible_text(readers: ReaderPool, tmp_path: Path) -> None:
    page = """<!doctype html><html><head><title>Harbour</title><style>p {color: red}</style></head><body>
    <nav>Home About</nav><h1>Fees &amp; berths</h1><p>A berth costs <b>40</b> crowns.</p><script>alert(1)</script>
    <h2>Tables</h2><table><tr><th>Boat</th><th>Fee</th></tr><tr><td>Dinghy</td><td>15</td></tr></table>
    <ul><li>One</li><li>Two</li></ul><pre>  keep
    this</pre></body></html>"""
    sections = await parts(readers, tmp_path / "page.html", page.encode())
    assert [part.place.heading for part in sections] == [
        ("Harbour",),
        ("Harbour", "Fees & berths"),
        ("Harbour", "Fees & berths", "Tables"),
    ]
    assert sections[0].text == "Harbour"
    assert "A berth costs 40 crowns." in sections[1].text
    assert "Boat | Fee\n" in sections[2].text
    assert "Dinghy | 15\n" in sections[2].text
    assert "- One" in sections[2].text
    text = "".join(part.text for part in sections)
    assert not any(word in text for word in ("alert", "color", "About"))


async def test_a_title_repeated_by_the_first_heading_appears_once(
    readers: ReaderPool, tmp_path: Path
) -> None:
    page = "<title>Harbour</title><h1>Harbour</h1><p>It is deep.</p><h2>Fees</h2><p>None.</p>"
    sections = await parts(readers, tmp_path / "page.html", page.encode())
    assert [part.place.heading for part in sections][1:] == [("Harbour",), ("Harbour", "Fees")]


@pytest.mark.parametrize("declared", ["gb2312", "GBK", "utf-8", "no-such-charset"])
async def test_html_in_chinese_is_read_in_its_charset(
    readers: ReaderPool, tmp_path: Path, declared: str
) -> None:
    page = f'<html><head><meta charset="{declared}"></head><body><p>{CHINESE}</p></body></html>'
    real = "utf-8" if declared in ("utf-8", "no-such-charset") else "gbk"
    [document_part] = await parts(readers, tmp_path / "page.htm", page.encode(real))
    assert document_part.text == CHINESE


async def test_a_pdf_is_read_page_by_page(readers: ReaderPool, tmp_path: Path) -> None:
    pages = await parts(
        readers,
        tmp_path / "real.pdf",
        documents.pdf("The port is 7419.\nIt was 80.", "", "雪莲花生长在高山。"),
    )
    assert [(part.place.page, part.text) for part in pages] == [
        (1, "The port is 7419.\nIt was 80."),
        (3, "雪莲花生长在高山。"),
    ]


async def test_pages_of_a_pdf_stand_below_its_bookmarks(readers: ReaderPool, tmp_path: Path) -> None:
    outline = [("One", 1, 0), ("First", 1, 1), ("第二节", 2, 1), ("Two", 4, 0)]
    data = documents.pdf("cover", "a", "b", "c", "d", outline=outline)
    pages = await parts(readers, tmp_path / "book.pdf", data)
    assert [part.place.heading for part in pages] == [
        (),
        ("One", "First"),
        ("One", "第二节"),
        ("One", "第二节"),
        ("Two",),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (documents.pdf("Secret", encrypt=True), "protected by a password"),
        (documents.pdf("Whole", "story")[:300], "damaged or truncated"),
        (documents.pdf("", ""), "no text on its 2 pages"),
        (b"", "is empty"),
        (b"%PDF-1.7 and then nothing", "damaged or truncated"),
    ],
)
async def test_a_pdf_that_cannot_be_read_says_why(
    readers: ReaderPool, tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(Unreadable, match=words) as error:
        await parts(readers, tmp_path / "bad.pdf", data)
    assert error.value.code == "invalid_file"


async def test_a_title_in_the_properties_stands_above_all_headings(
    readers: ReaderPool, tmp_path: Path
) -> None:
    data = documents.word(title="Ports of the north")
    sections = await parts(readers, tmp_path / "handbook.docx", data)
    assert [part.place.heading for part in sections] == [
        ("Ports of the north",),
        ("Ports of the north", "Fees"),
        ("Ports of the north", "Fees", "价目"),
    ]
    data = documents.pdf("One.", "Two.", outline=[("Tides", 1, 0)], title="Microsoft Word - 潮汐.docx")
    sections = await parts(readers, tmp_path / "tides.pdf", data)
    assert [part.place.heading for part in sections] == [("潮汐",), ("潮汐", "Tides")]
    data = documents.pdf("One.", outline=[("High", 0, 0)], title="tides.dvi")
    assert [part.place.heading for part in await parts(readers, tmp_path / "tides.pdf", data)] == [("High",)]
    data = documents.pdf("One.", outline=[("Tides", 0, 0)], title="Tides")
    assert [part.place.heading for part in await parts(readers, tmp_path / "tides.pdf", data)] == [("Tides",)]


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Microsoft Word - Annual  Report.doc", "Annual Report"),
        ("Titles of nobility", "Titles of nobility"),
        *[
            (text, "")
            for text in ("Untitled-1", "Document2", "PowerPoint Presentation", " ", "无标题", "12.pdf")
        ],
    ],
)
def test_placeholder_document_titles_are_ignored(written: str, title: str) -> None:
    assert clean_title(written) == title


async def test_a_word_document_has_sections_lists_and_tables(readers: ReaderPool, tmp_path: Path) -> None:
    sections = await parts(readers, tmp_path / "handbook.docx", documents.word())
    assert [part.place.heading for part in sections] == [
        ("Harbour handbook",),
        ("Harbour handbook", "Fees"),
        ("Harbour handbook", "Fees", "价目"),
    ]
    assert "A berth costs 40 crowns a night." in sections[1].text
    assert "- Electricity" in sections[1].text
    assert "Boat | Length | Fee\nDinghy | 15" in sections[2].text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (documents.word()[:4000], "damaged or truncated"),
        (documents.bomb(3_000_000_000), "unpacks to 2861 MB"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "protected by a password"),
        (b"", "is empty"),
        (documents.bomb(1000), "not a complete Word document"),
    ],
)
async def test_a_word_document_that_cannot_be_read_says_why(
    readers: ReaderPool, tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(Unreadable, match=words):
        await parts(readers, tmp_path / "bad.docx", data)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
async def test_rows_of_a_table_come_with_their_header(readers: ReaderPool, tmp_path: Path, mark: str) -> None:
    rows = [["name", "fee"], *([f"boat number {i} of the harbour", str(i)] for i in range(100))]
    data = "\n".join(mark.join(row) for row in rows)
    table_parts = await parts(readers, tmp_path / ("t.tsv" if mark == "\t" else "t.csv"), data.encode())
    assert len(table_parts) > 2
    assert all(part.text.startswith("name | fee\n") for part in table_parts)
    assert table_parts[0].place.row == 2
    second = table_parts[1]
    assert f"boat number {(second.place.row or 0) - 2} of" in second.text.split("\n")[1]


@pytest.mark.parametrize(
    ("lines", "text_lines"),
    [
        (["sep=|", "Code|Meaning", "E17|door, left"], ["Code | Meaning", "E17 | door, left"]),
        (["SEP=;", "Code;Meaning, short", "E17;a,b"], ["Code | Meaning, short", "E17 | a,b"]),
        (['"sep=\t"', "Code\tMeaning", "E17\tdoor"], ["Code | Meaning", "E17 | door"]),
        (["Person", "Ben, Cole", "Ada, Dee"], ["Person", "Ben, Cole", "Ada, Dee"]),
        (["Person", '"Ben, Cole"', "Ada"], ["Person", "Ben, Cole", "Ada"]),
        (["Litres", "1,200", "980"], ["Litres", "1,200", "980"]),
        (["Name, Fee", "Dinghy, 15"], ["Name | Fee", "Dinghy | 15"]),
        (["Fees of May", "Boat,Fee", "Dinghy,15"], ["Fees of May", "Boat | Fee", "Dinghy | 15"]),
    ],
)
async def test_cells_are_divided_only_by_the_delimiter_of_the_file(
    readers: ReaderPool, tmp_path: Path, lines: list[str], text_lines: list[str]
) -> None:
    [part] = await parts(readers, tmp_path / "t.csv", "\n".join(lines).encode())
    assert (part.text.split("\n"), part.place.row) == (text_lines, 2)


async def test_rows_of_a_table_keep_their_numbers_across_empty_rows(
    readers: ReaderPool, tmp_path: Path
) -> None:
    rows = [f"boat {number},{number}" if number % 7 else "" for number in range(2, 60)]
    data = "\n".join(["name,fee", *rows, "", ""])
    for part in await parts(readers, tmp_path / "t.csv", data.encode()):
        lines = part.text.split("\n")[1:]
        assert lines
        for number, line in enumerate(lines, part.place.row or 0):
            assert line == f"boat {number} | {number}"


def test_a_format_is_known_by_the_end_of_a_name() -> None:
    assert [
        getattr(format_of(name), "name", None)
        for name in ("A.PDF", "x/y.md", "Makefile", "a.b.py", "LICENSE")
    ] == [
        "pdf",
        "markdown",
        "code",
        "code",
        None,
    ]


# --- the processes -----------------------------------------------------------------------------------------------


async def test_a_file_that_exceeds_the_time_limit_is_refused_and_the_next_read(tmp_path: Path) -> None:
    readers = ReaderPool(workers=1, seconds=0.0, memory=2**31)
    try:
        with pytest.raises(Unreadable, match="took longer than 0 s"):
            await parts(readers, tmp_path / "slow.txt", b"word " * 1000)
        readers._seconds = 30
        assert await parts(readers, tmp_path / "quick.txt", b"fine")
    finally:
        await readers.close()


async def test_a_file_that_needs_too_much_memory_fails_alone(tmp_path: Path) -> None:
    readers = ReaderPool(workers=1, seconds=60, memory=200 * 2**20)
    try:
        with pytest.raises(Unreadable):
            await parts(readers, tmp_path / "huge.html", b"<p>" + b"a b " * 40_000_000)
        assert await parts(readers, tmp_path / "small.txt", b"fine")
        archive = office.zipped({"huge.html": b"<b>a</b>" * 3_000_000, "small.txt": "fine"})
        assert [part.text for part in await parts(readers, tmp_path / "both.zip", archive)] == [
            "fine",
            "Not read:\nhuge.html needs more memory than the setting parse_memory_mb allows.",
        ]
    finally:
        await readers.close()


@pytest.mark.process
async def test_a_worker_that_has_died_is_replaced(readers: ReaderPool, tmp_path: Path) -> None:
    assert await parts(readers, tmp_path / "one.txt", b"one")
    [worker] = readers._idle
    worker.kill()
    await worker.wait()
    assert await parts(readers, tmp_path / "two.txt", b"two")


@pytest.mark.process
async def test_a_document_whose_worker_is_killed_fails_and_the_next_is_read(
    readers: ReaderPool, tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"many words here\n" * 500_000)

    async def read_and_kill() -> None:
        async with aclosing(readers.read(path, path.name)) as runs:
            await anext(runs)
            [worker] = readers._busy
            worker.kill()  # once: a second signal to a dead process would lose its status
            async for _ in runs:
                pass

    with pytest.raises(Unreadable, match="signal 9"):
        await read_and_kill()
    assert await parts(readers, tmp_path / "two.txt", b"two")


async def test_closing_a_read_early_stops_the_worker(readers: ReaderPool, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"many words here\n" * 200_000)
    async with aclosing(readers.read(path, path.name)) as runs:
        async for _ in runs:
            break
    assert readers._idle == []
    assert await parts(readers, tmp_path / "next.txt", b"next")


async def test_a_worker_gets_no_secrets(
    readers: ReaderPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "pk-secret")
    await parts(readers, tmp_path / "one.txt", b"one")
    [worker] = readers._idle
    assert "pk-secret" not in psutil.Process(worker.pid).environ().values()


# --- forms and formulas -------------------------------------------------------------------------------------------


async def test_filled_in_form_fields_follow_their_page(readers: ReaderPool, tmp_path: Path) -> None:
    text = "/FT /Tx /Rect [150 700 300 720]"
    data = documents.form(
        "Application for a berth",
        f"{text} /T (owner) /TU (Surname of the owner) /V <FEFF{'Larsen 雪'.encode('utf-16-be').hex()}>",
        f"{text} /T (boat) /V ()",
        f"{text} /T (secret) /V (word-1234) /Ff 8192",
        "/FT /Btn /Rect [150 670 170 690] /T (Insured) /V /Yes /AS /Yes",
        "/FT /Btn /Rect [150 660 170 670] /T (Winter) /V /Off /AS /Off",
        "/FT /Ch /Rect [150 640 300 660] /T (Quay) /V (North) /Opt [(North) (South)]",
    )
    page, filled = await parts(readers, tmp_path / "form.pdf", data)
    assert page.text == "Application for a berth"
    assert filled.text.splitlines() == [
        "Filled in:",
        "Surname of the owner: Larsen 雪",
        "Insured: yes",
        "Winter: no",
        "Quay: North",
    ]
    assert filled.place.page == 1


async def test_formulas_of_word_are_read_as_lines(readers: ReaderPool, tmp_path: Path) -> None:
    def run(said: str) -> str:
        return f"<m:r><m:t>{said}</m:t></m:r>"

    fraction = f"<m:f><m:fPr/><m:num>{run('a+b')}</m:num><m:den>{run('2')}</m:den></m:f>"
    power = f"<m:sSup><m:e>{run('x')}</m:e><m:sup>{run('2')}</m:sup></m:sSup>"
    sub_superscript = (
        f"<m:sSubSup><m:e>{run('y')}</m:e><m:sub>{run('i')}</m:sub><m:sup>{run('n+1')}</m:sup></m:sSubSup>"
    )
    root = f"<m:rad><m:radPr/><m:deg/><m:e>{run('z')}</m:e></m:rad>"
    sum_of = (
        f'<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{run("i=1")}</m:sub><m:sup>{run("n")}</m:sup>'
        f"<m:e>{run('i')}</m:e></m:nary>"
    )
    ends = '<m:dPr><m:begChr m:val="["/><m:endChr m:val="]"/></m:dPr>'
    matrix = f"<m:d>{ends}<m:e>{run('1')}</m:e><m:e>{run('2')}</m:e></m:d>"
    data = documents.formulas([fraction, power, sub_superscript, root, sum_of, matrix])
    (document_part,) = await parts(readers, tmp_path / "formulas.docx", data)
    assert document_part.text.splitlines()[::2] == [
        "The mean is (a+b)/2 exactly.",
        "The mean is x^2 exactly.",
        "The mean is y_i^(n+1) exactly.",
        "The mean is √(z) exactly.",
        "The mean is ∑_(i=1)^n i exactly.",
        "The mean is [1, 2] exactly.",
    ]
