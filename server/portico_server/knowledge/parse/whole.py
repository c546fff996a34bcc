"""Text whose structure shows only as a whole: source code and data."""

from __future__ import annotations

from collections.abc import Iterator

from portico.wire import Place
from portico_server.knowledge.document import Part, SourceDocument
from portico_server.knowledge.parse import text

MAX_WHOLE_BYTES = 8 * 1024 * 1024
"""Bytes up to which a file is one part; a larger one comes in segments, as any text does."""


def read(source: SourceDocument) -> Iterator[Part]:
    """The file as it stands, in one part."""
    if source.size > MAX_WHOLE_BYTES:
        yield from text.read(source)
        return
    with text.open_text(source) as file:
        full_text = file.read().replace("\x00", "\ufffd")
    yield Part(full_text, Place(line=1, start=0, end=len(full_text)))
