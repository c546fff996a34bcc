"""The tags of a drawing as text that ezdxf can read, for binary DXF, undeclared encodings and broken lines.

Binary DXF is described in the DXF reference of Autodesk: a sentinel, then group codes of one byte (until release 12) or
two bytes, each followed by its value.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterator
from typing import Final

from portico_server.core.words import decode_text
from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.text import encoding_of

_BINARY_BEGIN: Final = b"AutoCAD Binary DXF\r\n\x1a\x00"
_UTF8_SINCE: Final = b"AC1021"
"""The version from which text is UTF-8: AutoCAD 2007."""

_HEADER_BYTES: Final = 64 * 1024
"""Number of bytes at the beginning of a file in which the version and the code page are looked up."""

_PAIRS: Final = re.compile(rb"(?:[ \t]{0,20}+-?[0-9]{1,4}[ \t]{0,20}+\r?\n[^\n]*+(?:\n|\Z))*+")
"""The lines of group codes, each with the line of its value, as far as they alternate."""

_END: Final = b"EOF"

_VERSION: Final = re.compile(rb"\$ACADVER\s+1\s+(AC[0-9]{4})")
_CODE_PAGE: Final = re.compile(rb"\$DWGCODEPAGE\s+3\s+([\w-]{1,40})")
_CODE_PAGES: Final = {"1361": "johab", "ksc5601": "cp949", "8859_1": "cp1252"}
"""Charsets of the code pages whose names Python does not know. The names are lower-case, without ``ansi_``."""


def drawing_text(source: SourceDocument) -> bytes:
    """Return a drawing as text DXF. Before AutoCAD 2007, characters beyond ASCII become ``\\U+XXXX``."""
    content = source.read()
    if content.startswith(_BINARY_BEGIN):
        content = b"".join(_text_lines(content))
    pairs = _PAIRS.match(content)
    if pairs is None or not pairs[0].rstrip().endswith(_END):
        content = repaired(content)
    head = content[:_HEADER_BYTES]
    version = _VERSION.search(head)
    if content.isascii() or (version is not None and version[1] >= _UTF8_SINCE):
        return content
    charset = _charset(head, SourceDocument(source.name, content))
    return _BEYOND_ASCII.sub(_escape, decode_text(content, charset)).encode("ascii")


_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def _escape(match: re.Match[str]) -> str:
    """Return the code of a character, which has four digits."""
    return f"\\U+{min(ord(match[0]), 0xFFFD):04X}"


def _charset(head: bytes, source: SourceDocument) -> str:
    """Return the charset of a drawing from before 2007, in which many programs write UTF-8 whatever they declare."""
    code_page = _CODE_PAGE.search(head)
    page = code_page[1].decode("ascii", "replace").lower().removeprefix("ansi_") if code_page else ""
    page = _CODE_PAGES.get(page, page.replace("dos", "cp") if page.startswith("dos") else page)
    page = f"cp{page}" if re.fullmatch("[0-9]+", page) else page
    try:
        codecs.lookup(page)
    except LookupError:
        page = ""
    try:
        detected = encoding_of(source)
    except Unreadable:
        return page or "cp1252"
    return page if page and detected != "utf-8" else detected


def _text_lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines of binary DXF as far as the file goes."""
    from ezdxf.lldxf.types import BINARY_DATA, BYTES, DOUBLE, INT16, INT32, INT64

    letters = ((DOUBLE, "<d"), (INT16, "<h"), (INT32, "<i"), (INT64, "<q"), (BYTES, "<B"))
    layouts = {code: struct.Struct(letter) for codes, letter in letters for code in codes}
    position = len(_BINARY_BEGIN)
    # The first tag is the start of a section. Its group code is one byte or two, and the name follows.
    has_short_codes = content[position + 1 : position + 8] == b"SECTION"
    try:
        while position < len(content):
            code = content[position]
            position += 1
            if not has_short_codes:
                code |= content[position] << 8
                position += 1
            elif code == 255:
                code = content[position] | content[position + 1] << 8
                position += 2
            if code in BINARY_DATA:
                end = position + 1 + content[position]
                value = content[position + 1 : end].hex().encode()
            elif layout := layouts.get(code):
                end = position + layout.size
                value = repr(layout.unpack_from(content, position)[0]).encode()
            else:
                end = content.index(b"\0", position) + 1
                value = content[position : end - 1].replace(b"\r", b" ").replace(b"\n", b" ")
            position = end
            yield b"%d\n%s\n" % (code, value)
    except (IndexError, ValueError, struct.error):
        return


_GROUP_CODE: Final = re.compile(rb"[ \t]{0,20}-?[0-9]{1,4}[ \t]{0,20}")
_LAYER_CODE: Final = b"8"
_NO_LAYER_CHARACTER: Final = re.compile(rb"[<>/\"':;?*=`]|\\(?!U\+)")


def repaired(content: bytes) -> bytes:
    """Return text DXF that ezdxf can read although texts contain line breaks and names of layers invalid characters.

    A line that should be a group code but is none continues the text before it.
    """
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    pieces: list[bytes] = []
    position = 0
    while position < len(lines):
        if _GROUP_CODE.fullmatch(lines[position]):
            code = lines[position].strip()
            value = lines[position + 1] if position + 1 < len(lines) else b""
            pieces += (
                code,
                b"\n",
                _NO_LAYER_CHARACTER.sub(b"_", value) if code == _LAYER_CODE else value,
                b"\n",
            )
            position += 2
            if code == b"0" and value == _END:
                break
            continue
        if pieces and (text := lines[position].strip()):
            pieces[-1:] = (b" ", text, b"\n")
        position += 1
    return b"".join(pieces)
