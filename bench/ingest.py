"""Ingest: files per second and the share of each stage, one change among many, memory: ``python bench/ingest.py``.

``--lazyllm PYTHON`` runs LazyLLM's bm25 over the same files, alternately; PYTHON is an interpreter that has
``lazyllm`` and its ``rag`` requirements. ``--texts N`` measures characters per second of N files of text and Markdown,
``--pages N`` pages of PDF per second on one core, with ``--pdf PYTHON`` compared with pypdf and PyMuPDF; PYTHON has
both. ``--change N`` measures how soon one changed file among N can be found, ``--huge MB`` the peak memory of
everything that Portico runs while it ingests one text of that size. Lexical search only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import corpus
import psutil
from harness import HERE, Report, Serving, call, daemon, medians

QUIET = 60.0
"""Seconds that the daemon gets to finish the work of its startup."""

TEXT_CHARACTERS = 20_000
"""Size of a text or Markdown file, in characters."""

PDF_PAGES = 20
"""Number of pages of a PDF."""

LINE_CHARACTERS = 80

OURS = """
from pathlib import Path
from portico_server.features.chunkers.document import SourceDocument
from portico_server.features.readers.documents import document_format
from portico_server.features.readers.worker import batches
def read(path):
    source = SourceDocument(path.name, path)
    return [part.text for parts in batches(source, document_format(source), None) for part in parts]
"""

PYPDF = """
from pypdf import PdfReader
def read(path):
    return [page.extract_text() for page in PdfReader(path).pages]
"""

PYMUPDF = """
import pymupdf
def read(path):
    with pymupdf.open(path) as file:
        return [page.get_text() for page in file]
"""

READ_ALL = """
import sys, time
from pathlib import Path
files = sorted(Path(sys.argv[1]).glob("*.pdf"))
read(files[0])
begin = time.process_time()
characters = sum(len(text) for path in files for text in read(path))
print("SECONDS", time.process_time() - begin, characters)
"""

LAZYLLM = """
import sys, time
try:
    import tiktoken
    tiktoken.get_encoding("gpt2")
except Exception:
    # Its vocabulary comes from the network. Where there is none, words stand in, which are split faster.
    import re
    class Words:
        name = "words"
        def encode(self, text, **_):
            return re.findall(r"[a-zA-Z0-9]+\\\\s?|.", text, re.S)
        def decode(self, tokens):
            return "".join(tokens)
    tiktoken.get_encoding = lambda name: Words()
    tiktoken.encoding_for_model = lambda name: Words()
from lazyllm import Document, Retriever
begin = time.perf_counter()
retriever = Retriever(Document(dataset_path=sys.argv[1], manager=False), "CoarseChunk", "bm25_chinese", topk=5)
found = retriever(sys.argv[2])
print("SECONDS", time.perf_counter() - begin, len(found))
"""


def main() -> None:
    """Run the requested measurements, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--lazyllm", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--pages", type=int, default=1_000)
    parser.add_argument("--pdf", type=Path)
    parser.add_argument("--change", type=int, default=0, metavar="N")
    parser.add_argument("--huge", type=int, default=0, metavar="MB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = ("what", "seconds", "cpu seconds", "a second", "of all", "MB")
    report = Report("Ingest", columns)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.files:
            mixed(report, folder, options.files, options.rounds, options.lazyllm)
        if options.texts:
            texts(report, folder, options.texts, options.rounds)
        if options.pages:
            pages(report, folder, options.pages, options.rounds, options.pdf)
        if options.change:
            change(report, folder, options.change)
        if options.huge:
            huge(report, folder, options.huge)
    report.show(options.json)


def mixed(report: Report, folder: Path, files: int, rounds: int, lazyllm: Path | None) -> None:
    """Measure files of six kinds, alternately with LazyLLM."""
    characters = corpus.fill(folder / "mixed", files)
    report.notes["files, characters"] = f"{files:,}, {characters:,}"
    samples: dict[str, list[float]] = {"portico": [], "lazyllm": []}
    cpu = 0.0
    for number in range(rounds):
        with settled(folder / f"home{number}") as portico:
            before = spent(portico)
            samples["portico"].append(ingest(portico, "mixed", folder / "mixed"))
            cpu = spent(portico) - before
        if lazyllm is not None:
            samples["lazyllm"].append(theirs(lazyllm, folder / "mixed"))
    middle = medians(samples)
    report.add(what="portico", seconds=middle["portico"], **{"cpu seconds": cpu})
    if "lazyllm" in middle:
        report.add(what="lazyllm", seconds=middle["lazyllm"])
        report.notes["times as fast as LazyLLM"] = middle["lazyllm"] / middle["portico"]
    shares = stages(folder / "mixed")
    for name, seconds in shares.items():
        report.add(what=f"  {name}", **{"cpu seconds": seconds, "of all": seconds / cpu})
    report.add(what="  else", **{"cpu seconds": cpu - sum(shares.values())})


def texts(report: Report, folder: Path, files: int, rounds: int) -> None:
    """Measure characters of text and Markdown per second."""
    characters = corpus.fill(folder / "texts", files, TEXT_CHARACTERS, ("md", "txt"))
    seconds, processor = [], []
    for number in range(rounds):
        with settled(folder / f"home-texts{number}") as portico:
            before = spent(portico)
            seconds.append(ingest(portico, "texts", folder / "texts"))
            processor.append(spent(portico) - before)
    middle = statistics.median(seconds)
    report.add(
        what=f"{characters:,} characters of text and Markdown",
        seconds=middle,
        **{"cpu seconds": statistics.median(processor), "a second": characters / middle},
    )


def pages(report: Report, folder: Path, count: int, rounds: int, peers: Path | None) -> None:
    """Measure pages of PDF per second on one core, parsed by ingest and by other libraries."""
    sys.path.insert(0, str(HERE.parent))
    from tests.server.features.readers.documents import pdf

    writer, made = corpus.Writer(), folder / "pdf"
    made.mkdir()
    for number in range(-(-count // PDF_PAGES)):
        texts = [writer.text("txt", page % 4 == 1, 2_000).replace("\n", " ") for page in range(PDF_PAGES)]
        lines = [
            "\n".join(text[i : i + LINE_CHARACTERS] for i in range(0, len(text), LINE_CHARACTERS))
            for text in texts
        ]
        (made / f"{number:04}.pdf").write_bytes(pdf(*lines))
    readers = {"portico": (Path(sys.executable), OURS)}
    if peers is not None:
        readers |= {"pypdf": (peers, PYPDF), "PyMuPDF": (peers, PYMUPDF)}
    samples: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, (python, code) in readers.items():
            command = [str(python), "-c", code + READ_ALL, str(made)]
            said = subprocess.run(command, capture_output=True, text=True, timeout=900)
            if not said.stdout.startswith("SECONDS"):
                raise SystemExit(f"{name} did not read the pages: {said.stderr[-2000:]}")
            samples[name].append(float(said.stdout.split()[1]))
    total = len(list(made.iterdir())) * PDF_PAGES
    found = medians(samples)
    for name, seconds in found.items():
        report.add(
            what=f"{total:,} pages of PDF, {name}", **{"cpu seconds": seconds, "a second": total / seconds}
        )


def change(report: Report, folder: Path, files: int) -> None:
    """Measure the seconds from writing one file among many until it is found."""
    many = folder / "many"
    corpus.fill(many, files, 400)
    with settled(folder / "home-change") as portico:
        report.add(what=f"{files:,} small files", seconds=ingest(portico, "many", many))
        times = []
        for number in range(5):
            word = f"zyxwv{number}q"
            begin = time.perf_counter()
            (many / "part000" / "file00001.txt").write_text(f"The password is {word}.", encoding="utf-8")
            while not call(f"{portico.url}/api/stores/many/search", {"query": word})["data"]:
                time.sleep(0.02)  # the search result is the event to wait for
                if time.perf_counter() - begin > QUIET:
                    raise SystemExit("the change was not found")
            times.append(time.perf_counter() - begin)
        report.add(what="one of them changed, until found", seconds=sorted(times)[2])


def huge(report: Report, folder: Path, megabytes: int) -> None:
    """Measure the peak memory of the daemon and its workers together while they ingest one long text."""
    lone = folder / "huge"
    lone.mkdir()
    corpus.huge(lone / "huge.txt", megabytes)
    with settled(folder / "home-huge") as portico, peak(portico) as most:
        seconds = ingest(portico, "huge", lone)
    report.add(what=f"one text of {megabytes} MB", seconds=seconds, MB=most["all"])
    report.add(what="  daemon", MB=most["daemon"])
    report.add(what="  workers", MB=most["workers"])


@contextmanager
def settled(home: Path) -> Iterator[Serving]:
    """Run a daemon that has finished its startup work."""
    with daemon(home) as portico:
        process = psutil.Process(portico.pid)
        until = time.perf_counter() + QUIET
        while time.perf_counter() < until and (process.cpu_percent(1.0) > 5 or process.children()):
            continue
        yield portico


def ingest(portico: Serving, name: str, folder: Path) -> float:
    """Return the seconds from creating a store of a folder until all of it can be found."""
    begin = time.perf_counter()
    call(f"{portico.url}/api/stores", {"name": name, "folder": str(folder), "embedding_model": ""})
    run = call(f"{portico.url}/api/stores/{name}/sync", {})["run"]
    urllib.request.urlopen(
        f"{portico.url}/api/runs/{run}/events", timeout=3600
    ).read()  # the events end with the run
    seconds = time.perf_counter() - begin
    counts = call(f"{portico.url}/api/stores/{name}")["file_counts"]
    if counts["completed"] != counts["total"]:
        raise SystemExit(f"not all was read: {counts}")
    return seconds


def spent(portico: Serving) -> float:
    """Return the processor seconds of the daemon and its children."""
    process = psutil.Process(portico.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def theirs(python: Path, folder: Path) -> float:
    """Measure LazyLLM's index build and first query."""
    command = [str(python), "-c", LAZYLLM, str(folder), "hello 你好"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=900)
    for line in said.stdout.splitlines():
        if line.startswith("SECONDS"):
            return float(line.split()[1])
    raise SystemExit(f"LazyLLM did not answer: {said.stderr[-2000:]}")


def stages(folder: Path) -> dict[str, float]:
    """Return the processor seconds of the separable stages, each measured alone."""
    from portico_server.features.chunkers.document import SourceDocument
    from portico_server.features.readers import analyse
    from portico_server.features.readers.documents import document_format
    from portico_server.features.readers.worker import batches
    from portico_server.features.sources.walk import walk
    from portico_server.features.stores.index import lexical
    from portico_server.features.stores.index.offset import LogOffset

    clock = time.process_time
    begin = clock()
    found = walk(folder, max_bytes=2**40)
    walked = clock()
    texts = [
        part.text
        for seen in found.files.values()
        for source in [SourceDocument(seen.name, Path(seen.at))]
        for parts in batches(source, document_format(source), {"type": "auto"})
        for part in parts
    ]
    read = clock()
    terms = {text: analyse.analyse(text) for text in texts}
    analysed = clock()
    with tempfile.TemporaryDirectory() as temporary:
        index = lexical.LexicalIndex(Path(temporary) / "index")
        lexical.analyse = lambda text: terms.get(text) or analyse.analyse(text)  # type: ignore[attr-defined]
        index.put([(number, "file", text, "", "", number) for number, text in enumerate(texts)])
        index.commit(LogOffset(1, 1))
        index.close()
    return {
        "walk": walked - begin,
        "read and cut": read - walked,
        "analyse": analysed - read,
        "index": clock() - analysed,
    }


@contextmanager
def peak(portico: Serving) -> Iterator[dict[str, float]]:
    """Yield the peak memory during the block, in MB; memory shared by processes is counted once (PSS)."""
    most = {"all": 0.0, "daemon": 0.0, "workers": 0.0}
    over = threading.Event()
    process = psutil.Process(portico.pid)

    def size(each: psutil.Process) -> float:
        try:
            return float(each.memory_full_info().pss) / 2**20
        except psutil.Error:
            return 0.0

    def watch() -> None:
        while not over.wait(0.2):
            own, others = size(process), sum(map(size, process.children(recursive=True)))
            for name, value in (("all", own + others), ("daemon", own), ("workers", others)):
                most[name] = max(most[name], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    main()
