"""Formats that are zip files inside: Office documents, OpenDocument, EPUB. Refused before anything is unpacked."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from lxml import etree

from portico_server.knowledge.document import SourceDocument, Unreadable
from portico_server.knowledge.parse.zip_size import limit_zip

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
"""Bytes that a document may unpack to."""

MAX_ENTRIES = 10_000
"""Files inside one document, at most."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def check_container(source: SourceDocument, kind: str, needs: str, modern: str) -> None:
    """Refuse what is no ``kind`` ("Word document"), and one that would unpack to more than `MAX_UNPACKED_BYTES`.

    ``needs`` is a file that it must hold; ``modern`` the suffix to save it under, should it be of the older kind.
    """
    with source.open() as file:
        open_checked(file, kind, needs, modern).close()


def open_checked(file: BinaryIO, kind: str, needs: str, modern: str) -> zipfile.ZipFile:
    """The zip file behind a document, checked as `check` says. A member never gives more than it states."""
    head = file.read(8)
    if not head:
        raise Unreadable("is empty: there is nothing in it to index.")
    if head == _OLE:
        raise Unreadable(
            f"is protected by a password, or in a format from before 2007. Save it as {modern} without a password."
        )
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise Unreadable(f"is not a whole {kind}: it is damaged or was cut short.") from error
    limit_zip(archive, MAX_UNPACKED_BYTES, MAX_ENTRIES)
    if needs not in archive.NameToInfo:
        raise Unreadable(f"is not a {kind}: it has no '{needs}'.", "unsupported_file")
    return archive


def tree(archive: zipfile.ZipFile, name: str, kind: str) -> etree._Element:
    """A member that is XML, without entities and without the network."""
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
        return etree.fromstring(archive.read(name), parser)
    except (KeyError, zipfile.BadZipFile, etree.XMLSyntaxError, NotImplementedError, RuntimeError) as error:
        raise Unreadable(f"is not a whole {kind}: '{name}' in it is missing or damaged.") from error
