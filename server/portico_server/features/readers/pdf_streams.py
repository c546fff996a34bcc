"""Measures the streams of a PDF before PDFium unpacks them, because a few hundred bytes can unpack to a gigabyte.

Filters: ISO 32000-1, 7.4. Encrypted streams, and filters that another object names, are not measured: the memory limit
of the process applies to them.
"""

from __future__ import annotations

import base64
import binascii
import mmap
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Final

import pypdfium2 as pdfium

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import SourceDocument, Unreadable

MAX_STREAM_BYTES: Final = 128 * 1024 * 1024
"""Maximum unpacked size of a stream, in bytes."""

MAX_SPARSE_BYTES: Final = 64 * 1024 * 1024
"""Maximum unpacked size, in bytes, of a stream that unpacks to more than `MAX_STREAM_RATIO` times its size."""

MAX_STREAM_RATIO: Final = 200

_BLOCK_BYTES: Final = 64 * 1024
_MAX_DICTIONARY_BYTES: Final = 64 * 1024
_STREAM: Final = re.compile(rb"(?<!end)stream[ \t]*\r?\n?")
_FILTERS: Final = re.compile(rb"/Filter\s*(\[[^\[\]]{0,200}|/\w+)")
_NAME_ESCAPE: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_SPACE: Final = b"\x00\t\n\x0c\r "


def open_pdf(source: SourceDocument) -> pdfium.PdfDocument:
    """Open a PDF. Raises `Unreadable` if one of its streams unpacks to more than the limits, and `PdfiumError`."""
    _require_bounded_streams(source)
    return pdfium.PdfDocument(source.content)


def _require_bounded_streams(source: SourceDocument) -> None:
    with _content(source) as data:
        end = 0
        while (keyword := _STREAM.search(data, end)) is not None:
            filters = _filters(data[max(end, keyword.start() - _MAX_DICTIONARY_BYTES) : keyword.start()])
            end = data.find(b"endstream", keyword.end())
            if end < 0:
                end = len(data)
            size = end - keyword.end()
            allowed_bytes = min(max(MAX_SPARSE_BYTES, MAX_STREAM_RATIO * size), MAX_STREAM_BYTES)
            if size * prod(stream_filter.max_ratio for stream_filter in filters) > allowed_bytes:
                _measure(_blocks(data, keyword.end(), end), filters, allowed_bytes)
            end += len(b"endstream")


@contextmanager
def _content(source: SourceDocument) -> Iterator[bytes | mmap.mmap]:
    """Yield the bytes of a document without copying a file into memory."""
    if isinstance(source.content, Path) and source.size:
        with source.content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    else:
        yield source.read()


def _blocks(data: bytes | mmap.mmap, begin: int, end: int) -> Iterator[bytes]:
    for position in range(begin, end, _BLOCK_BYTES):
        yield data[position : min(position + _BLOCK_BYTES, end)]


def _filters(head: bytes) -> Sequence[_StreamFilter]:
    """Return the filters of a stream from the first to the last, up to the first that decodes an image. ``head``
    ends with the stream's dictionary.
    """
    text = _NAME_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), head)
    value = b""
    for match in _FILTERS.finditer(text):
        value = match[1]
    filters: list[_StreamFilter] = []
    for name in re.findall(rb"/(\w+)", value):
        if name == b"Crypt":
            continue
        if name not in _STREAM_FILTERS:
            break
        filters.append(_STREAM_FILTERS[name])
    return filters


def _measure(blocks: Iterator[bytes], filters: Sequence[_StreamFilter], allowed_bytes: int) -> None:
    """Raise `Unreadable` if the output of a filter is longer than ``allowed_bytes``."""
    for stream_filter in filters:
        blocks = _limit(stream_filter.unpack(blocks), allowed_bytes)
    for _block in blocks:
        pass


def _limit(blocks: Iterator[bytes], allowed_bytes: int) -> Iterator[bytes]:
    length = 0
    for block in blocks:
        length += len(block)
        if length > allowed_bytes:
            raise Unreadable(
                f"contains a stream that unpacks to more than {allowed_bytes // 2**20} MB. Print it to a new PDF."
            )
        yield block


def _inflate(blocks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    try:
        for block in blocks:
            packed = block
            while packed and not inflater.eof:
                yield inflater.decompress(packed, _BLOCK_BYTES)
                packed = inflater.unconsumed_tail
    except zlib.error:
        return  # PDFium also stops here


_CLEAR, _END, _FIRST_CODE, _MAX_CODES = 256, 257, 258, 4096


def _unpack_lzw(blocks: Iterator[bytes]) -> Iterator[bytes]:
    texts = [*(bytes((byte,)) for byte in range(256)), b"", b""]
    previous = b""
    bits = count = 0
    for block in blocks:
        for byte in block:
            bits, count = (bits << 8 | byte) & 0xFFFFFF, count + 8
            # A code becomes wider one code before the table needs it ("early change").
            width = min(max((len(texts) + bool(previous)).bit_length(), 9), 12)
            if count < width:
                continue
            count -= width
            code = bits >> count & (1 << width) - 1
            if code == _CLEAR:
                del texts[_FIRST_CODE:]
                previous = b""
                continue
            if code == _END or code > len(texts) or (code == len(texts) and not previous):
                return
            text = texts[code] if code < len(texts) else previous + previous[:1]
            if previous and len(texts) < _MAX_CODES:
                texts.append(previous + text[:1])
            previous = text
            yield text


def _unpack_runs(blocks: Iterator[bytes]) -> Iterator[bytes]:
    literal = repeat = 0
    for block in blocks:
        position = 0
        while position < len(block):
            if literal:
                text = block[position : position + literal]
                literal -= len(text)
                position += len(text)
                yield text
                continue
            byte = block[position]
            position += 1
            if repeat:
                yield block[position - 1 : position] * repeat
                repeat = 0
            elif byte == 128:
                return
            elif byte < 128:
                literal = byte + 1
            else:
                repeat = 257 - byte


def _unpack_base85(blocks: Iterator[bytes]) -> Iterator[bytes]:
    digits = b""
    for block in blocks:
        text, mark, _ = block.translate(None, _SPACE).partition(b"~")
        digits += text.replace(b"z", b"!!!!!")
        length = len(digits) if mark else len(digits) - len(digits) % 5
        try:
            yield base64.a85decode(digits[:length])
        except ValueError:
            return
        if mark:
            return
        digits = digits[length:]


def _unpack_hex(blocks: Iterator[bytes]) -> Iterator[bytes]:
    digits = b""
    for block in blocks:
        text, mark, _ = block.translate(None, _SPACE).partition(b">")
        digits += text
        try:
            yield binascii.unhexlify(digits[: len(digits) // 2 * 2])
        except binascii.Error:
            return
        if mark:
            return
        digits = digits[len(digits) // 2 * 2 :]


@dataclass(frozen=True, slots=True)
class _StreamFilter:
    """A filter that can enlarge a stream, at most by the factor ``max_ratio``."""

    unpack: Callable[[Iterator[bytes]], Iterator[bytes]]
    max_ratio: int


_FLATE = _StreamFilter(_inflate, 1_032)
_LZW = _StreamFilter(_unpack_lzw, 1_400)
_RUNS = _StreamFilter(_unpack_runs, 64)
_BASE85 = _StreamFilter(_unpack_base85, 4)
_HEX = _StreamFilter(_unpack_hex, 1)
_STREAM_FILTERS: Final = {
    b"FlateDecode": _FLATE,
    b"Fl": _FLATE,
    b"LZWDecode": _LZW,
    b"LZW": _LZW,
    b"RunLengthDecode": _RUNS,
    b"RL": _RUNS,
    b"ASCII85Decode": _BASE85,
    b"A85": _BASE85,
    b"ASCIIHexDecode": _HEX,
    b"AHx": _HEX,
}
