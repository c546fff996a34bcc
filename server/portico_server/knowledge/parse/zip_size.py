"""What a zip file would unpack to, told before any of it is."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from portico_server.knowledge.document import Unreadable


def check_zip_size(file: BinaryIO, largest: int, entries: int) -> None:
    """Refuse a zip file that unpacks to more than ``largest`` bytes or ``entries`` files; anything else passes."""
    try:
        with zipfile.ZipFile(file) as archive:
            limit_zip(archive, largest, entries)
    except zipfile.BadZipFile:
        pass  # not a zip file, or a damaged one: its reader says so
    file.seek(0)


def limit_zip(archive: zipfile.ZipFile, largest: int, entries: int) -> None:
    """Raises `Unreadable` if the archive unpacks to more than ``largest`` bytes or ``entries`` files."""
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > largest or len(members) > entries:
        raise Unreadable(
            f"unpacks to {size // 2**20} MB in {len(members)} parts; "
            f"at most {largest // 2**20} MB in {entries} are read."
        )
