"""Pictures, read by text recognition: tesseract, where it is installed, is given one and answers with its text. Models
that see are asked in the daemon, before it comes to this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from portico_server.knowledge.document import Part, PartWriter, SourceDocument, Unreadable

LANGUAGES_VARIABLE = "PORTICO_OCR_LANGUAGES"
"""The environment variable of a worker that names the languages, such as ``chi_sim+eng``; empty: nothing is read."""

RECOGNISE_TIMEOUT_S = 60.0
"""Longest that one picture may take."""

INSTALL_HINT = "Install tesseract for that (Debian: apt-get install tesseract-ocr tesseract-ocr-chi-sim)"

_EAST = r"[\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
_SPACED = re.compile(rf"(?<={_EAST})[ \t]+(?={_EAST})")

MAX_PICTURES = 1_000
"""Pictures of one document, at most."""


@dataclass(slots=True)
class _OcrJob:
    """The document that is read now."""

    left: int = MAX_PICTURES
    heard: Callable[[], None] | None = None


_turn = _OcrJob()


def begin(heard: Callable[[], None]) -> None:
    """A document begins. ``heard`` is called after each of its pictures: whoever waits then knows that it continues."""
    _turn.left, _turn.heard = MAX_PICTURES, heard


@cache
def languages() -> str:
    """The languages that are wanted and installed; empty if there are none, or no tesseract."""
    program = shutil.which("tesseract")
    wanted = [name for name in os.environ.get(LANGUAGES_VARIABLE, "").split("+") if name]
    if program is None or not wanted:
        return ""
    try:
        answer = subprocess.run(
            [program, "--list-langs"],
            capture_output=True,
            timeout=RECOGNISE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    installed = set(answer.stdout.decode(errors="replace").split())
    return "+".join(name for name in wanted if name in installed)


def recognise(picture: bytes) -> str:
    """The text of a picture (PNG, JPEG, TIFF, BMP, WebP, PNM); empty if there is none, or it cannot be read.

    Only where `languages` are installed. What is behind the first `MAX_PICTURES` of a document is not read.
    """
    if _turn.left == 0:
        return ""
    _turn.left -= 1
    command = ["tesseract", "stdin", "stdout", "-l", languages()]
    try:
        answer = subprocess.run(
            command,
            input=picture,
            capture_output=True,
            timeout=RECOGNISE_TIMEOUT_S,
            check=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    finally:
        if _turn.heard is not None:
            _turn.heard()
    return tidy(answer.stdout.decode(errors="replace"))


def tidy(text: str) -> str:
    """Recognised text without the spaces between Chinese characters, and without empty lines in a row."""
    text = _SPACED.sub("", text.replace("\f", ""))
    return re.sub(r"\n\s*\n+", "\n\n", text).strip()


_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")


def read(source: SourceDocument) -> Iterator[Part]:
    """One part. `Unreadable` without tesseract, for what is not a picture, and for one without text."""
    data = source.read()
    if not data.startswith(_BEGINNINGS):
        raise Unreadable("is not a picture, though its name says so, or it was cut short.")
    if not languages():
        raise Unreadable(
            "is a picture, and there is neither a model that sees nor text recognition here. "
            f"{INSTALL_HINT}, or deploy a chat model with the capability vision.",
            "unsupported_file",
        )
    text = recognise(data)
    if not text:
        raise Unreadable(
            "is a picture in which no text is recognised. Deploy a chat model with the capability vision to have it "
            "described.",
            "unsupported_file",
        )
    yield PartWriter().part(text)
