"""Archives (zip, tar, also compressed, and single compressed files): every document in them, by its own reader.

Nothing is written to disk. What an archive may hold is bounded before it is unpacked: the number of files, their size,
each by itself and together.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO

from portico_server.archives.tar import TooLong, Unpacked, is_tar, read_tar
from portico_server.knowledge.document import SourceDocument, Unreadable
from portico_server.knowledge.parse.formats import format_of, is_document, looks_like_text
from portico_server.knowledge.parse.text import legacy_encoding
from portico_server.knowledge.parse.zip_size import limit_zip

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
"""Bytes that an archive may unpack to."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of one file in it."""

MAX_ENTRIES = 10_000
"""Files in it."""

_UTF8_MASK = 0x800
"""The flag of a member of a zip file whose name is in UTF-8."""

_DAMAGED = "is not a whole archive: it is damaged or was cut short."
_TOO_LONG = (
    f"unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MB or {MAX_ENTRIES:,} files. Split it, or unpack it."
)


def read(source: SourceDocument) -> Iterator[SourceDocument]:
    """The documents in an archive, each under its path there. Raises `Unreadable`."""
    with source.open() as file:
        if not file.read(1):
            raise Unreadable("is empty: there is nothing in it to index.")
        try:
            if is_tar(file):
                yield from _tar(file)
            elif zipfile.is_zipfile(file):
                yield from _zip(file)
            else:
                yield from _single(file, PurePosixPath(source.name).stem)
        except TooLong:
            raise Unreadable(_TOO_LONG) from None
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise Unreadable(_DAMAGED) from error


def _zip(file: IO[bytes]) -> Iterator[SourceDocument]:
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        limit_zip(archive, MAX_UNPACKED_BYTES, MAX_ENTRIES)
        names = _names(archive)
        for member in archive.infolist():
            name = _checked(names[member.filename])
            mode = member.external_attr >> 16
            if member.is_dir() or stat.S_ISLNK(mode) or not _is_wanted(name):
                continue
            if member.flag_bits & 1:
                raise Unreadable("is protected by a password. Save a copy without one and add that.")
            with archive.open(member) as inner:
                yield from _member(name, member.file_size, inner)


def _names(archive: zipfile.ZipFile) -> Mapping[str, str]:
    """The names of the members as they were meant: those that are not marked as UTF-8 are in the encoding of the system
    that wrote them, which Python reads as that of the first IBM PCs.
    """
    raw = {
        item.filename: item.filename.encode("cp437")
        for item in archive.infolist()
        if not item.flag_bits & _UTF8_MASK and not item.filename.isascii()
    }
    together = b"\n".join(raw.values())
    try:
        together.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = legacy_encoding(together)
    if encoding == "cp1252":
        raw = {}  # of the encodings of the West, that of the first PCs is what zip files have
    decoded_names = {name: data.decode(encoding, "replace") for name, data in raw.items()}
    return {item.filename: decoded_names.get(item.filename, item.filename) for item in archive.infolist()}


def _tar(file: IO[bytes]) -> Iterator[SourceDocument]:
    def wanted(name: str, size: int) -> bool:
        path = _checked(name)
        if not _is_wanted(path):
            return False
        _check_size(path, size)
        return True

    for name, data in read_tar(file, MAX_UNPACKED_BYTES, _refused, is_needed=wanted, lenient=True):
        yield from _document(_checked(name), data)


def _single(file: IO[bytes], name: str) -> Iterator[SourceDocument]:
    """What is compressed by itself."""
    inner = Unpacked(file, MAX_UNPACKED_BYTES, _refused)
    if not inner.is_compressed:
        raise Unreadable(_DAMAGED)
    data = inner.read(MAX_FILE_BYTES + 1)
    _check_size(name, len(data))
    yield SourceDocument(name, data, (name,))


def _refused(why: str) -> Unreadable:
    return Unreadable(f"is not read: {why}.")


def _checked(name: str) -> str:
    """The path of a member. Raises `Unreadable` for one that leads out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise Unreadable(
            f"holds a file whose path leads out of it ('{name[:100]}'). It is not to be trusted."
        )
    return str(path)


def _is_wanted(name: str) -> bool:
    """Whether a file in an archive is one that a followed folder would take too."""
    parts = PurePosixPath(name).parts
    return bool(parts) and is_document(name) and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _member(name: str, size: int, file: IO[bytes]) -> Iterator[SourceDocument]:
    _check_size(name, size)
    data = file.read(MAX_FILE_BYTES + 1)
    _check_size(name, len(data))
    yield from _document(name, data)


def _document(name: str, data: bytes) -> Iterator[SourceDocument]:
    if data.strip() and (format_of(name) is not None or looks_like_text(data[:8192])):
        yield SourceDocument(name, data, (name,))


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise Unreadable(
            f"holds a file of more than {MAX_FILE_BYTES // 2**20} MB ('{name[:100]}'). Unpack it first."
        )
