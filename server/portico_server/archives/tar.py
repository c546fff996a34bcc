"""Reading a tar archive of a stranger, compressed or not, within bounds.

`tarfile` is not for that: it makes the holes of a sparse file in memory, skips as far as a header says in small pieces,
calls itself for each header that describes the next one, and searches those in a time that grows with the square of
their length, in which nothing else runs.
Formats: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from portico_server.core.errors import InvalidRequest

_BLOCK_BYTES: Final = 512
_MAX_HEADER_BYTES: Final = 64 * 1024
"""Bytes of what describes the next entry: its long name, or its attributes."""

_MAX_ENTRIES: Final = 10_000
"""Entries of every kind, folders and descriptions too."""

_FILE_KINDS: Final = (b"0", b"\0", b"7")
_FOLDER_KIND: Final = b"5"
_PAX_KIND: Final = b"x"
_PAX_GLOBAL_KIND: Final = b"g"
_GNU_NAME_KIND: Final = b"L"

Refused = Callable[[str], InvalidRequest]
"""Makes the error for an archive that is not taken, of a reason without a full stop."""


class TooLong(Exception):
    """An archive unpacks to more bytes than its reader wants."""


def read_tar(data: bytes, max_bytes: int, refused: Refused) -> Iterator[tuple[str, bytes]]:
    """The files in an archive with their names, in its order; a name may come twice.

    ``max_bytes``: what it may unpack to. Raises `TooLong`, and what ``refused`` makes.
    """
    plain = _unpacked(data, max_bytes, refused)
    at, name = 0, ""
    for _ in range(_MAX_ENTRIES):
        head = plain[at : at + _BLOCK_BYTES]
        if not head.strip(b"\0"):
            return
        kind, size = _checked(head, len(plain) - at - _BLOCK_BYTES, refused)
        start = at + _BLOCK_BYTES
        body = plain[start : start + size]
        at = start + -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
        if kind in (_PAX_KIND, _PAX_GLOBAL_KIND, _GNU_NAME_KIND):
            if size > _MAX_HEADER_BYTES:
                raise refused(
                    f"what describes one of its entries has more than {_MAX_HEADER_BYTES // 1024} KB"
                )
            if kind == _GNU_NAME_KIND:
                name = _text(body, refused)
            elif kind == _PAX_KIND:
                name = _pax_path(body, refused) or name
            continue
        own = _text(head[:100], refused)
        if head[257:263] == b"ustar\0" and (prefix := _text(head[345:500], refused)):
            own = f"{prefix}/{own}"
        called, name = name or own, ""
        if kind == _FOLDER_KIND or (kind in _FILE_KINDS and called.endswith("/")):
            continue
        if kind not in _FILE_KINDS:
            raise refused(
                f"{called[:100]!a} is a link, a device or a sparse file; it may have files and folders alone"
            )
        yield called, body
    raise refused(f"it has more than {_MAX_ENTRIES:,} entries")


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _xz() -> Any:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


_XZ_MEMORY_BYTES: Final = 128 * 2**20
"""What `xz -9` takes to unpack, and some more."""

_PACKED: Final[Mapping[bytes, Callable[[], Any]]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": _xz,
}


def _is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _unpacked(data: bytes, max_bytes: int, refused: Refused) -> bytes:
    make = next((make for magic, make in _PACKED.items() if data.startswith(magic)), None)
    if make is None:
        if not _is_tar(data):
            raise refused("it is neither a zip nor a tar archive")
        if len(data) > max_bytes:
            raise TooLong
        return data
    unpacker = make()
    try:
        found: bytes = unpacker.decompress(data, max_bytes + 1)
    except (OSError, ValueError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise refused("what it is compressed with is damaged") from error
    if len(found) > max_bytes:
        raise TooLong
    if not unpacker.eof:
        raise refused("it was cut short")
    if unpacker.unused_data.strip(b"\0"):
        raise refused("something follows its compressed part; pack it again, in one piece")
    if not _is_tar(found):
        raise refused("what is compressed is not a tar archive")
    return found


def _checked(head: bytes, left: int, refused: Refused) -> tuple[bytes, int]:
    """The kind and the size of an entry, which lies in the archive."""
    if len(head) < _BLOCK_BYTES:
        raise refused("it was cut short")
    if _number(head[148:156], refused) != sum(head[:148]) + sum(head[156:]) + 8 * ord(" "):
        raise refused("one of its entries is damaged")
    kind = head[156:157]
    size = 0 if kind == _FOLDER_KIND else _number(head[124:136], refused)
    if size > left:
        raise refused("it was cut short")
    return kind, size


def _number(field: bytes, refused: Refused) -> int:
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    if set(digits) - set(b"01234567"):
        raise refused("one of its entries has a size that is none, or one of gigabytes")
    return int(digits, 8)


def _text(field: bytes, refused: Refused) -> str:
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError as error:
        raise refused("the name of one of its entries is not UTF-8") from error


def _pax_path(body: bytes, refused: Refused) -> str:
    """The ``path`` among records of the form "LENGTH KEY=VALUE"."""
    at, path = 0, ""
    while at < len(body) and body[at]:
        space = body.find(b" ", at, at + 10)
        digits = body[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        if not space < end <= len(body) or body[end - 1 : end] != b"\n":
            raise refused("what describes one of its entries is damaged")
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if key == b"size" or key.startswith(b"GNU.sparse") or not equals:
            raise refused("one of its entries is sparse, or larger than its header says")
        if key == b"path":
            path = _text(value, refused)
        at = end
    return path
