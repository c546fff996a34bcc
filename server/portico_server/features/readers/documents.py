"""A document and the documents inside it, such as the files of an archive or the attachments of a mail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from portico.wire import Place
from portico_server.features.chunkers.document import NotRead, Part, SourceDocument, Unreadable
from portico_server.features.readers import ocr
from portico_server.features.readers.formats import (
    CONVERSIONS,
    OUTLINE,
    TEXT,
    FileFormat,
    format_of,
    looks_like_text,
    older,
)
from portico_server.features.readers.outline import has_headings
from portico_server.features.readers.section import MAX_TITLE_CHARS

MAX_DOCUMENT_DEPTH = 3
"""Maximum nesting depth of documents. A file in a zip archive that is attached to a mail has depth two."""


MAX_HEADINGS = 32
"""Maximum number of headings above a part."""

MAX_NAMED_DOCUMENTS = 100
"""Maximum number of unreadable inner documents that are listed."""


def documents(source: SourceDocument, form: FileFormat) -> Iterator[tuple[FileFormat, Part]]:
    """Yield the parts of a document and of the documents inside it, each with its format. Raises `Unreadable`.

    ``form`` is the `document_format` of the outer document. Offsets continue from one document to the next, as if all
    were one text. An inner document that is damaged does not affect the others, but is listed in a last part. Inner
    documents of unsupported formats are left out.
    """
    walk = _DocumentWalk()
    yield from walk.read(source, form, 0)
    unread = [*walk.unread[:MAX_NAMED_DOCUMENTS], *filter(None, [ocr.left_out()])]
    if unread:
        text = "Not read:\n" + "\n".join(unread)
        yield TEXT, Part(text, Place(start=walk.end, end=walk.end + len(text)))


class _DocumentWalk:
    """A walk through nested documents: the position reached in the text, and the documents that could not be read."""

    def __init__(self) -> None:
        self.end = 0
        self.unread: list[str] = []

    def read(self, source: SourceDocument, form: FileFormat, depth: int) -> Iterator[tuple[FileFormat, Part]]:
        shift = self.end
        unreadable_count = 0
        for part in form.reader()(source):
            if isinstance(part, Part):
                unreadable_count += part.text.count("\ufffd")
                place = part.place
                start, end = place.start + shift, place.end + shift
                self.end = max(self.end, end + 1)
                # Each part repeats its headings, which may be as long as the document.
                titles = (*source.heading, *place.heading)[:MAX_HEADINGS]
                heading = tuple(title[:MAX_TITLE_CHARS] for title in titles)
                yield form, Part(part.text, replace(place, heading=heading, start=start, end=end))
                continue
            if isinstance(part, NotRead):
                self.unread.append(f"{_title(source)}: {part.what}")
                continue
            begin = self.end
            yield from self._inner(replace(part, heading=(*source.heading, *part.heading)), depth + 1)
            shift += self.end - begin
        if unreadable_count:
            self.unread.append(f"{_title(source)}: {unreadable_count:,} character(s), shown as \ufffd")

    def _inner(self, source: SourceDocument, depth: int) -> Iterator[tuple[FileFormat, Part]]:
        name = _title(source)
        if depth > MAX_DOCUMENT_DEPTH:
            self.unread.append(
                f"{name} is nested more than {MAX_DOCUMENT_DEPTH} levels deep. Unpack it first."
            )
            return
        try:
            yield from self.read(source, document_format(source), depth)
        except Unreadable as error:
            if error.code != "unsupported_file":
                self.unread.append(f"{name} {error.message}")
        except MemoryError:
            self.unread.append(f"{name} needs more memory than the setting parse_memory_mb allows.")


def _title(source: SourceDocument) -> str:
    return " › ".join(source.heading) or source.name


def document_format(source: SourceDocument) -> FileFormat:
    """Return the format of a document, determined by its name, otherwise by its first bytes. Raises `Unreadable`."""
    form = format_of(source.name)
    if form is not None and form.name == "recording":
        # If a model has transcribed the recording, the daemon passes the transcript as subtitles instead.
        raise Unreadable(
            "is a recording, but no model is configured to transcribe it. Deploy a transcription model, and "
            "name it in the setting recording_model.",
            "unsupported_file",
        )
    if form is None:
        with source.open() as file:
            head = file.read(8192)
        if head.startswith(b"%PDF-"):
            form = format_of("x.pdf")
        elif kind := older(head):
            raise Unreadable(f"is {kind}. {CONVERSIONS[kind]}", "unsupported_file")
        elif head and not looks_like_text(head):
            raise Unreadable(
                "has an unsupported format. Supported are text, Markdown, HTML, PDF, Office documents, "
                "OpenDocument, spreadsheets, notebooks, mail, EPUB, subtitles, source code and archives of "
                "these.",
                "unsupported_file",
            )
    form = form or TEXT
    return OUTLINE if form is TEXT and has_headings(source) else form


def place(part: Part) -> dict[str, Any]:
    """Return the position of a part as JSON, without the fields that its format does not use."""
    return {name: value for name, value in asdict(part.place).items() if value not in (None, ())}
