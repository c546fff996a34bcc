"""Plain text, and all formats read as plain text: source code, JSON, YAML, logs."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from portico.wire import Place
from portico_server.features.chunkers.document import Part, SourceDocument, Unreadable
from portico_server.features.readers.formats import looks_like_text, wide_encoding

SEGMENT_CHARS = 128 * 1024
"""Approximate length of the segments in which a long text is read, in characters."""

_SAMPLE_BYTES = 256 * 1024
_BLOCK_BYTES = 1024 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield segments of the text, each with the number of its first line, split between paragraphs or lines where
    possible.
    """
    line, offset = 1, 0
    for text in segments(source):
        yield Part(text, Place(line=line, start=offset, end=offset + len(text)))
        line += text.count("\n")
        offset += len(text)


def segments(source: SourceDocument) -> Iterator[str]:
    """Yield the whole text in pieces of about `SEGMENT_CHARS` characters, with line breaks as ``\\n``."""
    with open_text(source) as text:
        remainder = ""
        while block := text.read(SEGMENT_CHARS):
            remainder += block.replace("\x00", "\ufffd")
            if len(remainder) >= SEGMENT_CHARS:
                cut = _cut(remainder)
                yield remainder[:cut]
                remainder = remainder[cut:]
        if remainder:
            yield remainder


def _cut(text: str) -> int:
    """Return the position at which to split the text: in its second half, after the last paragraph, or else the last
    line, sentence or word.
    """
    half = len(text) // 2
    for mark in ("\n\n", "\n", "。", ". ", " "):
        position = text.rfind(mark, half)
        if position >= 0:
            return position + len(mark)
    return len(text)


def open_text(source: SourceDocument) -> io.TextIOWrapper:
    """Open the file as text in its encoding; invalid bytes become U+FFFD. Raise `Unreadable` if it is not text."""
    encoding = encoding_of(source)
    return io.TextIOWrapper(source.open(), encoding, "replace", newline=None)


def encoding_of(source: SourceDocument) -> str:
    """Return the encoding of a text file.

    Supports UTF-8, UTF-16 and UTF-32 (by byte order mark, UTF-16 also without), GB18030 (which includes GBK and
    GB2312), Big5, Shift-JIS, EUC-JP, EUC-KR, Windows-1251 and, if no other encoding fits, Windows-1252. The whole file
    decides whether it is UTF-8, which a few bad bytes do not change; for the other encodings, a sample around the first
    byte that is not UTF-8 decides. Raises `Unreadable` if the file is empty or binary.
    """
    with source.open() as file:
        head = file.read(_SAMPLE_BYTES)
        if not head.strip():
            raise Unreadable("is empty: it contains nothing to index.")
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding
        if not looks_like_text(head):
            raise Unreadable("is binary, not text.", "unsupported_file")
        if b"\x00" in head and (encoding := wide_encoding(head)):
            return encoding
        decoder = codecs.getincrementaldecoder("utf-8")()
        position, block = 0, head
        try:
            while block:
                decoder.decode(block)
                position += len(block)
                block = file.read(_BLOCK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            file.seek(0)
            if _is_mostly_utf8(file):
                return "utf-8"
            file.seek(max(0, position + error.start - _SAMPLE_BYTES // 4))
            return legacy_encoding(file.read(_SAMPLE_BYTES))
    return "utf-8"


MIN_UTF8_RATIO = 3
"""Minimum number of bytes in characters of UTF-8 for each other byte beyond ASCII, in a text that is read as UTF-8.

In Chinese and Japanese encodings, up to .9 byte for each other byte looks like part of a character of UTF-8.
"""

_ASCII = bytes(range(0x80))
_MULTI_BYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
"""The characters of UTF-8 beyond ASCII. Pairs of surrogates, which some programs write, count as two characters."""

_CUT_CHARACTER = re.compile(rb"[\xc2-\xf4][\x80-\xbf]{0,2}\Z")


def _is_mostly_utf8(file: BinaryIO) -> bool:
    """Return whether most bytes beyond ASCII belong to characters of UTF-8.

    A character that the end of the file cuts off does not count.
    """
    character_bytes = bad_bytes = 0
    remainder = b""
    while block := file.read(_BLOCK_BYTES):
        block = remainder + block
        cut_character = _CUT_CHARACTER.search(block)
        remainder = cut_character[0] if cut_character is not None else b""
        block = block.removesuffix(remainder)
        bad_count = len(_MULTI_BYTE.sub(b"", block).translate(None, _ASCII))
        bad_bytes += bad_count
        character_bytes += len(block.translate(None, _ASCII)) - bad_count
    return character_bytes >= MIN_UTF8_RATIO * bad_bytes


_PAIR = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")


_CYRILLIC_WORD = re.compile(rb"[\xa8\xb8\xc0-\xff]{3,}")


def _is_cyrillic(sample: bytes) -> bool:
    """Return whether most bytes beyond ASCII are lower-case letters of Windows-1251, in words of Cyrillic letters."""
    high_bytes = sample.translate(None, _ASCII)
    lower_count = sum(byte >= 0xE0 for byte in high_bytes)
    word_bytes = sum(map(len, _CYRILLIC_WORD.findall(sample)))
    return lower_count >= 0.7 * len(high_bytes) and word_bytes >= 0.5 * len(high_bytes)


def legacy_encoding(sample: bytes) -> str:
    """Return GB18030, Big5, Shift-JIS, EUC-JP, EUC-KR, Windows-1251 or Windows-1252, judged by the byte pairs of East
    Asian text.

    Common characters of GB2312 have a lead byte of B0–D7 and a trail byte from A1 up. Those of Big5 have a lead byte
    of A4–C6 and a trail byte of 40–7E or from A1 up. The lead byte of punctuation is A1–A3 in both. Western text has
    few bytes above 7F, and they are isolated. Every Japanese sentence contains kana, which have lead bytes of their
    own. Korean syllables have lead bytes of B0–C8 only, while those of Chinese continue to D7.
    """
    if _is_cyrillic(sample):
        return "cp1251"
    pairs = _PAIR.findall(sample)
    high = sum(byte >= 0x80 for byte in sample[:20_000])
    paired_bytes = sum(len([b for b in pair if b >= 0x80]) for pair in _PAIR.findall(sample[:20_000]))
    if not pairs or high > paired_bytes * 1.2 + 4:
        return "cp1252"
    if sum(p[0] in (0xA4, 0xA5) and p[1] >= 0xA1 for p in pairs) >= len(pairs) * 0.25:
        return "euc_jp"
    if (
        sum((p[0] == 0x82 and p[1] >= 0x9F) or (p[0] == 0x83 and p[1] <= 0x96) for p in pairs)
        >= len(pairs) * 0.2
    ):
        return "cp932"
    words = [p[0] for p in pairs if p[0] >= 0xB0]
    if len(words) >= 12 and max(words) <= 0xC8 and all(p[1] >= 0xA1 for p in pairs):
        return "cp949"
    gb = sum(0xA1 <= p[0] <= 0xD7 and not 0xA4 <= p[0] <= 0xAF and p[1] >= 0xA1 for p in pairs) / len(pairs)
    big5 = sum(0xA1 <= p[0] <= 0xC6 and (p[1] < 0x7F or p[1] >= 0xA1) for p in pairs) / len(pairs)
    best, share = max((("gb18030", gb), ("big5", big5)), key=lambda item: item[1])
    return best if share >= 0.6 else "cp1252"
