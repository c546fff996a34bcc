"""Pictures: the text that is recognised in them. Models that see are asked in the daemon, before it comes to this."""

from __future__ import annotations

from collections.abc import Iterator

from portico_server.knowledge.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.knowledge.parse import ocr

_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")


def read(source: SourceDocument) -> Iterator[Part]:
    """One part. `Unreadable` without tesseract, for what is not a picture, and for one without text."""
    data = source.read()
    if not data.startswith(_BEGINNINGS):
        raise Unreadable("is not a picture, though its name says so, or it was cut short.")
    if not ocr.languages():
        raise Unreadable(
            "is a picture, and there is neither a model that sees nor text recognition here. "
            f"{ocr.INSTALL_HINT}, or deploy a chat model with the capability vision.",
            "unsupported_file",
        )
    text = ocr.recognise(data)
    if not text:
        raise Unreadable(
            "is a picture in which no text is recognised. Deploy a chat model with the capability vision to have it "
            "described.",
            "unsupported_file",
        )
    yield PartWriter().part(text)
