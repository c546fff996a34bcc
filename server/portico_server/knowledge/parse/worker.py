"""A process that reads documents: one job per line on stdin, its parts as lines on stdout.

A job is ``{"path", "name", "chunking", "memory", "seconds", "recognition", "terms"}``; the answer is any number of
``{"parts": [[text, place], …]}``, the last one with ``"done": true``, or ``{"error": code, "message": …}`` behind
them. With ``chunking`` the parts are chunks; with ``terms`` there are also ``"terms": [[words, bigrams], …]``, those of
each part for the index.
A job with ``"page"`` and ``"passage"``, without these two, is answered with ``{"picture": base64, "done": true}``.
A line ``{"going": true}`` says that a picture has been read: the time limit of the document starts again. All of its
pictures take at most ``recognition`` seconds.
What a document does to this process, it does to no other: memory and processor time are limited, nothing can be
written to disk, and a process that dies is replaced. It ends by itself when it has been idle, or its parent has gone.
"""

from __future__ import annotations

import base64
import os
import resource
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from portico_server.knowledge.chunk.chunkers import chunk_parts
from portico_server.knowledge.document import Part, SourceDocument, Unreadable
from portico_server.knowledge.parse import ocr
from portico_server.knowledge.parse.documents import document_format, documents, place
from portico_server.knowledge.parse.formats import (
    TEXT,
)

IDLE_EXIT_S = 60.0
"""Seconds without a job after which the process ends."""

BATCH_CHARS = 128 * 1024
"""Characters that are chunked together and sent in one line, about."""

MAX_ANALYSED_CHARS = 2_000_000
"""Characters of a document whose terms are worked out here, about: the time for reading it must do for that, too."""

MAX_TEXT_CHARS = 64_000_000
"""Characters that any file may give; a file larger than half of that may give twice its size."""


def main() -> None:
    """Take jobs until there are none for `IDLE_EXIT_S` seconds, or ever."""
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # What libraries print must not come between our lines.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = os.fdopen(os.dup(0), "rb", buffering=0)
    remainder = b""
    while True:
        while b"\n" not in remainder:
            ready, _, _ = select.select([jobs], [], [], IDLE_EXIT_S)
            data = jobs.read(65_536) if ready else b""
            if not data:
                return
            remainder += data
        line, _, remainder = remainder.partition(b"\n")
        work(orjson.loads(line), out)


def work(job: dict[str, Any], out: BinaryIO) -> None:
    """Do one job, and say how it ended."""
    limit_process(job["memory"], job["seconds"])

    def heard() -> None:
        limit_process(job["memory"], job["seconds"])  # its time starts again
        send(out, {"going": True})

    ocr.begin(heard, job["recognition"])
    try:
        source = SourceDocument(job["name"], Path(job["path"]))
        if "page" in job:
            send(out, {"picture": picture(source, job["page"], job["passage"]), "done": True})
            return
        pending_batch: dict[str, Any] | None = None
        analysed_chars = 0
        for parts in batches(source, job["chunking"]):
            if pending_batch is not None:
                send(out, pending_batch)
            pending_batch = {"parts": [[part.text, place(part)] for part in parts]}
            if job["terms"] and analysed_chars < MAX_ANALYSED_CHARS:
                pending_batch["terms"] = terms(parts)
                analysed_chars += sum(len(part.text) for part in parts)
        send(out, {**(pending_batch or {}), "done": True})
    except Unreadable as error:
        send(out, {"error": error.code, "message": error.message})
    except (MemoryError, RecursionError):
        send(
            out,
            {
                "error": "invalid_file",
                "message": f"needs more than {job['memory'] // 2**20} MB of memory to read. Split it, or raise the "
                "setting parse_memory_mb.",
            },
        )
    except OSError as error:
        send(out, {"error": "server_error", "message": f"could not be opened: {error.strerror or error}."})
    except Exception as error:  # noqa: BLE001  # the libraries that parse raise what they like
        kind = type(error).__name__
        send(out, {"error": "invalid_file", "message": f"could not be read: {kind}: {str(error)[:200]}."})


def picture(source: SourceDocument, page: int, passage: str) -> str:
    """A page of a document, in base64."""
    draw = document_format(source).drawer()
    if draw is None:
        raise Unreadable("has no pages that can be drawn; a PDF has.", "no_pages")
    return base64.b64encode(draw(source, page, passage)).decode()


def limit_process(memory: int, seconds: float) -> None:
    """Bound what the next job may take. The processor time is a second line: the parent watches the clock."""
    used_seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_seconds + seconds) + 5, resource.RLIM_INFINITY))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))


def batches(source: SourceDocument, chunking: dict[str, Any] | None) -> Iterator[list[Part]]:
    """Parts, or chunks of them, in runs of about `BATCH_CHARS` characters that have one format."""
    allowed_chars = max(MAX_TEXT_CHARS, 2 * source.size)
    parts: list[Part] = []
    kind = TEXT
    length = total = 0
    has_text = False

    def finished() -> list[Part]:
        return parts if chunking is None else chunk_parts(parts, chunking, kind.chunker)

    for form, part in documents(source):
        has_text = has_text or bool(part.text.strip())
        total += len(part.text)
        if total > allowed_chars:
            raise Unreadable(f"unpacks to more than {allowed_chars:,} characters of text. Split it.")
        if parts and (length >= BATCH_CHARS or form is not kind):
            yield finished()
            parts, length = [], 0
        kind = form
        parts.append(part)
        length += len(part.text)
    if not has_text:
        raise Unreadable("is empty: there is nothing in it to index.")
    yield finished()


def terms(parts: list[Part]) -> list[tuple[str, str]]:
    """Words and bigrams of each part."""
    from portico_server.knowledge.analyse import (
        analyse,
    )  # its dictionaries take a while, and not every job needs them

    return [analyse(part.text).joined() for part in parts]


def send(out: BinaryIO, message: dict[str, Any]) -> None:
    """One line, at once."""
    out.write(orjson.dumps(message) + b"\n")
    out.flush()


if __name__ == "__main__":
    main()
