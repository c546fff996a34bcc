"""Pictures, read by text recognition: tesseract, where it is installed, is given one and answers with its text. Models
that see are asked in the daemon, before it comes to this.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
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
    allowed_s: float = math.inf
    seconds: float = math.inf
    """What is left of those."""
    left_out: int = 0
    first: str = ""
    """Which picture was the first to be left out, where that is known."""


_turn = _OcrJob()


def begin(heard: Callable[[], None], seconds: float = math.inf) -> None:
    """A document begins, whose pictures may take so many ``seconds`` in all. ``heard`` is called after each of them:
    whoever waits then knows that it continues.
    """
    global _turn
    _turn = _OcrJob(MAX_PICTURES, heard, seconds, seconds)


def passes_over(what: str = "") -> bool:
    """Whether a picture, such as ``page 7``, is left out, since those before have taken all that a document may take.

    It is counted then, and need not be drawn.
    """
    if _turn.left and _turn.seconds > 0:
        return False
    _turn.left_out += 1
    _turn.first = _turn.first or what
    return True


def left_out() -> str:
    """How many pictures of the document were left out, and why; empty if none was."""
    if not _turn.left_out:
        return ""
    where = f", from {_turn.first} on" if _turn.first else ""
    why = (
        f"text recognition has taken the {_turn.allowed_s:,g} s that one document may take in all. Split it, or raise "
        "the setting ocr_timeout."
        if _turn.left
        else f"only the first {MAX_PICTURES:,} of a document are recognised. Split it."
    )
    return f"{_turn.left_out:,} scanned page(s) or picture(s){where}: {why}"


@cache
def languages() -> str:
    """The languages that are wanted and installed; empty if there are none, or no tesseract."""
    wanted = [name for name in os.environ.get(LANGUAGES_VARIABLE, "").split("+") if name]
    return "+".join(name for name in wanted if name in _installed()) if wanted else ""


@cache
def _installed() -> frozenset[str]:
    """What tesseract has data for: languages, and ``osd`` for which way up a page lies."""
    program = shutil.which("tesseract")
    if program is None:
        return frozenset()
    try:
        answer = subprocess.run(
            [program, "--list-langs"],
            capture_output=True,
            timeout=RECOGNISE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(answer.stdout.decode(errors="replace").split())


def recognise(picture: bytes) -> str:
    """The text of a picture (PNG, JPEG, TIFF, BMP, WebP, PNM); empty if there is none, or it cannot be read.

    Only where `languages` are installed. What is behind the first `MAX_PICTURES` of a document is not read, nor what
    comes when the seconds of the document are used up.
    """
    if passes_over():
        return ""
    _turn.left -= 1
    began = time.monotonic()
    # Which way up a page lies is found out first, where the data for that is installed.
    layout = ("--psm", "1") if "osd" in _installed() else ()
    command = ["tesseract", "stdin", "stdout", "-l", languages(), *layout]
    try:
        answer = subprocess.run(
            command,
            input=picture,
            capture_output=True,
            timeout=min(RECOGNISE_TIMEOUT_S, _turn.seconds),
            check=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    finally:
        _turn.seconds -= time.monotonic() - began
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
