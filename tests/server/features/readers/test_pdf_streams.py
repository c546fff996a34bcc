"""Streams of a PDF: a stream that unpacks to too much is refused before anything unpacks it, whatever its filters."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.process_memory import peak_bytes
from tests.server.features.readers import documents, office
from tests.server.features.readers.reading import Reading

from portico_server.features.chunkers.document import Unreadable
from portico_server.features.readers.pool import ReaderPool

SHOWN = b"BT /F 12 Tf 50 740 Td (The tide is high.) Tj ET\n"
MB = 2**20


def deflate(data: bytes) -> bytes:
    return zlib.compress(data, 9)


def run_lengths(data: bytes) -> bytes:
    """Pack a text followed by spaces as one literal and runs of 128 spaces."""
    text = data.rstrip(b" ")
    literals = b"".join(
        bytes([len(text[i : i + 128]) - 1]) + text[i : i + 128] for i in range(0, len(text), 128)
    )
    return literals + b"\x81 " * ((len(data) - len(text)) // 128) + b"\x80"


def lzw(data: bytes) -> bytes:
    """Pack bytes with codes of growing width, as a PDF expects them, and begin again before the codes run out."""
    single = {bytes([byte]): byte for byte in range(256)}
    codes, bits, prefix = dict(single), ["100000000"], b""

    def width() -> int:
        return max((len(codes) + 2).bit_length(), 9)

    for byte in data:
        text = prefix + bytes([byte])
        if text not in codes:
            bits.append(f"{codes[prefix]:0{width()}b}")
            codes[text] = len(codes) + 2
            text = text[-1:]
            if len(codes) == 4090:
                bits.append(f"{256:0{width()}b}")
                codes = dict(single)
        prefix = text
    bits += [f"{codes[prefix]:0{width()}b}", f"{257:0{width()}b}"]
    stream = "".join(bits)
    return b"".join(int(stream[i : i + 8].ljust(8, "0"), 2).to_bytes() for i in range(0, len(stream), 8))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "FlateDecode": deflate,
    "#46lateDecode": deflate,
    "Fl": deflate,
    "LZWDecode": lzw,
    "RL": run_lengths,
    "A85": lambda data: base64.a85encode(data) + b"~>",
    "AHx": lambda data: data.hex().encode() + b">",
    "Crypt": lambda data: data,
}


def pack(content: bytes, filters: Sequence[str]) -> bytes:
    """Return a PDF whose page unpacks to ``content``."""
    for name in reversed(filters):
        content = PACKERS[name](content)
    return documents.packed(content, "[" + " ".join(f"/{name}" for name in filters) + "]")


def spaces(size: int) -> bytes:
    return SHOWN.ljust(size)


@pytest.mark.parametrize("size", [1_000, MB], ids=["short", "long"])
@pytest.mark.parametrize("name", PACKERS)
async def test_a_compressed_page_is_read(read: Reading, name: str, size: int) -> None:
    [part] = await read("page.pdf", pack(spaces(size), [name]))
    assert part.text == "The tide is high."


@pytest.mark.parametrize(
    "filters",
    [
        ["FlateDecode"],
        ["Fl"],
        ["#46lateDecode"],
        ["FlateDecode"] * 2,
        ["FlateDecode"] * 3,
        ["A85", "FlateDecode"],
        ["AHx", "FlateDecode"],
        ["RL", "FlateDecode", "FlateDecode"],
        ["FlateDecode", "RL"],
        ["FlateDecode", "AHx"],
        ["Crypt", "FlateDecode"],
        ["LZWDecode", "FlateDecode", "FlateDecode"],
    ],
    ids=" ".join,
)
async def test_a_stream_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    filters: list[str], tmp_path: Path
) -> None:
    data = pack(spaces(65 * MB), filters)
    readers = ReaderPool(workers=1, seconds=60, memory=340 * MB)
    try:
        read = Reading(readers, tmp_path)
        with pytest.raises(Unreadable, match="a stream that unpacks to more than 64 MB"):
            await read("page.pdf", data)
        [worker] = readers._idle
        assert peak_bytes(worker.pid) < 64 * MB
    finally:
        await readers.close()


async def test_a_pdf_bomb_in_an_archive_is_named_and_other_documents_are_read(read: Reading) -> None:
    bomb = pack(spaces(65 * MB), ["FlateDecode"] * 3)
    parts = await read("all.zip", office.zipped({"bomb.pdf": bomb, "note.txt": "The ebb is late."}))
    assert [part.text for part in parts] == [
        "The ebb is late.",
        "Not read:\nbomb.pdf contains a stream that unpacks to more than 64 MB. Print it to a new PDF.",
    ]
