"""Formats that are zip files inside: Office documents, OpenDocument, EPUB. Refused before anything is unpacked."""

from __future__ import annotations

import zipfile
from typing import Any, BinaryIO

from lxml import etree

from portico_server.knowledge.document import SourceDocument, Unreadable

# What a zip file would unpack to, told before any of it is.


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


# Formulas of Word and PowerPoint, as a line of text: (a + b)/2, x^2, a_n, √(x).

MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_SCRIPTS = (("_", "sub"), ("^", "sup"))


def formula_text(node: Any) -> str:
    """A part of a formula; what has no rule of its own is what its parts are, one after the other."""
    kind = node.tag.removeprefix(MATH) if isinstance(node.tag, str) else ""
    if kind == "t":
        return node.text or ""
    if kind == "f":
        return f"{_grouped(node, 'num')}/{_grouped(node, 'den')}"
    if kind in ("sSup", "sSub", "sSubSup", "nary"):
        base = _formula_in(node, "e")
        marks = [f"{mark}{_grouped(node, part)}" for mark, part in _SCRIPTS if _formula_in(node, part)]
        if kind == "nary":
            sign = node.find(f"{MATH}naryPr/{MATH}chr")
            return f"{'∫' if sign is None else sign.get(f'{MATH}val', '')}{''.join(marks)} {base}"
        return base + "".join(marks)
    if kind == "rad":
        return f"{'' if not _formula_in(node, 'deg') else _grouped(node, 'deg')}√({_formula_in(node, 'e')})"
    if kind == "d":
        ends = [node.find(f"{MATH}dPr/{MATH}{end}") for end in ("begChr", "endChr")]
        left, right = (
            usual if each is None else each.get(f"{MATH}val", "")
            for each, usual in zip(ends, "()", strict=True)
        )
        return f"{left}{', '.join(formula_text(each) for each in node.findall(f'{MATH}e'))}{right}"
    if kind == "m":
        rows = node.findall(f"{MATH}mr")
        return f"[{'; '.join(', '.join(formula_text(each) for each in row) for row in rows)}]"
    return "".join(formula_text(each) for each in node if not str(each.tag).endswith("Pr"))


def _formula_in(node: Any, part: str) -> str:
    found = node.find(f"{MATH}{part}")
    return "" if found is None else formula_text(found).strip()


def _grouped(node: Any, part: str) -> str:
    """A part, in parentheses if it is more than one name or number."""
    said = _formula_in(node, part)
    return said if said.isalnum() else f"({said})"
