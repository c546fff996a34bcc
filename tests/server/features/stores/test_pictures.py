"""Pictures, scans and tables of PDF: described by a vision model, read by OCR, or refused with a reason."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import mmap
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw, ImageFont
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.readers import documents, office
from tests.server.features.readers.drawn import picture, scan

from portico._installed import how_to_add
from portico_server.features.chunkers.document import Part, SourceDocument, Unreadable
from portico_server.features.readers import ocr, pdf, pdf_tables, worker
from portico_server.features.readers.pool import ReaderPool


@pytest.fixture
def without_rapidocr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide rapidocr from this process."""
    for module in ("rapidocr", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    ocr._installed_languages.cache_clear()
    yield
    ocr._installed_languages.cache_clear()
    ocr.begin(lambda: None)


@pytest.fixture
def without_ocr(without_rapidocr: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide rapidocr and tesseract from this process."""
    monkeypatch.setenv("PATH", str(tmp_path))


def cut(
    name: str, data: bytes, folder: Path, *, languages: str = "eng", recognition: float = 600.0
) -> list[Part]:
    """Return the parts of a file as a worker reads it."""

    async def read() -> list[Part]:
        path = folder / name
        path.write_bytes(data)
        readers = ReaderPool(
            workers=1, seconds=60, memory=2 * 2**30, languages=languages, recognition=recognition
        )
        try:
            return [part async for run in readers.read(path, name) for part in run]
        finally:
            await readers.close()

    return asyncio.run(read())


# --- tables of PDF ------------------------------------------------------------------------------------------------

FEES = [
    "What a berth costs in summer.",
    "Boat                Fee",
    "Dinghy              15 crowns",
    "Trawler             90 crowns",
    "帆船                  四十克朗",
    "Paid at the gate.",
]


def test_a_table_is_read_as_rows_under_its_header_between_the_surrounding_text() -> None:
    data = documents.pdf(
        "Cover.", "\n".join(FEES), drawn={1: documents.ruled(FEES, (0, 20, 36), range(1, 5))}
    )
    parts = list(pdf.read(SourceDocument("fees.pdf", data)))
    assert [(part.text, part.place.page, part.place.row) for part in parts] == [
        ("Cover.", 1, None),
        ("What a berth costs in summer.", 2, None),
        ("Boat | Fee\nDinghy | 15 crowns\nTrawler | 90 crowns\n帆船 | 四十克朗", 2, 2),
        ("Paid at the gate.", 2, None),
    ]
    text = "\n".join(part.text for part in parts)
    assert all(text[part.place.start : part.place.end] == part.text for part in parts)
    assert parts[2].place.label() == "page 2 · row 2"


@pytest.mark.parametrize(("quarters", "rotate"), [(0, 0), (1, 1), (2, 2), (3, 3), (1, 0), (3, 0), (0, 1)])
def test_a_table_on_a_turned_page_is_rows_too(quarters: int, rotate: int) -> None:
    rows = [("Boat", "Fee"), ("Dinghy", "15 crowns"), ("Trawler", "90 crowns")]
    pieces = [(60, 500, "What a berth costs in summer.")]
    for number, row in enumerate(rows):
        pieces += [(x, 470 - 20 * number, text) for x, text in zip((60, 200), row, strict=True)]
    pieces.append((60, 400, "Paid at the gate."))
    across = [f"55 {y} m 300 {y} l S\n" for y in (484, 464, 444, 424)]
    downs = [f"{x} 424 m {x} 484 l S\n" for x in (55, 195, 300)]
    data = documents.laid_out(pieces, quarters=quarters, rotate=rotate, drawn="".join([*across, *downs]))
    parts = list(pdf.read(SourceDocument("fees.pdf", data)))
    assert [(part.text, part.place.row) for part in parts] == [
        ("What a berth costs in summer.", None),
        ("Boat | Fee\nDinghy | 15 crowns\nTrawler | 90 crowns", 2),
        ("Paid at the gate.", None),
    ]


def test_a_long_table_repeats_its_header_over_each_group_of_rows() -> None:
    rows = ["Boat", *(f"Boat number {n} of the northern harbour" for n in range(40))]
    row_groups = list(pdf_tables.group_rows([f"{row} | {n}" for n, row in enumerate(rows)], 400))
    assert len(row_groups) > 3
    assert all(text.startswith("Boat | 0\n") for _, text in row_groups)
    for first, text in row_groups:
        assert text.split("\n")[1].endswith(f" | {first - 1}")


def test_a_page_without_borders_is_not_searched_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(
        self: pdf_tables.PdfTables, number: int, page: object, quarters: int
    ) -> list[pdf_tables.PdfTable]:
        raise AssertionError("a page without lines was searched for tables")

    monkeypatch.setattr(pdf_tables.PdfTables, "_find", never)
    data = documents.pdf("\n".join(FEES), drawn={0: "50 700 m 300 700 l S\n"})
    [part] = pdf.read(SourceDocument("plain.pdf", data))
    assert "Dinghy" in part.text


def test_a_page_with_side_by_side_tables_is_read_as_plain_text() -> None:
    lines = ["Left      Fee       Right     Fee", "a         1         b         2"]
    sides = documents.ruled(lines, (0, 10, 18), range(2)) + documents.ruled(lines, (0, 10, 18), range(2), 20)
    [part] = pdf.read(SourceDocument("both.pdf", documents.pdf("\n".join(lines), drawn={0: sides})))
    assert "Left" in part.text
    assert "Right" in part.text


# --- text recognition ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_text_of_a_picture_is_recognised(tmp_path: Path, kind: str) -> None:
    [part] = cut(f"sign.{kind.lower()}", picture("Mooring is forbidden", kind=kind), tmp_path)
    assert part.text == "Mooring is forbidden"


@pytest.mark.slow
def test_a_scanned_page_is_read_and_keeps_its_number(tmp_path: Path) -> None:
    first, second = (
        Image.open(io.BytesIO(picture(text))) for text in ("The first page", "The eel ladder is open")
    )
    file = io.BytesIO()
    first.save(file, "PDF", save_all=True, append_images=[second], resolution=150)
    parts = cut("scan.pdf", file.getvalue(), tmp_path)
    assert [(part.text, part.place.page) for part in parts] == [
        ("The first page", 1),
        ("The eel ladder is open", 2),
    ]


@pytest.mark.slow
def test_pictures_in_an_archive_are_read_and_textless_ones_skipped(tmp_path: Path) -> None:
    data = {"signs/north.png": picture("Shallow water"), "logo.png": picture(), "a.txt": b"A text."}
    text_headings = {
        (part.text, part.place.heading) for part in cut("signs.zip", office.zipped(data), tmp_path)
    }
    assert text_headings == {("A text.", ("a.txt",)), ("Shallow water", ("signs/north.png",))}


def joined(*files: bytes) -> bytes:
    """Return one PDF with the pages of several."""
    document, file = pdfium.PdfDocument.new(), io.BytesIO()
    for data in files:
        document.import_pages(pdfium.PdfDocument(data))
    document.save(file)
    return file.getvalue()


def answers(name: str, data: bytes, folder: Path) -> list[dict[str, Any]]:
    """Return a worker's answers when it reads a file in this process."""
    (folder / name).write_bytes(data)
    job = {"path": str(folder / name), "name": name, "chunking": None, "terms": False}
    out = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "limit_process", lambda _memory, _seconds: None)
        patch.setenv(ocr.LANGUAGES_VARIABLE, "chi_sim+eng")
        worker.work({**job, "memory": 0, "seconds": 60.0, "recognition": 60.0}, out)
    return [orjson.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.usefixtures("without_ocr")
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("sign.png", picture("Forbidden"), "is a picture; install OCR to read it: "),
        (
            "scan.pdf",
            scan("One", "Two"),
            "has no text on its 2 pages: it contains images of pages, but OCR is not available",
        ),
    ],
)
def test_without_ocr_the_reason_names_the_command_that_installs_it(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    [answer] = answers(name, data, tmp_path)
    assert answer["message"].startswith(reason)
    assert how_to_add("ocr") in answer["message"]


@pytest.mark.usefixtures("without_ocr")
def test_without_ocr_scanned_pages_among_pages_of_text_are_named(tmp_path: Path) -> None:
    mixed = joined(documents.pdf("The first page."), scan("Two", "Three"))
    text, unread = (text for answer in answers("mixed.pdf", mixed, tmp_path) for text, _ in answer["parts"])
    assert text == "The first page."
    assert unread == (
        "Not read:\n2 scanned page(s) or image(s), from page 2 on: "
        f"install OCR to read it: {how_to_add('ocr')}"
    )


def test_without_languages_the_reason_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="set ocr_languages to languages"):
        cut("sign.png", picture("Forbidden"), tmp_path, languages="")


def monochrome(width: int, height: int) -> bytes:
    """Return a picture of one colour: few bytes for many pixels."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no picture at all", "is not an image"),
        (b"\x89PNG and no more", "is a damaged or truncated image"),
        (picture("Forbidden")[:2_000], "is a damaged or truncated image"),
        (monochrome(20_000, 20_000), "is an image of more than 89 million pixels"),
        (monochrome(10_000, 9_500), "is an image of more than 89 million pixels"),
        (monochrome(80_000, 1), "is an image without recognisable text"),
    ],
    ids=["text", "header", "cut", "bomb", "large", "line"],
)
def test_a_hostile_picture_is_refused_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        cut("sign.png", data, tmp_path)


@pytest.mark.slow
def test_every_page_of_a_tiff_is_read(tmp_path: Path) -> None:
    first, second = (Image.open(io.BytesIO(picture(text))) for text in ("The north quay", "The eel ladder"))
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=[second])
    [part] = cut("fax.tiff", file.getvalue(), tmp_path)
    assert part.text == "The north quay\n\nThe eel ladder"


@pytest.mark.slow
def test_a_scanned_page_of_two_columns_is_read_column_by_column(tmp_path: Path) -> None:
    page = Image.new("L", (1_900, 700), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=32)
    for number in range(8):
        draw.text(
            (60, 60 + 70 * number), f"The left column says in line {number} something of boats", 0, font
        )
        draw.text(
            (1_000, 60 + 70 * number), f"The right column says in line {number} something of quays", 0, font
        )
    file = io.BytesIO()
    page.save(file, "PNG")
    [part] = cut("columns.png", file.getvalue(), tmp_path)
    sides = [line.split()[1] for line in part.text.split("\n") if line]
    assert sides == ["left"] * 8 + ["right"] * 8


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
@pytest.mark.usefixtures("without_rapidocr")
def test_tesseract_reads_where_rapidocr_is_not_installed(tmp_path: Path) -> None:
    *_, last = answers("sign.png", picture("Mooring is forbidden"), tmp_path)
    assert last["parts"][0][0] == "Mooring is forbidden"


def test_the_installed_onnxruntime_contains_no_telemetry_address() -> None:
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    libraries = list((Path(spec.origin).parent / "capi").glob("*.so*"))
    assert libraries
    for library in libraries:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            assert content.find(b"events.data.microsoft.com") == -1, library.name


@pytest.mark.slow
def test_a_picture_without_text_is_refused_with_that_reason(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="is an image without recognisable text"):
        cut("blank.png", picture(), tmp_path)


def test_spaces_between_recognised_chinese_characters_are_removed() -> None:
    assert ocr.tidy("港 口 六 点 开 门 。\n\n\n\n船 only waits\f") == "港口六点开门。\n\n船 only waits"


@pytest.mark.slow
def test_the_number_of_recognised_pictures_per_document_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(ocr, "MAX_PICTURES", 1)
    monkeypatch.setenv(ocr.LANGUAGES_VARIABLE, "eng")
    ocr.begin(lambda: calls.append(1))
    ocr.recognise(picture("One"))
    ocr.recognise(picture("Two"))
    assert calls == [1]
    ocr.begin(lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_page_that_lies_sideways_or_upside_down_is_read(tmp_path: Path, turned: int) -> None:
    lines = ("The harbour opens at six", "Boats wait at the north quay", "until the bridge is raised") * 5
    file = io.BytesIO()
    Image.open(io.BytesIO(picture(*lines))).rotate(turned, expand=True).save(file, "PDF")
    (part,) = cut("sideways.pdf", file.getvalue(), tmp_path)
    assert "Boats wait at the north quay" in part.text


@pytest.mark.slow
def test_scans_left_unread_by_the_recognition_time_limit_are_named(tmp_path: Path) -> None:
    box = office.zipped({"scan.pdf": scan("One", "Two", "Three"), "note.txt": "The harbour."})
    *_found, last = cut("box.zip", box, tmp_path, recognition=1e-9)
    assert last.text.startswith("Not read:\n")
    assert "2 scanned page(s) or image(s), from page 2 on: text recognition has used the 1e-09 s" in last.text
    assert "raise the setting ocr_timeout" in last.text
    with pytest.raises(Unreadable, match=r"has no text on its 2 pages.*raise the setting ocr_timeout"):
        cut("scan.pdf", scan("One", "Two"), tmp_path, recognition=1e-9)


def test_pages_behind_the_last_picture_that_is_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "MAX_PICTURES", 1)
    monkeypatch.setenv(ocr.LANGUAGES_VARIABLE, "eng")
    ocr.begin(lambda: None)
    assert [part.text for part in pdf.read(SourceDocument("scan.pdf", scan("One", "Two", "Three")))] == [
        "One"
    ]
    assert "2 scanned page(s) or image(s), from page 2 on: only the first 1 images of" in ocr.left_out()
    ocr.begin(lambda: None)
    assert ocr.left_out() == ""


def test_the_processor_time_of_a_document_starts_again_with_each_of_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: list[float] = []
    monkeypatch.setattr(worker, "limit_process", lambda _memory, seconds: limited.append(seconds))
    monkeypatch.setenv(ocr.LANGUAGES_VARIABLE, "eng")
    (tmp_path / "scan.pdf").write_bytes(scan("One", "Two"))
    job = {"path": str(tmp_path / "scan.pdf"), "name": "scan.pdf", "chunking": None, "terms": False}
    worker.work({**job, "memory": 0, "seconds": 7.0, "recognition": 600.0}, io.BytesIO())
    assert limited == [7.0, 7.0, 7.0]
    ocr.begin(lambda: None)


# --- vision models --------------------------------------------------------------------------------------

CONFIGURATION = """
models:
  - name: eye
    source: "fake://"
    aliases: [default]
    parameters:
      vision: true
      script:
        - {match: "File: harbour.png", content: "A stork on a red bollard."}
        - {match: "File: broken.png", error: {status: 400, message: "I cannot look at that."}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("pictures")
    folder = home / "album"
    folder.mkdir()
    (folder / "harbour.png").write_bytes(picture("no words"))
    (folder / "notes.txt").write_text("Nothing about birds.", encoding="utf-8")
    configuration = home / "eye.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration), "--docs", str(folder)) as running:
        running.settle()
        yield running


def test_a_picture_is_found_by_what_a_model_sees_in_it(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        hits = http.post("/api/stores/album/search", json={"query": "stork"}).json()["data"]
        assert (hits[0]["filename"], hits[0]["text"]) == ("harbour.png", "A stork on a red bollard.")
        store = http.get("/api/stores/album").json()["id"]
        content = http.get(f"/v1/vector_stores/{store}/files/{hits[0]['file_id']}/content").json()
        assert content["data"][0]["text"] == "A stork on a red bollard."


@pytest.mark.slow
def test_a_picture_that_the_model_refuses_fails_alone_with_a_reason(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        store = http.post("/v1/vector_stores", json={"name": "refused"}).json()["id"]
        files = {"file": ("broken.png", picture())}
        file = http.post("/v1/files", data={"purpose": "assistants"}, files=files).json()["id"]
        http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        [run] = [item for item in http.get("/api/runs").json()["data"] if item["name"] == store]
        http.get(f"/api/runs/{run['id']}/events")
        row = http.get(f"/v1/vector_stores/{store}/files/{file}").json()
        assert row["status"] == "failed"
        assert "broken.png is an image" in row["last_error"]["message"]
