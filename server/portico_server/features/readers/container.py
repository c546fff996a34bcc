"""Formats based on zip files: Office documents, OpenDocument and EPUB. Documents are validated before anything is
unpacked.
"""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from lxml import etree

from portico_server.core.html import require_memory
from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.zip_size import limit_zip

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
"""Maximum unpacked size of a document, in bytes."""

MAX_ENTRIES = 10_000
"""Maximum number of files inside one document."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def check_container(source: SourceDocument, kind: str, needs: str, modern: str) -> None:
    """Raise `Unreadable` unless the file is a ``kind`` ("Word document") that unpacks to at most `MAX_UNPACKED_BYTES`.

    ``needs`` is a member that the file must contain. ``modern`` is the suffix of the current format, which the error
    names if the file has an older format.
    """
    with source.open() as file:
        open_checked(file, kind, needs, modern).close()


def open_checked(file: BinaryIO, kind: str, needs: str, modern: str) -> zipfile.ZipFile:
    """Return the zip file of a document, validated as `check_container` does. No member unpacks to more than its
    stated size.
    """
    head = file.read(8)
    if not head:
        raise Unreadable("is empty: it contains nothing to index.")
    if head == _OLE:
        raise Unreadable(
            f"is protected by a password, or has a format from before 2007. Save it as {modern} without a "
            "password."
        )
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise Unreadable(f"is not a complete {kind}: it is damaged or truncated.") from error
    limit_zip(archive, MAX_UNPACKED_BYTES, MAX_ENTRIES)
    if needs not in archive.NameToInfo:
        raise Unreadable(f"is not a {kind}: it has no '{needs}'.", "unsupported_file")
    return archive


def optional_tree(archive: zipfile.ZipFile, name: str, kind: str) -> etree._Element | None:
    """Parse an XML member as `tree` does, or return ``None`` if it is missing or damaged."""
    try:
        return tree(archive, name, kind)
    except Unreadable:
        return None


def tree(archive: zipfile.ZipFile, name: str, kind: str) -> etree._Element:
    """Parse an XML member without resolving entities and without network access."""
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
        return etree.fromstring(archive.read(name), parser)
    except (KeyError, zipfile.BadZipFile, etree.XMLSyntaxError, NotImplementedError, RuntimeError) as error:
        require_memory(error)
        raise Unreadable(f"is not a complete {kind}: its member '{name}' is missing or damaged.") from error
