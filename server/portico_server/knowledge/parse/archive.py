"""Archives (zip, tar, also compressed, and single compressed files): every document in them, by its own reader.

Nothing is written to disk. What an archive may hold is bounded before it is unpacked: the number of files, their size,
each by itself and together.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO

from portico_server.knowledge.document import SourceDocument, Unreadable
from portico_server.knowledge.parse.container import limit_zip
from portico_server.knowledge.parse.formats import format_of, is_document, looks_like_text
from portico_server.knowledge.parse.text import legacy_encoding

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
"""Bytes that an archive may unpack to."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of one file in it."""

MAX_ENTRIES = 10_000
"""Files in it."""

_UTF8_MASK = 0x800
"""The flag of a member of a zip file whose name is in UTF-8."""

_SINGLE: Mapping[bytes, Callable[[IO[bytes]], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZ": bz2.BZ2File,
    b"\xfd7": lzma.LZMAFile,
}


def read(source: SourceDocument) -> Iterator[SourceDocument]:
    """The documents in an archive, each under its path there. Raises `Unreadable`."""
    with source.open() as file:
        head = file.read(8)
        file.seek(0)
        if not head:
            raise Unreadable("is empty: there is nothing in it to index.")
        try:
            if zipfile.is_zipfile(file):
                yield from _zip(file)
            elif _is_tar(file):
                yield from _tar(file)
            elif head[:2] in _SINGLE:
                file.seek(0)
                with _SINGLE[head[:2]](file) as inner:
                    name = PurePosixPath(source.name).stem
                    yield SourceDocument(name, _all(inner, name), (name,))
            else:
                raise Unreadable("is not a whole archive: it is damaged or was cut short.")
        except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
            raise Unreadable("is not a whole archive: it is damaged or was cut short.") from error


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
    decoded = {name: data.decode(encoding, "replace") for name, data in raw.items()}
    return {item.filename: decoded.get(item.filename, item.filename) for item in archive.infolist()}


def _is_tar(file: IO[bytes]) -> bool:
    file.seek(0)
    try:
        tarfile.open(fileobj=file, mode="r:*").close()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError):
        return False
    finally:
        file.seek(0)
    return True


def _tar(file: IO[bytes]) -> Iterator[SourceDocument]:
    # As a stream: nothing is read twice, and what is skipped is counted before it is unpacked.
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        total = 0
        for number, member in enumerate(archive, start=1):
            total += member.size
            if number > MAX_ENTRIES or total > MAX_UNPACKED_BYTES:
                raise Unreadable(
                    f"unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MB or {MAX_ENTRIES:,} files. Split it, or "
                    f"unpack it."
                )
            name = _checked(member.name)
            if member.isfile() and _is_wanted(name):
                inner = archive.extractfile(member)
                assert inner is not None
                yield from _member(name, member.size, inner)


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
    if size > MAX_FILE_BYTES:
        raise Unreadable(
            f"holds a file of more than {MAX_FILE_BYTES // 2**20} MB ('{name[:100]}'). Unpack it first."
        )
    data = _all(file, name)
    if data.strip() and (format_of(name) is not None or looks_like_text(data[:8192])):
        yield SourceDocument(name, data, (name,))


def _all(file: IO[bytes] | io.BufferedIOBase, name: str) -> bytes:
    data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(
            f"holds a file of more than {MAX_FILE_BYTES // 2**20} MB ('{name[:100]}'). Unpack it first."
        )
    return data
