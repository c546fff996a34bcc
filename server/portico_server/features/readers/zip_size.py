"""Determines the unpacked size of a zip file before it is unpacked."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from portico_server.features.chunkers.document import Unreadable


def check_zip_size(file: BinaryIO, largest: int, entries: int) -> None:
    """Raise `Unreadable` if a zip file unpacks to more than ``largest`` bytes or ``entries`` files. Files that are not
    zip files are ignored.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            limit_zip(archive, largest, entries)
    except zipfile.BadZipFile:
        pass  # not a zip file, or a damaged one, which the reader of the format reports
    file.seek(0)


def limit_zip(archive: zipfile.ZipFile, largest: int, entries: int) -> None:
    """Raise `Unreadable` if the archive unpacks to more than ``largest`` bytes or ``entries`` files."""
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > largest or len(members) > entries:
        raise Unreadable(
            f"unpacks to {size // 2**20} MB in {len(members)} parts; the limit is {largest // 2**20} MB "
            f"in {entries} parts."
        )
