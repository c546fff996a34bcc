"""Archives from hostile hands: each is refused with its reason, before its content fills the memory."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from portico_server.archives.reader import ArchiveReader, refusal
from portico_server.core.errors import InvalidRequest

MANIFEST = b'{"format": "tides", "version": 1}'
RATIO = 1_100

Change = Callable[[bytearray, int, int], None]
"""Changes an archive, given the positions of the headers of ``a`` in its body and in its list of entries."""


def packed(
    content: bytes = b"word" * 1_000,
    *,
    name: str = "a",
    method: int = zipfile.ZIP_DEFLATED,
    manifest: bytes = MANIFEST,
    mode: int = 0,
) -> bytes:
    """Return an archive with a manifest and the entry ``a``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", manifest)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, method)
    return buffer.getvalue()


def changed(change: Change, **options: int) -> bytes:
    data = bytearray(packed(**options))  # type: ignore[arg-type]
    change(data, data.index(b"PK\x03\x04", 4), data.rindex(b"PK\x01\x02"))
    return bytes(data)


def setting(offset: int, form: str, value: int) -> Change:
    """Return a change of a field of the list of entries and, for the first fields, of the entry's own header."""

    def change(data: bytearray, header: int, listed: int) -> None:
        struct.pack_into(form, data, listed + offset, value)
        if offset in (8, 10):
            struct.pack_into(form, data, header + offset - 2, value)

    return change


def _large_window() -> bytes:
    """Return an entry in the format of LZMA that declares a window of 4 GB."""
    data = bytearray(packed(method=zipfile.ZIP_LZMA))
    header = data.index(b"PK\x03\x04", 4)
    properties = header + 30 + len("a") + 4
    struct.pack_into("<I", data, properties + 1, 0xFFFFFFFF)
    return bytes(data)


def _twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", MANIFEST)
        for name in ("a", "b"):
            archive.writestr(name, b"word")
    return buffer.getvalue().replace(b"b", b"a")


ARCHIVES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a complete zip archive"),
    "only an end": (b"PK\x05\x06" + bytes(18), "contains no manifest.json"),
    "cut off": (packed()[:-30], "not a complete zip archive"),
    "half": (packed()[: len(packed()) // 2], "not a complete zip archive"),
    "text": (b"PK is all there is", "not a complete zip archive"),
    "bzip2": (packed(method=zipfile.ZIP_BZIP2), "method other than deflate"),
    "LZMA": (packed(method=zipfile.ZIP_LZMA), "method other than deflate"),
    "LZMA with a large window": (_large_window(), "method other than deflate"),
    "an unknown method": (changed(setting(10, "<H", 99)), "method other than deflate"),
    "encrypted": (changed(setting(8, "<H", 1)), "damaged|encrypted"),
    "a link": (packed(mode=stat.S_IFLNK | 0o777), "unexpected entry"),
    "a device": (packed(mode=stat.S_IFCHR | 0o666), "unexpected entry"),
    "a folder": (packed(mode=stat.S_IFDIR | 0o777), "unexpected entry"),
    "a name that climbs": (packed(name="../a"), "unexpected entry"),
    "an absolute name": (packed(name="/a"), "unexpected entry"),
    "a name with control characters": (packed(name="a\x1b[2J"), "unexpected entry"),
    "a name twice": (_twice(), "two entries with the same name"),
    "an entry beyond the end": (changed(setting(42, "<I", 0x7FFFFFFF)), "points outside|not a complete"),
    "a large size": (changed(setting(24, "<I", 0xF0000000)), "unpacks to more than"),
    "another checksum": (changed(setting(16, "<I", 7)), "damaged"),
    "another content": (
        packed().replace(zlib.compress(b"word" * 1_000, 6)[2:8], b"\xff" * 6),
        "damaged",
    ),
    "a shorter size": (changed(setting(24, "<I", 10)), "damaged"),
    "another entry's header": (changed(setting(42, "<I", 0)), "damaged|points outside"),
    "a manifest that is a list": (packed(manifest=b"[]"), "but not tides"),
    "a manifest of nothing": (packed(manifest=b""), "damaged"),
    "a deep manifest": (packed(manifest=b"[" * 100_000), "damaged"),
    "a manifest with two million parts": (packed(manifest=b"[" + b"0," * 2_000_001 + b"0]"), "damaged"),
    "a manifest that is not UTF-8": (packed(manifest=b'{"format": "\xff"}'), "damaged"),
    "a newer version": (packed(manifest=b'{"format": "tides", "version": 1e300}'), "update Portico"),
}


def read(data: bytes, folder: Path) -> bytes:
    """Return the content of the entry ``a`` of an archive."""
    path = folder / "archive.zip"
    path.write_bytes(data)
    with closing(ArchiveReader(path, lambda name: name == "a", RATIO, refusal("read"))) as archive:
        archive.manifest("tides", 1, "tides")
        return b"".join(archive.blocks("a"))


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    data, reason = ARCHIVES[kind]
    with pytest.raises(InvalidRequest, match=reason) as error_info:
        read(data, tmp_path)
    assert error_info.value.code == "invalid_archive"
    assert "\x1b" not in error_info.value.message
    assert len(error_info.value.message) < 1_000


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_sound_archive_is_read(method: int, tmp_path: Path) -> None:
    assert read(packed(method=method), tmp_path) == b"word" * 1_000
