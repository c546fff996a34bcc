"""What people add to a PDF: notes on its pages, and attached files."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from portico_server.features.chunkers.document import NotRead, SourceDocument

MAX_NOTES = 2_000
"""Maximum number of notes and form fields that are read on a page."""

MAX_NOTE_CHARS = 10_000
"""Maximum length of a note in characters."""

MAX_ATTACHMENTS = 100
"""Maximum number of attached files that are read."""

MAX_ATTACHED_BYTES = 64 * 1024 * 1024
"""Maximum size of an attached file, in bytes."""

_HIDDEN_FLAGS = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
_COMMENTED = {
    raw.FPDF_ANNOT_TEXT,
    raw.FPDF_ANNOT_HIGHLIGHT,
    raw.FPDF_ANNOT_UNDERLINE,
    raw.FPDF_ANNOT_SQUIGGLY,
    raw.FPDF_ANNOT_STRIKEOUT,
    raw.FPDF_ANNOT_SQUARE,
    raw.FPDF_ANNOT_CIRCLE,
    raw.FPDF_ANNOT_LINE,
    raw.FPDF_ANNOT_POLYGON,
    raw.FPDF_ANNOT_POLYLINE,
    raw.FPDF_ANNOT_INK,
    raw.FPDF_ANNOT_STAMP,
    raw.FPDF_ANNOT_CARET,
}
"""Kinds of annotations whose text a viewer shows as a comment."""


def page_annotations(page: pdfium.PdfPage) -> Iterator[tuple[int, Any]]:
    """Yield the kind and the handle of each annotation on a page; the handle is closed afterwards."""
    for index in range(min(raw.FPDFPage_GetAnnotCount(page), MAX_NOTES)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if annotation:
            try:
                yield raw.FPDFAnnot_GetSubtype(annotation), annotation
            finally:
                raw.FPDFPage_CloseAnnot(annotation)


def notes(page: pdfium.PdfPage) -> Iterator[str]:
    """Yield the texts that were typed on a page, and the comments on it."""
    for kind, annotation in page_annotations(page):
        is_typed = kind == raw.FPDF_ANNOT_FREETEXT
        if not (is_typed or kind in _COMMENTED) or raw.FPDFAnnot_GetFlags(annotation) & _HIDDEN_FLAGS:
            continue
        text = utf16_text(partial(raw.FPDFAnnot_GetStringValue, annotation, b"Contents"))
        if text:
            yield text if is_typed else f"Comment: {text}"


def attachments(document: pdfium.PdfDocument) -> Iterator[SourceDocument | NotRead]:
    """Yield the files attached to a document."""
    count = raw.FPDFDoc_GetAttachmentCount(document)
    left_out = max(0, count - MAX_ATTACHMENTS)
    for index in range(min(count, MAX_ATTACHMENTS)):
        attachment = raw.FPDFDoc_GetAttachment(document, index)
        name = utf16_text(partial(raw.FPDFAttachment_GetName, attachment))
        name = name.replace("\\", "/").rpartition("/")[2]
        content = _content(attachment)
        if name and content:
            yield SourceDocument(name, content, (name,))
        else:
            left_out += 1
    if left_out:
        yield NotRead(f"{left_out:,} attachment(s)")


def _content(attachment: Any) -> bytes | None:
    size = ctypes.c_ulong()
    if not raw.FPDFAttachment_GetFile(attachment, None, 0, ctypes.byref(size)):
        return None
    if not 0 < size.value <= MAX_ATTACHED_BYTES:
        return None
    buffer = ctypes.create_string_buffer(size.value)
    is_read = raw.FPDFAttachment_GetFile(attachment, buffer, size.value, ctypes.byref(size))
    return buffer.raw if is_read else None


def utf16_text(ask: Callable[[Any, int], int]) -> str:
    """Return a text that ``ask`` writes into a buffer as UTF-16; asked with no buffer, it returns the size in bytes."""
    size = min(ask(None, 0), 2 * MAX_NOTE_CHARS)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    if ask(ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size) > size:
        return ""
    return " ".join(buffer.raw.decode("utf-16-le", "replace").replace("\x00", " ").split())
