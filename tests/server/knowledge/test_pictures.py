"""Pictures, scans and tables of PDF: described by a model that sees, recognised by tesseract, or told why not."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.knowledge import documents, office
from tests.server.knowledge.drawn import picture

from portico_server.knowledge.document import Part, SourceDocument, Unreadable
from portico_server.knowledge.parse import ocr, pdf, worker
from portico_server.knowledge.parse.pool import ReaderPool

recognises = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


def cut(
    name: str, data: bytes, folder: Path, *, languages: str = "eng", recognition: float = 600.0
) -> list[Part]:
    """The parts of a file as a worker reads it."""

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


def test_a_table_is_rows_below_its_header_between_the_text_around_it() -> None:
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
    found = list(pdf.group_rows([f"{row} | {n}" for n, row in enumerate(rows)], 400))
    assert len(found) > 3
    assert all(text.startswith("Boat | 0\n") for _, text in found)
    for first, text in found:
        assert text.split("\n")[1].endswith(f" | {first - 1}")


def test_a_page_without_borders_is_not_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: pdf.PdfTables, number: int, page: object, quarters: int) -> list[pdf.PdfTable]:
        raise AssertionError("a page without lines was searched for tables")

    monkeypatch.setattr(pdf.PdfTables, "_find", never)
    data = documents.pdf("\n".join(FEES), drawn={0: "50 700 m 300 700 l S\n"})
    [part] = pdf.read(SourceDocument("plain.pdf", data))
    assert "Dinghy" in part.text


def test_tables_beside_each_other_leave_the_page_as_it_is() -> None:
    lines = ["Left      Fee       Right     Fee", "a         1         b         2"]
    sides = documents.ruled(lines, (0, 10, 18), range(2)) + documents.ruled(lines, (0, 10, 18), range(2), 20)
    [part] = pdf.read(SourceDocument("both.pdf", documents.pdf("\n".join(lines), drawn={0: sides})))
    assert "Left" in part.text
    assert "Right" in part.text


# --- text recognition ---------------------------------------------------------------------------------------------


@recognises
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_text_of_a_picture_is_recognised(tmp_path: Path, kind: str) -> None:
    [part] = cut(f"sign.{kind.lower()}", picture("Mooring is forbidden", kind=kind), tmp_path)
    assert part.text == "Mooring is forbidden"


@recognises
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


@recognises
def test_pictures_in_an_archive_are_read_and_those_without_text_left_out(tmp_path: Path) -> None:
    data = {"signs/north.png": picture("Shallow water"), "logo.png": picture(), "a.txt": b"A text."}
    found = {(part.text, part.place.heading) for part in cut("signs.zip", office.zipped(data), tmp_path)}
    assert found == {("A text.", ("a.txt",)), ("Shallow water", ("signs/north.png",))}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("sign.png", picture("Forbidden"), "apt-get install tesseract-ocr"),
        ("scan.pdf", b"", "apt-get install tesseract-ocr"),
        ("torn.png", b"no picture at all", "not a picture"),
    ],
)
def test_without_recognition_the_reason_says_what_to_install(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    if name == "scan.pdf":
        file = io.BytesIO()
        Image.open(io.BytesIO(picture("Page"))).save(file, "PDF")
        data = file.getvalue()
    with pytest.raises(Unreadable, match=words):
        cut(name, data, tmp_path, languages="")


@recognises
def test_a_picture_without_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no text is recognised"):
        cut("blank.png", picture(), tmp_path)


def test_chinese_is_put_together_again() -> None:
    assert ocr.tidy("港 口 六 点 开 门 。\n\n\n\n船 only waits\f") == "港口六点开门。\n\n船 only waits"


def test_of_one_document_so_many_pictures_are_read_and_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(ocr, "MAX_PICTURES", 1)
    monkeypatch.setattr(ocr, "RECOGNISE_TIMEOUT_S", 5.0)
    ocr.begin(lambda: heard.append(1))
    ocr.recognise(b"nothing")
    ocr.recognise(b"nothing")
    assert heard == [1]
    ocr.begin(lambda: None)


def scan(*pages: str) -> bytes:
    """A PDF whose pages are pictures of words."""
    file = io.BytesIO()
    first, *others = (Image.open(io.BytesIO(picture(page))) for page in pages)
    first.save(file, "PDF", save_all=True, append_images=others)
    return file.getvalue()


@recognises
@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_page_that_lies_sideways_or_upside_down_is_read(tmp_path: Path, turned: int) -> None:
    lines = ("The harbour opens at six", "Boats wait at the north quay", "until the bridge is raised") * 5
    file = io.BytesIO()
    Image.open(io.BytesIO(picture(*lines))).rotate(turned, expand=True).save(file, "PDF")
    (found,) = cut("sideways.pdf", file.getvalue(), tmp_path)
    assert "Boats wait at the north quay" in found.text


@recognises
def test_what_recognition_has_no_time_for_is_named(tmp_path: Path) -> None:
    box = office.zipped({"scan.pdf": scan("One", "Two", "Three"), "note.txt": "The harbour."})
    *_found, last = cut("box.zip", box, tmp_path, recognition=1e-9)
    assert last.text.startswith("Not read:\n")
    assert (
        "2 scanned page(s) or picture(s), from page 2 on: text recognition has taken the 1e-09 s" in last.text
    )
    assert "raise the setting ocr_timeout" in last.text
    with pytest.raises(Unreadable, match=r"has no text on its 2 pages.*raise the setting ocr_timeout"):
        cut("scan.pdf", scan("One", "Two"), tmp_path, recognition=1e-9)


@recognises
def test_pages_behind_the_last_picture_that_is_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "MAX_PICTURES", 1)
    monkeypatch.setattr(ocr, "languages", lambda: "eng")
    ocr.begin(lambda: None)
    assert [part.text for part in pdf.read(SourceDocument("scan.pdf", scan("One", "Two", "Three")))] == [
        "One"
    ]
    assert "2 scanned page(s) or picture(s), from page 2 on: only the first 1 of" in ocr.left_out()
    ocr.begin(lambda: None)
    assert ocr.left_out() == ""


@recognises
def test_the_processor_time_of_a_document_starts_again_with_each_of_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: list[float] = []
    monkeypatch.setattr(worker, "limit_process", lambda _memory, seconds: limited.append(seconds))
    monkeypatch.setattr(ocr, "languages", lambda: "eng")
    (tmp_path / "scan.pdf").write_bytes(scan("One", "Two"))
    job = {"path": str(tmp_path / "scan.pdf"), "name": "scan.pdf", "chunking": None, "terms": False}
    worker.work({**job, "memory": 0, "seconds": 7.0, "recognition": 600.0}, io.BytesIO())
    assert limited == [7.0, 7.0, 7.0]
    ocr.begin(lambda: None)


# --- models that see ----------------------------------------------------------------------------------------------

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
    with daemons.running(
        home / "data", "--file", str(configuration), "--docs", str(folder), env={"PORTICO_OCR_LANGUAGES": ""}
    ) as running:
        running.settle()
        yield running


def test_a_picture_is_found_by_what_a_model_sees_in_it(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        found = http.post("/api/stores/album/search", json={"query": "stork"}).json()["data"]
        assert (found[0]["filename"], found[0]["text"]) == ("harbour.png", "A stork on a red bollard.")
        store = http.get("/api/stores/album").json()["id"]
        content = http.get(f"/v1/vector_stores/{store}/files/{found[0]['file_id']}/content").json()
        assert content["data"][0]["text"] == "A stork on a red bollard."


def test_a_picture_that_the_model_refuses_fails_alone_with_a_reason(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        store = http.post("/v1/vector_stores", json={"name": "refused"}).json()["id"]
        files = {"file": ("broken.png", picture("x"))}
        file = http.post("/v1/files", data={"purpose": "assistants"}, files=files).json()["id"]
        http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        [run] = [item for item in http.get("/api/runs").json()["data"] if item["name"] == store]
        http.get(f"/api/runs/{run['id']}/events")
        row = http.get(f"/v1/vector_stores/{store}/files/{file}").json()
        assert row["status"] == "failed"
        assert "broken.png is a picture" in row["last_error"]["message"]
