"""Formulas of an xlsx workbook that have no stored values, because the program that wrote them does not evaluate
formulas.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from lxml import etree

from portico_server.features.chunkers.document import Unreadable

MAX_SHEET_BYTES = 64 * 1024 * 1024
"""Maximum unpacked size of a sheet in bytes; larger sheets are skipped."""


_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


_EMPTY = re.compile(rb"</f>\s*+(?:<v\s*+/>\s*+|<v></v>\s*+)?</c>")


_CELL_NAME = re.compile(r"([A-Z]{1,3})(\d{1,7})")


FormulaCells = Mapping[tuple[int, int], str]
"""Formulas by row and column, both counted from 0."""


def unsolved_formulas(file: BinaryIO) -> Mapping[str, FormulaCells]:
    """Return the formulas without a stored value by sheet name, each with a leading ``=``. Empty if the file is
    not xlsx. Raises `Unreadable` if two sheets are the same part of the file.
    """
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            return {
                name: cells
                for name, path in _sheet_parts(archive)
                if (cells := _formula_cells(archive, path))
            }
    except (zipfile.BadZipFile, KeyError, etree.XMLSyntaxError, NotImplementedError, RuntimeError):
        return {}  # a sheet of another kind; if the file is damaged, reading the values reports the damage
    finally:
        file.seek(0)


def _sheet_parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield, for each sheet, its name and the name of its part in the archive."""
    if "xl/workbook.xml" not in archive.NameToInfo:
        return
    targets = {
        item.get("Id"): item.get("Target", "") for item in _xml_tree(archive, "xl/_rels/workbook.xml.rels")
    }
    names: dict[str, str] = {}
    for sheet in _xml_tree(archive, "xl/workbook.xml").iter(f"{_MAIN}sheet"):
        target = str(targets.get(sheet.get(_ID), ""))
        path = target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join("xl", target))
        if path not in archive.NameToInfo:
            continue
        name = str(sheet.get("name", ""))
        if path in names:
            raise Unreadable(
                f"is not a complete spreadsheet: its sheets '{names[path][:100]}' and '{name[:100]}' are the same "
                "part of the file. Save it again and add the new file."
            )
        names[path] = name
        if archive.NameToInfo[path].file_size <= MAX_SHEET_BYTES:
            yield name, path


def _formula_cells(archive: zipfile.ZipFile, path: str) -> FormulaCells:
    data = archive.read(path)
    if not _EMPTY.search(data):
        return {}
    formulas: dict[tuple[int, int], str] = {}
    for cell in etree.fromstring(data, _xml_parser()).iter(f"{_MAIN}c"):
        formula, value = cell.findtext(f"{_MAIN}f"), cell.findtext(f"{_MAIN}v")
        place = _CELL_NAME.fullmatch(cell.get("r", ""))
        if formula and not value and place:
            formulas[int(place[2]) - 1, column_number(place[1])] = f"={' '.join(formula.split())}"
    return formulas


def column_number(letters: str) -> int:
    """Return the number of a column, counted from 0, by its name; the inverse of `letters`."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _xml_tree(archive: zipfile.ZipFile, path: str) -> etree._Element:
    return etree.fromstring(archive.read(path), _xml_parser())


def _xml_parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True)


def letters(column: int) -> str:
    """Return the name of a column, counted from 0: A, B … Z, AA."""
    name = ""
    column += 1
    while column:
        column, remainder = divmod(column - 1, 26)
        name = chr(65 + remainder) + name
    return name
