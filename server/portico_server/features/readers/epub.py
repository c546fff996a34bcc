"""EPUB: the chapters of a book in reading order, split into sections by heading."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers import html
from portico_server.features.readers import section as titles
from portico_server.features.readers.container import open_checked, tree

DOCUMENT_KIND = "book in EPUB format"

_START = "META-INF/container.xml"
_READ = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield a part with the title and the author, then sections, each with the path of headings above it. The path
    begins with the book's title.
    """
    with source.open() as file:
        archive = open_checked(file, DOCUMENT_KIND, _START, ".epub")
        if "META-INF/encryption.xml" in archive.NameToInfo and "META-INF/rights.xml" in archive.NameToInfo:
            raise Unreadable("is protected by DRM. Only books without DRM can be read.")
        package = _package(archive)
        root = tree(archive, package, DOCUMENT_KIND)
        writer = PartWriter()
        about = {
            name: [
                text
                for item in root.iterfind(f"{{*}}metadata/{{*}}{name}")
                if (text := " ".join("".join(item.itertext()).split()))
            ]
            for name in ("title", "creator")
        }
        title = about["title"][0][: titles.MAX_TITLE_CHARS] if about["title"] else ""
        if any(about.values()):
            yield writer.part(
                ", ".join((*about["title"], *about["creator"])), heading=titles.heading_below(title, ())
            )
        manifest = {item.get("id"): item for item in root.iterfind("{*}manifest/{*}item")}
        # A damaged book may name a chapter many times.
        for chapter in dict.fromkeys(entry.get("idref") for entry in root.iterfind("{*}spine/{*}itemref")):
            item = manifest.get(chapter)
            if item is None or item.get("media-type") not in _READ:
                continue
            name = posixpath.normpath(
                posixpath.join(posixpath.dirname(package), unquote(item.get("href", "")))
            )
            yield from _chapter(archive, name, title, writer)


def _package(archive: zipfile.ZipFile) -> str:
    for item in tree(archive, _START, DOCUMENT_KIND).iter("{*}rootfile"):
        name = str(item.get("full-path", ""))
        if name in archive.NameToInfo:
            return name
    raise Unreadable(f"is not a complete {DOCUMENT_KIND}: its list of chapters is missing.")


def _chapter(archive: zipfile.ZipFile, name: str, title: str, writer: PartWriter) -> Iterator[Part]:
    try:
        data = archive.read(name)
    except (KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise Unreadable(
            f"is not a complete {DOCUMENT_KIND}: its member '{name}' is missing or damaged."
        ) from error
    if data.strip():
        for heading, text in html.sections(SourceDocument(name, data)):
            yield writer.part(text, heading=titles.heading_below(title, heading))
