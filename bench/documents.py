"""Documents with one feature each, written by other programs: whether readers show what a person sees in them.

python bench/documents.py --python PYTHON [--held-out | --all] [--readers NAME…] [--keep FOLDER] [--misses]

PYTHON has the packages of ``document_features/requirements.txt``, which write the documents and are the other readers.
LibreOffice, pandoc and Chromium must be installed. A case is right if the words are there in their order, the rows of
tables are whole, and nothing is there that a person does not see. Two thirds of the cases are read by default, the last
third with ``--held-out``. Each reader is measured on the formats that it reads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from document_features.case import Case, is_written, load
from document_features.seen import lost
from harness import HERE, Report

from portico_server.features.chunkers.document import Part, SourceDocument, Unreadable
from portico_server.features.readers.documents import document_format, documents

PEERS = ("markitdown", "pandoc", "mammoth", "docx2python", "kreuzberg", "docling")
OURS = "portico"
TIMEOUT_S = 1_800.0


def main() -> None:
    """Print the share of right cases by format and reader."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--python", required=True, help="interpreter with document_features/requirements.txt")
    parser.add_argument(
        "--readers", nargs="*", default=PEERS, choices=PEERS, metavar="NAME", help="other readers"
    )
    parser.add_argument("--held-out", action="store_true", help="the third that is not looked at")
    parser.add_argument("--all", action="store_true", help="all cases")
    parser.add_argument(
        "--misses", action="store_true", help="what is wrong in each case that Portico misses"
    )
    parser.add_argument("--keep", type=Path, help="folder of the documents, written unless they are there")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        write(arguments.python, folder)
        cases = [case for case in load(folder) if arguments.all or case.held_out == arguments.held_out]
        texts: dict[str, Mapping[Path, str]] = {OURS: {case.file: read(case.file) for case in cases}}
        for reader in arguments.readers:
            texts[reader] = read_with(arguments.python, reader, cases)
        if arguments.misses:
            print_misses(cases, texts[OURS])
        shares(cases, texts).show(arguments.json)


def write(python: str, folder: Path) -> None:
    """Write the documents and the list of their cases, unless the folder has them."""
    if not is_written(folder):
        command = [python, "-P", "-m", "document_features.write", str(folder)]
        subprocess.run(
            command, check=True, timeout=TIMEOUT_S, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}
        )


def read(file: Path) -> str:
    """Return the text that Portico reads, with the headings and the names of sheets above it."""
    pieces: list[str] = []
    above: Sequence[str] = ()
    source = SourceDocument(file.name, file)
    try:
        for _, part in documents(source, document_format(source)):
            titles = _titles(part)
            pieces += (title for title in titles if title not in above)
            pieces.append(part.text)
            above = titles
    except Unreadable as error:
        pieces.append(error.message)
    return "\n".join(pieces)


def _titles(part: Part) -> list[str]:
    return [*part.place.heading, *([part.place.sheet] if part.place.sheet else [])]


def read_with(python: str, reader: str, cases: Iterable[Case]) -> Mapping[Path, str]:
    """Return the texts that another reader reads of the files whose format it knows."""
    files = [str(case.file) for case in cases]
    done = subprocess.run(
        [python, "-P", "-m", "document_features.peers", reader],
        input=json.dumps(files),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT_S,
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    if done.returncode:
        print(f"{reader} is not measured: it ended with {done.returncode}.", file=sys.stderr)
        return {}
    return {Path(name): text for name, text in json.loads(done.stdout.splitlines()[-1]).items()}


def print_misses(cases: Iterable[Case], texts: Mapping[Path, str]) -> None:
    """Print what is wrong in each case that is not right."""
    for case in cases:
        wrong = list(lost(texts[case.file], case.feature))
        if wrong:
            print(f"{case.format}, {case.writer}, {case.feature.name}: {'; '.join(wrong)}")


def shares(cases: Sequence[Case], texts: Mapping[str, Mapping[Path, str]]) -> Report:
    """Return the share of right cases of each reader by format."""
    counts = Counter(case.format for case in cases)
    right: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for reader, read_texts in texts.items():
        for case in cases:
            if case.file in read_texts:
                right[reader][case.format] += not any(lost(read_texts[case.file], case.feature))
    report = Report("documents of other programs, share of right cases", ("format", "cases", *texts))
    for name, count in sorted(counts.items()):
        read_by = (reader for reader in texts if name in right[reader])
        report.add(
            format=name, cases=count, **{reader: round(right[reader][name] / count, 3) for reader in read_by}
        )
    report.add(format="all", cases=len(cases), **{OURS: round(right[OURS].total() / len(cases), 3)})
    return report


if __name__ == "__main__":
    main()
