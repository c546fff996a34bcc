"""Reading of an untrusted tar archive, compressed or not, with limits on memory and time.

`tarfile` is unsuitable: it expands the holes of a sparse file in memory, skips as far as a header says in small
pieces, and recurses for each header that describes the next header. It also parses those headers in time that is
quadratic in their length, and blocks the process meanwhile. Formats: POSIX.1-2017, pax, "ustar Interchange Format" and
"pax Header Block"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO, Any, Final

_BLOCK_BYTES: Final = 512
_MAX_HEADER_BYTES: Final = 64 * 1024
"""Maximum size, in bytes, of a header that describes the next entry: its long name, or its attributes."""

_MAX_ENTRIES: Final = 10_000
"""Maximum number of entries of all kinds, including folders and headers that describe the next entry."""

_OCTAL_DIGITS: Final = frozenset(b"01234567")
_FILE_KINDS: Final = (b"0", b"\0", b"7")
_FOLDER_KIND: Final = b"5"
_PAX_KIND: Final = b"x"
_PAX_GLOBAL_KIND: Final = b"g"
_GNU_NAME_KIND: Final = b"L"
_GNU_LINK_KIND: Final = b"K"
_SPARSE_KIND: Final = b"S"
_BODILESS_KINDS: Final = (b"1", b"2", b"3", b"4", _FOLDER_KIND, b"6")
"""Kinds of entries without a body: links, devices and folders. Their size field is not the length of a body."""

Refused = Callable[[str], Exception]
"""Creates the error for a rejected archive from a reason without a full stop."""


class TooLong(Exception):
    """The archive unpacks to more bytes than the reader allows."""


class Unpacked:
    """The content of a file, which is decompressed while it is read if it is compressed. It can be read only forward
    and up to ``max_bytes``.

    Raises `TooLong` above the limit, and the error that ``refuse`` creates for a damaged file.
    """

    def __init__(self, file: IO[bytes], max_bytes: int, refuse: Refused) -> None:
        file.seek(0)
        head = file.read(_MAGIC_BYTES)
        file.seek(0)
        make = next((make for magic, make in _PACKED.items() if head.startswith(magic)), None)
        self.is_compressed = make is not None
        self._pieces = _plain(file) if make is None else _unpack(file, make(), refuse)
        self._remaining_bytes = max_bytes
        self._piece = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or fewer at the end."""
        return b"".join(self._following(size))

    def skip(self, size: int) -> int:
        """Skip ``size`` bytes; return the number skipped, which is smaller at the end."""
        return sum(len(piece) for piece in self._following(size))

    def _following(self, size: int) -> Iterator[bytes]:
        while size > 0:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    return
                self._remaining_bytes -= len(self._piece)
                if self._remaining_bytes < 0:
                    raise TooLong
            block = self._piece[self._at : self._at + size]
            self._at += len(block)
            size -= len(block)
            yield block


def is_tar(file: IO[bytes]) -> bool:
    """Return whether a file is a tar archive, compressed or not, and rewind it to its start."""
    try:
        return _is_header(Unpacked(file, _PIECE_BYTES, ValueError).read(_BLOCK_BYTES))
    except ValueError:
        return False
    finally:
        file.seek(0)


def read_tar(
    file: IO[bytes],
    max_bytes: int,
    refuse: Refused,
    *,
    is_needed: Callable[[str, int], bool] = lambda _name, _size: True,
    lenient: bool = False,
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an archive with their names, in order; a name may occur twice.

    ``max_bytes`` limits the unpacked size. ``is_needed`` receives a name and a size, and returns whether to read the
    file. With ``lenient``, links and devices are skipped instead of rejected, and invalid UTF-8 in a name is replaced.
    Raises `TooLong`, and the error that ``refuse`` creates.
    """
    plain = Unpacked(file, max_bytes, refuse)
    text = _lenient_text if lenient else partial(_text, refuse)
    name = ""
    for number in range(_MAX_ENTRIES):
        head = plain.read(_BLOCK_BYTES)
        if number and not head.strip(b"\0"):
            return
        if not _is_header(head):
            raise refuse(
                "one of its entries is damaged" if number else "it is neither a zip nor a tar archive"
            )
        kind = head[156:157]
        size = 0 if kind in _BODILESS_KINDS else _number(head[124:136], refuse)
        if kind in (_PAX_KIND, _GNU_NAME_KIND):
            if size > _MAX_HEADER_BYTES:
                raise refuse(f"the description of one of its entries exceeds {_MAX_HEADER_BYTES // 1024} KB")
            body = _body(plain, size, refuse)
            name = text(body) if kind == _GNU_NAME_KIND else _pax_path(body, text, refuse) or name
            continue
        if kind in (_PAX_GLOBAL_KIND, _GNU_LINK_KIND):
            _skip(plain, size, refuse)
            continue
        short_name = text(head[:100])
        if head[257:263] == b"ustar\0" and (prefix := text(head[345:500])):
            short_name = f"{prefix}/{short_name}"
        entry_name, name = name or short_name, ""
        is_file = kind in _FILE_KINDS and not entry_name.endswith("/")
        if kind == _SPARSE_KIND or not (is_file or lenient or kind in (*_FILE_KINDS, _FOLDER_KIND)):
            raise refuse(
                f"{entry_name[:100]!a} is a link, a device or a sparse file; only files and folders are "
                "allowed"
            )
        if is_file and is_needed(entry_name, size):
            yield entry_name, _body(plain, size, refuse)
        else:
            _skip(plain, size, refuse)
    raise refuse(f"it has more than {_MAX_ENTRIES:,} entries")


def _body(plain: Unpacked, size: int, refuse: Refused) -> bytes:
    data = plain.read(size)
    if len(data) < size:
        raise refuse("it is truncated")
    plain.skip(-size % _BLOCK_BYTES)
    return data


def _skip(plain: Unpacked, size: int, refuse: Refused) -> None:
    if plain.skip(size) < size:
        raise refuse("it is truncated")
    plain.skip(-size % _BLOCK_BYTES)


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _xz() -> Any:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


_XZ_MEMORY_BYTES: Final = 128 * 2**20
"""Memory limit for unpacking, in bytes: what `xz -9` needs, with a margin."""

_PIECE_BYTES: Final = 2**20
"""Number of bytes unpacked at a time."""

_PACKED_BYTES: Final = 64 * 1024
"""Number of compressed bytes read at a time."""

_MAGIC_BYTES: Final = 5
_PACKED: Final[Mapping[bytes, Callable[[], Any]]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": _xz,
}


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _unpack(file: IO[bytes], unpacker: Any, refuse: Refused) -> Iterator[bytes]:
    while block := file.read(_PACKED_BYTES):
        compressed_block: bytes | None = block
        while compressed_block is not None:
            try:
                piece = unpacker.decompress(compressed_block, _PIECE_BYTES)
            except (OSError, ValueError, EOFError, lzma.LZMAError, zlib.error) as error:
                raise refuse("its compressed data are damaged") from error
            if piece:
                yield piece
            if unpacker.eof:
                if unpacker.unused_data.strip(b"\0") or file.read(_PACKED_BYTES).strip(b"\0"):
                    raise refuse(
                        "its compressed part is followed by more data; compress the archive again in one "
                        "piece"
                    )
                return
            # zlib returns the input that it has not processed; the others keep it, and return more output
            # until a piece is not full.
            compressed_block = getattr(unpacker, "unconsumed_tail", b"") or (
                b"" if len(piece) == _PIECE_BYTES else None
            )
    raise refuse("it is truncated")


def _is_header(block: bytes) -> bool:
    """Return whether a block is an entry header with a correct checksum."""
    checksum_digits = block[148:156].strip(b"\0 ")
    if len(block) < _BLOCK_BYTES or not checksum_digits or set(checksum_digits) - _OCTAL_DIGITS:
        return False
    return int(checksum_digits, 8) == sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")


def _number(field: bytes, refuse: Refused) -> int:
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    if set(digits) - _OCTAL_DIGITS:
        raise refuse("one of its entries has an invalid size, or a size of gigabytes")
    return int(digits, 8)


def _text(refuse: Refused, field: bytes) -> str:
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError as error:
        raise refuse("the name of one of its entries is not UTF-8") from error


def _lenient_text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _pax_path(body: bytes, text: Callable[[bytes], str], refuse: Refused) -> str:
    """Return the ``path`` record of a pax header, whose records have the form "LENGTH KEY=VALUE"."""
    at, path = 0, ""
    while at < len(body) and body[at]:
        space = body.find(b" ", at, at + 10)
        digits = body[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        if not space < end <= len(body) or body[end - 1 : end] != b"\n":
            raise refuse("the description of one of its entries is damaged")
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if key == b"size" or key.startswith(b"GNU.sparse") or not equals:
            raise refuse("one of its entries is sparse, or larger than its header says")
        if key == b"path":
            path = text(value)
        at = end
    return path
