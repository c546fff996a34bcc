"""Text whose structure is visible only in the whole file, such as source code and data."""

from __future__ import annotations

from collections.abc import Iterator

from portico.wire import Place
from portico_server.features.chunkers.document import Part, SourceDocument
from portico_server.features.readers import text

MAX_WHOLE_BYTES = 8 * 1024 * 1024
"""Maximum size, in bytes, of a file that becomes one part. Larger files are split into segments like plain text."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield the whole file as one part, unchanged."""
    if source.size > MAX_WHOLE_BYTES:
        yield from text.read(source)
        return
    with text.open_text(source) as file:
        full_text = file.read().replace("\x00", "\ufffd")
    yield Part(full_text, Place(line=1, start=0, end=len(full_text)))
