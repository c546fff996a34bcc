"""A folder with every format, in English and Chinese: each file is found by the question that only it answers."""

import gzip
import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.daemon import ROOT, Daemon
from tests.server.features.readers import documents, office
from tests.server.features.readers.drawn import picture, scan

from portico_server.features.chunkers.document import Unreadable
from portico_server.features.readers import formats

TARIFF = [
    "Cargo               Crowns",
    "Turnips             eleven",
    "Saltpetre           sixty",
    "End of the list.",
]

SCANNED_CHINESE = ROOT / "docs" / "cookbook" / "scanned-chinese" / "documents" / "通知.pdf"

FILES: dict[str, bytes] = {
    "text.txt": b"The lighthouse keeper feeds seventeen gulls.\n",
    "guide.md": b"# Tides\n\nThe spring tide reaches the fourth step.\n\n## Ebb\n\nThe ebb uncovers the wreck.\n",
    "notes.rst": "Anchors\n=======\n\n锚链长一百二十米，重两吨。\n".encode(),
    "paper.tex": b"\\section{Buoyancy}\nA hull displaces ninety tonnes of brine.\n",
    "page.html": b"<h1>Ferries</h1><p>The ferry to Skerry leaves on odd Wednesdays.</p>",
    "tariff.pdf": documents.pdf(
        "Tariffs follow.", "\n".join(TARIFF), drawn={1: documents.ruled(TARIFF, (0, 20, 34), range(4))}
    ),
    "scan.pdf": documents.pdf("Nothing much here.", "The quarantine flag is yellow."),
    "report.docx": documents.word(),
    "talk.pptx": office.slides(("Welcome", "Hello.", ""), ("Dredging", "挖泥船每年清淤三次。", "")),
    "pilot.odt": office.opendocument(
        '<text:h text:outline-level="1">Pilotage</text:h><text:p>Ships above forty metres take a helmsman.</text:p>',
        title="Northern fairway",
    ),
    "fees.xlsx": office.sheets(
        {"Cranes": [["Crane", "Lift"], ["Goliath", "750 tonnes"], ["矮子", "十二吨"]]}
    ),
    "crew.csv": "name,role\nMagnusson,boatswain\n李雷,领航员\n".encode(),
    "study.ipynb": office.notebook(
        ("markdown", "# Salinity", ""), ("code", "ppt = 35", "measured salinity 35 ppt\n")
    ),
    "novel.epub": office.book("The Lock", ["<h1>Arrival</h1><p>Captain Ahlgren hid the sextant.</p>"]),
    "berth.eml": office.mail(
        "Berth nine", "The bollard at berth nine is loose.", ("spare.txt", "备用缆绳在仓库。".encode())
    ),
    "all.mbox": b"From a@b Fri Nov 20 10:00:00 2026\n"
    + office.mail("Ice", "The icebreaker docks at midnight."),
    "film.srt": b"1\n00:01:05,000 --> 00:01:07,000\nThe pilot boards beyond the breakwater.\n",
    "feed.xml": b"<feed><entry><title>Kelp harvest</title><when>Tuesdays</when></entry></feed>",
    "config.json": json.dumps(
        {"radio": {"channel": 16, "callsign": "Heron"}, "pad": ["x" * 400] * 4}
    ).encode(),
    "boats.py": b"class Trawler:\n    def haul(self):\n        return 'cod and haddock'\n\n"
    + b"x = 1\n\n" * 200,
    "server.log": b"2026-11-20 10:00:00 ERROR foghorn compressor overheated\n",
    "winter.zip": office.zipped({"plans/sledge.md": "# Sledges\n\nEleven huskies pull the sledge.\n"}),
    "old.txt.gz": gzip.compress("码头的钟在正午敲响十二下。".encode()),
    "sign.png": picture("Beware of the walrus"),
    "leaflet.pdf": scan("Cover of the leaflet", "Seals sunbathe on pier three."),
    "notice.pdf": SCANNED_CHINESE.read_bytes(),
    "drawing.svg": b"<svg><text>An albatross nobody should find</text></svg>",
}

QUESTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("How many gulls does the keeper feed?", "text.txt", {"line": 1}),
    ("What does the ebb uncover?", "guide.md", {}),
    ("锚链有多长？", "notes.rst", {"heading": ["Anchors"]}),
    ("How much brine does a hull displace?", "paper.tex", {"heading": ["Buoyancy"]}),
    ("When does the ferry to Skerry leave?", "page.html", {"heading": ["Ferries"]}),
    ("What colour is the quarantine flag?", "scan.pdf", {"page": 2}),
    ("How many crowns for saltpetre?", "tariff.pdf", {"page": 2, "row": 2}),
    ("What does the Dinghy cost?", "report.docx", {}),
    ("挖泥船每年清淤几次？", "talk.pptx", {"page": 2, "heading": ["Dredging"]}),
    ("Which ships take a helmsman?", "pilot.odt", {"heading": ["Northern fairway", "Pilotage"]}),
    ("How much can the crane Goliath lift?", "fees.xlsx", {"sheet": "Cranes", "cell": "A2:B3"}),
    ("Which role has Magnusson?", "crew.csv", {"row": 2}),
    ("What salinity was measured?", "study.ipynb", {"cell": "2", "heading": ["Salinity"]}),
    ("Who hid the sextant?", "novel.epub", {"heading": ["The Lock", "Arrival"]}),
    ("Which bollard is loose?", "berth.eml", {"heading": ["Berth nine"]}),
    ("备用缆绳在哪里？", "berth.eml", {"heading": ["Berth nine", "spare.txt"]}),
    ("When does the icebreaker dock?", "all.mbox", {"heading": ["Ice"]}),
    ("Where does the pilot board?", "film.srt", {"seconds": 65.0}),
    ("When is the kelp harvest?", "feed.xml", {}),
    ("What is the callsign of the radio?", "config.json", {"symbol": "$.radio"}),
    ("Which fish does the trawler haul?", "boats.py", {"line": 1}),
    ("Why did the foghorn compressor fail?", "server.log", {"line": 1}),
    ("How many huskies pull the sledge?", "winter.zip", {"heading": ["plans/sledge.md", "Sledges"]}),
    ("码头的钟什么时候敲响？", "old.txt.gz", {"heading": ["old.txt"]}),
    ("Where is the walrus?", "sign.png", {}),
    ("Where do the seals sunbathe?", "leaflet.pdf", {"page": 2}),
    ("借书证丢失以后到哪里补办？", "notice.pdf", {"page": 2}),
]


@pytest.fixture(scope="module")
def archive(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A store that mirrors a folder with a file of every format."""
    folder = tmp_path_factory.mktemp("archive")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        http.post("/api/stores", json={"name": "archive", "folder": str(folder), "embedding_model": ""})
        run = http.post("/api/stores/archive/sync").json()["run"]
        with http.stream("GET", f"/api/runs/{run}/events") as events:
            assert any("finished" in line for line in events.iter_lines())
        yield http


@pytest.mark.slow
def test_every_document_is_indexed_and_drawings_are_not(archive: httpx.Client) -> None:
    files = archive.get("/api/stores/archive/files").json()["data"]
    assert [(row["filename"], row["error"]) for row in files if row["status"] != "completed"] == []
    assert {row["filename"] for row in files} == set(FILES) - {"drawing.svg"}


@pytest.mark.parametrize(("question", "file", "place"), QUESTIONS, ids=[file for _, file, _ in QUESTIONS])
def test_the_app_cites_the_right_file_and_place_for_each_format(
    archive: httpx.Client, question: str, file: str, place: dict[str, Any]
) -> None:
    body = {"model": "archive", "messages": [{"role": "user", "content": question}], "max_tokens": 8}
    message = archive.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    first = message["annotations"][0]
    assert first["type"] == "file_citation"
    citation = first["file_citation"]
    assert (citation["filename"], citation["index"]) == (file, 1)
    assert {name: citation["place"].get(name) for name in place} == place


@pytest.mark.parametrize(("question", "file", "place"), QUESTIONS, ids=[file for _, file, _ in QUESTIONS])
def test_a_search_finds_the_right_file_and_place_for_each_format(
    archive: httpx.Client, question: str, file: str, place: dict[str, Any]
) -> None:
    body = {"query": question, "max_num_results": 3}
    best = archive.post("/api/stores/archive/search", json=body).json()["data"][0]
    assert best["filename"] == file, best
    assert {name: best["place"][name] for name in place} == place


def test_a_missing_format_package_is_named_in_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    form = formats.format_of("lease.pdf")
    assert form is not None and form.extra == "pdf"
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    for name in [name for name in sys.modules if name.startswith("portico_server.features.readers.pdf")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        Unreadable, match=r"format pdf, but the package that reads it is not installed: \S+"
    ) as error:
        form.reader()
    assert error.value.code == "unsupported_file"
