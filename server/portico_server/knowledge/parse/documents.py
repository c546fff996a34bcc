"""A document and those inside it: archives hold files, mails have attachments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from portico.wire import Place
from portico_server.knowledge.document import Part, SourceDocument, Unreadable
from portico_server.knowledge.parse.formats import TEXT, Format, format_of, looks_like_text, older

DEPTH = 3
"""How deep documents may lie in documents: a file in a zip that is attached to a mail is two deep."""

NAMED = 100
"""Documents that could not be read are named up to this number."""


def documents(source: SourceDocument) -> Iterator[tuple[Format, Part]]:
    """The parts of a document and of those inside it, each with the format it was read by. Raises `Unreadable`.

    Offsets run on from one document to the next, so that all of them stand in one text. A document inside that is
    damaged costs the others nothing: it is named in a last part. Kinds that are not read here are left out.
    """
    walk = _Walk()
    yield from walk.read(source, 0)
    if walk.unread:
        text = "Not read:\n" + "\n".join(walk.unread[:NAMED])
        yield TEXT, Part(text, Place(start=walk.end, end=walk.end + len(text)))


class _Walk:
    """How far the text reaches, and what could not be read."""

    def __init__(self) -> None:
        self.end = 0
        self.unread: list[str] = []

    def read(self, source: SourceDocument, depth: int) -> Iterator[tuple[Format, Part]]:
        form = form_of(source)
        shift = self.end
        for found in form.reader()(source):
            if isinstance(found, Part):
                place = found.place
                start, end = place.start + shift, place.end + shift
                self.end = max(self.end, end + 1)
                heading = (*source.heading, *place.heading)
                yield form, Part(found.text, replace(place, heading=heading, start=start, end=end))
                continue
            begin = self.end
            yield from self._inner(replace(found, heading=(*source.heading, *found.heading)), depth + 1)
            shift += self.end - begin

    def _inner(self, source: SourceDocument, depth: int) -> Iterator[tuple[Format, Part]]:
        name = " › ".join(source.heading) or source.name
        if depth > DEPTH:
            self.unread.append(f"{name} lies in documents more than {DEPTH} deep. Unpack it first.")
            return
        try:
            yield from self.read(source, depth)
        except Unreadable as error:
            if error.code != "unsupported_file":
                self.unread.append(f"{name} {error.message}")


def form_of(source: SourceDocument) -> Format:
    """The format of a document by its name, else by its first bytes. Raises `Unreadable`."""
    form = format_of(source.name)
    if form is None:
        with source.open() as file:
            head = file.read(8192)
        if head.startswith(b"%PDF-"):
            form = format_of("x.pdf")
        elif kind := older(head):
            raise Unreadable(f"is {kind}. Save it as .docx or .pptx and add that.", "unsupported_file")
        elif head and not looks_like_text(head):
            raise Unreadable(
                "is of a kind that is not read here. Text, Markdown, HTML, PDF, Office documents, OpenDocument, "
                "spreadsheets, notebooks, mail, EPUB, subtitles, source code and archives of these are.",
                "unsupported_file",
            )
    return form or TEXT
