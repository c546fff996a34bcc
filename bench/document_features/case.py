"""A document with one feature, and what a person sees and does not see in it."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_LIST = "cases.json"
LIBREOFFICE_TIMEOUT_S = 300.0
RED_SQUARE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP4z8CAB+GTG8HSALfKY52fTcuYAAAAAElFTkSuQmCC"
)
"""A picture of ten pixels, as PNG."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What a document with one feature shows.

    ``shown`` are its words, in the order in which a person meets them. The words of each of ``rows`` stand in one line
    or row of a table, in any order. ``hidden`` are words, and words glued together, that a person does not see.
    """

    name: str
    shown: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A file with a feature. ``writer`` is the program that wrote it."""

    format: str
    writer: str
    feature: Feature
    file: Path

    @property
    def held_out(self) -> bool:
        """Whether the case belongs to the third that is not looked at while readers are changed."""
        return zlib.crc32(f"{self.format} {self.feature.name}".encode()) % 3 == 0


def save(folder: Path, writer: str, feature: Feature, suffix: str, content: bytes | str) -> Case:
    """Write a file and return its case."""
    file = folder / suffix / writer / f"{feature.name.replace(' ', '-').replace('/', '-')}.{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Case(suffix, writer, feature, file)


def store(folder: Path, cases: Sequence[Case]) -> None:
    """Write the list of cases into their folder."""
    listed = [{**asdict(case), "file": str(case.file.relative_to(folder))} for case in cases]
    (folder / _LIST).write_text(json.dumps(listed, ensure_ascii=False, indent=1), encoding="utf-8")


def load(folder: Path) -> list[Case]:
    """Return the cases of a folder."""
    listed = json.loads((folder / _LIST).read_text(encoding="utf-8"))
    return [
        Case(**{**item, "feature": _feature(item["feature"]), "file": folder / item["file"]})
        for item in listed
    ]


def is_written(folder: Path) -> bool:
    """Return whether the folder has its documents and their list."""
    return (folder / _LIST).exists()


def _feature(item: dict[str, Any]) -> Feature:
    rows = tuple(map(tuple, item["rows"]))
    return Feature(item["name"], tuple(item["shown"]), rows, tuple(item["hidden"]))


def convert_with_libreoffice(
    folder: Path, sources: Mapping[Feature, str], source_suffix: str, targets: Sequence[str]
) -> Iterator[Case]:
    """Convert flat OpenDocument files, such as those with the suffix ``fodt``, to each of the formats ``targets``."""
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for number, content in enumerate(sources.values()):
            files.append(Path(scratch) / f"{number}.{source_suffix}")
            files[-1].write_text(content, encoding="utf-8")
        for target in targets:
            subprocess.run(
                [
                    "soffice",
                    f"-env:UserInstallation=file://{scratch}/profile",
                    "--headless",
                    "--convert-to",
                    target,
                    "--outdir",
                    scratch,
                    *map(str, files),
                ],
                check=True,
                capture_output=True,
                timeout=LIBREOFFICE_TIMEOUT_S,
            )
            for feature, file in zip(sources, files, strict=True):
                yield save(
                    folder, "LibreOffice", feature, target, file.with_suffix(f".{target}").read_bytes()
                )
