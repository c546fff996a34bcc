"""A process that reads documents. Each job is a line on stdin; the answers are lines on stdout.

A job is ``{"path", "name", "chunking", "memory", "seconds", "recognition", "terms"}``. The answer is any number of
lines ``{"parts": [[text, place], …]}``. The last of them contains ``"done": true``, or is followed by ``{"error":
code, "message": …}``. With ``chunking``, the parts are chunks. With ``terms``, each line also contains ``"terms":
[[words, bigrams], …]``, the index terms of each part. A job with ``"page"`` and ``"passage"`` instead of ``chunking``
and ``terms`` is answered with ``{"picture": base64, "done": true}``. A job with ``"tables"``, a question or a query, is
answered with ``{"tables": …, "done": true}``: see `portico_server.features.readers.tables`.

A line ``{"going": true}`` reports that an image has been read, which restarts the time limit of the document. OCR of
all images in a document may take at most ``recognition`` seconds. A document can harm only the process that reads it:
memory and processor time are limited, the process cannot write to disk, and a process that crashes is replaced. The
process exits when it is idle or its parent has exited.
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

from portico_server.features.chunkers.chunkers import chunk_parts
from portico_server.features.chunkers.document import Part, SourceDocument, Unreadable
from portico_server.features.readers import ocr
from portico_server.features.readers.documents import document_format, documents, place
from portico_server.features.readers.formats import TEXT, FileFormat

IDLE_EXIT_S = 60.0
"""Seconds without a job after which the process exits."""

BATCH_CHARS = 128 * 1024
"""Approximate number of characters that are chunked together and sent in one line."""

MAX_ANALYSED_CHARS = 2_000_000
"""Approximate maximum length, in characters, of a document whose index terms the worker computes. The time limit for
reading includes this work.
"""

MAX_TEXT_CHARS = 64_000_000
"""Maximum number of characters extracted from a file. For a file larger than half of that, twice its size is
allowed.
"""


def main() -> None:
    """Process jobs until none arrives for `IDLE_EXIT_S` seconds, or the input ends."""
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Text that libraries print must not mix with the answer lines.
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
    """Run one job, and send how it ended."""
    limit_process(job["memory"], job["seconds"])

    def on_request() -> None:
        limit_process(job["memory"], job["seconds"])  # restarts its time limit
        send(out, {"going": True})

    ocr.begin(on_request, job["recognition"])
    try:
        source = SourceDocument(job["name"], Path(job["path"]))
        form = document_format(source)
        if "page" in job:
            send(out, {"picture": picture(source, form, job["page"], job["passage"]), "done": True})
            return
        if "tables" in job:
            send(out, {"tables": tables(source, form, job["tables"]), "done": True})
            return
        pending_batch: dict[str, Any] | None = None
        analysed_chars = 0
        for parts in batches(source, form, job["chunking"]):
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


def picture(source: SourceDocument, form: FileFormat, page: int, passage: str) -> str:
    """Return a rendered page of a document, as base64."""
    draw = form.drawer()
    if draw is None:
        raise Unreadable("has no pages that can be rendered; only PDFs can be rendered.", "no_pages")
    return base64.b64encode(draw(source, page, passage)).decode()


def tables(source: SourceDocument, form: FileFormat, about: dict[str, Any]) -> Any:
    """Return the tables of a document that fit a question, or the result of a query."""
    from portico_server.features.readers.tables import (  # with the readers of both formats, which not every job needs
        compute,
        find_tables,
    )

    if "query" in about:
        return compute(source, form, about["query"])
    return find_tables(source, form, about["question"])


def limit_process(memory: int, seconds: float) -> None:
    """Limit the resources of the next job. The limit of processor time is a second safeguard, because the parent also
    measures the elapsed time.
    """
    used_seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_seconds + seconds) + 5, resource.RLIM_INFINITY))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.RLIM_INFINITY))


def batches(
    source: SourceDocument, form: FileFormat, chunking: dict[str, Any] | None
) -> Iterator[list[Part]]:
    """Yield parts, or their chunks, in batches of about `BATCH_CHARS` characters. All parts of a batch have the same
    format.
    """
    allowed_chars = max(MAX_TEXT_CHARS, 2 * source.size)
    parts: list[Part] = []
    kind = TEXT
    length = total = 0
    has_text = False

    def finish() -> list[Part]:
        return parts if chunking is None else chunk_parts(parts, chunking, kind.chunker)

    for part_form, part in documents(source, form):
        has_text = has_text or bool(part.text.strip())
        total += len(part.text)
        if total > allowed_chars:
            raise Unreadable(f"unpacks to more than {allowed_chars:,} characters of text. Split it.")
        if parts and (length >= BATCH_CHARS or part_form is not kind):
            yield finish()
            parts, length = [], 0
        kind = part_form
        parts.append(part)
        length += len(part.text)
    if not has_text:
        raise Unreadable("is empty: it contains nothing to index.")
    yield finish()


def terms(parts: list[Part]) -> list[tuple[str, str]]:
    """Return the words and the bigrams of each part, each joined with spaces."""
    from portico_server.features.readers.analyse import (
        analyse,  # the analyser's dictionaries load slowly, and not every job needs them
    )

    return [analyse(part.text).joined() for part in parts]


def send(out: BinaryIO, message: dict[str, Any]) -> None:
    """Write a message as one line, and flush the output."""
    out.write(orjson.dumps(message) + b"\n")
    out.flush()


if __name__ == "__main__":
    main()
