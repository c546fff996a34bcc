"""PowerPoint: one part per slide, with its text in reading order and tables row by row, followed by the speaker's
notes.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from portico_server.core.words import whole_number
from portico_server.features.chunkers.document import NotRead, Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers import section as titles
from portico_server.features.readers.container import open_checked, optional_tree, tree
from portico_server.features.readers.formulas import MATH, formula_text
from portico_server.features.readers.office_graphics import (
    ALTERNATIVES,
    REFERENCES,
    description_line,
    graphic_lines,
)
from portico_server.features.readers.superscripts import superscript_text

DOCUMENT_KIND = "PowerPoint presentation"

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_TITLES = ("title", "ctrTitle")
_SKIPPED_PLACEHOLDERS = ("sldNum", "sldImg")
_REPEATED_PLACEHOLDERS = ("ftr", "dt", "hdr")
"""Placeholders that repeat on every slide; their text is read once."""


def read(source: SourceDocument) -> Iterator[Part | NotRead]:
    """Yield slides in presentation order, except for hidden slides. ``page`` is the slide number. The headings are the
    title of the document and the title of the slide.
    """
    with source.open() as file:
        archive = open_checked(file, DOCUMENT_KIND, "ppt/presentation.xml", ".pptx")
        writer = PartWriter()
        has_parts = False
        read_notes: set[str] = set()
        repeated: set[str] = set()
        hidden_count = silent_picture_count = 0
        about = titles.office_title(archive, source.name)
        # A damaged file may name a slide or its notes many times.
        for number, name in enumerate(dict.fromkeys(_slides(archive)), start=1):
            slide = tree(archive, name, DOCUMENT_KIND)
            if slide.get("show") in ("0", "false"):
                hidden_count += 1
                continue
            _drop_unseen(slide)
            title, lines = _text(slide, repeated)
            targets = _related(archive, name)
            lines += _graphics(archive, slide, targets)
            descriptions = _descriptions(slide)
            silent_picture_count += descriptions.count("")
            lines += (line for line in dict.fromkeys(descriptions) if line and line not in (title, *lines))
            notes_name = _notes(archive, targets)
            notes = ""
            if notes_name and notes_name not in read_notes:
                read_notes.add(notes_name)
                notes = "\n".join(_text(tree(archive, notes_name, DOCUMENT_KIND), repeated)[1])
            if notes:
                lines = [*lines, "", f"Notes: {notes}"]
            text = "\n".join([*([title] if title else []), *lines]).strip()
            if text:
                has_parts = True
                yield writer.part(
                    text, page=number, heading=titles.heading_below(about, (title,) if title else ())
                )
    if not has_parts:
        raise Unreadable("has no text on its slides.")
    if hidden_count:
        yield NotRead(f"{hidden_count:,} hidden slide(s)")
    if silent_picture_count:
        yield NotRead(f"{silent_picture_count:,} picture(s) without a description")


def _slides(archive: zipfile.ZipFile) -> Iterator[str]:
    targets = _related(archive, "ppt/presentation.xml")
    for item in tree(archive, "ppt/presentation.xml", DOCUMENT_KIND).iter(f"{_P}sldId"):
        name = targets.get(item.get(f"{_R}id", ""), ("", ""))[1]
        if name:
            yield name


def _related(archive: zipfile.ZipFile, name: str) -> dict[str, tuple[str, str]]:
    """Return the relationships of a part of the package: id → (kind of relationship, name of the target in the
    archive).
    """
    folder, file = posixpath.split(name)
    relations = f"{folder}/_rels/{file}.rels"
    if relations not in archive.NameToInfo:
        return {}
    found_relations = {}
    for item in tree(archive, relations, DOCUMENT_KIND):
        target = item.get("Target", "")
        target = target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        if item.get("TargetMode") != "External":
            found_relations[item.get("Id", "")] = (item.get("Type", "").rpartition("/")[2], target)
    return found_relations


def _drop_unseen(slide: Any) -> None:
    """Remove hidden shapes and the fallbacks for older programs: these repeat text or formulas that the slide contains
    anyway, or are images.
    """
    for properties in list(slide.iter(f"{_P}cNvPr")):
        shape = properties.getparent().getparent()
        if properties.get("hidden") in ("1", "true") and shape.getparent() is not None:
            shape.getparent().remove(shape)
    for node in list(slide.iter(ALTERNATIVES)):
        choices = list(node)
        if choices and next(choices[0].iter(f"{_A}t", f"{MATH}oMath"), None) is not None:
            for other_choice in choices[1:]:
                node.remove(other_choice)


def _text(slide: Any, repeated: set[str]) -> tuple[str, list[str]]:
    """Return the title of a slide and its other lines, without the lines of footers in ``repeated``."""
    title = ""
    lines: list[str] = []
    for shape in slide.iter(f"{_P}sp", f"{_A}tbl"):
        if shape.tag == f"{_A}tbl":
            lines.extend(_rows(shape))
            continue
        holder = shape.find(f".//{_P}nvPr/{_P}ph")
        role = "" if holder is None else holder.get("type", "")
        paragraphs = [] if role in _SKIPPED_PLACEHOLDERS else _paragraphs(shape)
        if role in _REPEATED_PLACEHOLDERS:
            paragraphs = [line for line in paragraphs if line not in repeated]
            repeated.update(paragraphs)
        if role in _TITLES and not title:
            title = " ".join(paragraphs)
        else:
            lines.extend(paragraphs)
    return title, lines


def _graphics(archive: zipfile.ZipFile, slide: Any, targets: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the texts of the charts and diagrams of a slide."""
    lines: list[str] = []
    for relation_id in dict.fromkeys(node.get(REFERENCES[node.tag], "") for node in slide.iter(*REFERENCES)):
        target = targets.get(relation_id, ("", ""))[1]
        graphic = optional_tree(archive, target, DOCUMENT_KIND)
        if graphic is not None:
            lines += graphic_lines(graphic)
    return lines


def _descriptions(slide: Any) -> list[str]:
    """Return what the author wrote about each picture for those who do not see it, or "" for each."""
    nodes = (picture.find(f".//{_P}cNvPr") for picture in slide.iter(f"{_P}pic"))
    return [description_line(node.get("descr")) for node in nodes if node is not None]


def _paragraphs(shape: Any) -> list[str]:
    texts = ("".join(_runs(paragraph)).strip() for paragraph in shape.iter(f"{_A}p"))
    return [text for text in texts if text]


def _runs(paragraph: Any) -> Iterator[str]:
    last_text = ""
    for item in paragraph.iter(f"{_A}t", f"{_A}br", f"{MATH}oMath"):
        if item.tag == f"{MATH}oMath":
            text = formula_text(item)
        else:
            text = "\n" if item.tag == f"{_A}br" else item.text or ""
            text = superscript_text(last_text, text) if _is_superscript(item) else text
        yield text
        last_text = text or last_text


def _is_superscript(text: Any) -> bool:
    properties = text.getparent().find(f"{_A}rPr")
    baseline = "0" if properties is None else properties.get("baseline", "0")
    return bool(whole_number(baseline.strip("%")))


def _rows(table: Any) -> Iterator[str]:
    for row in table.iterchildren(f"{_A}tr"):
        cells = [" ".join(_paragraphs(cell)) for cell in row.iterchildren(f"{_A}tc")]
        if any(cells):
            yield " | ".join(cells)


def _notes(archive: zipfile.ZipFile, targets: Mapping[str, tuple[str, str]]) -> str:
    """Return the name of the notes of a slide in the archive, or "" if it has none."""
    for kind, name in targets.values():
        if kind == "notesSlide" and name in archive.NameToInfo:
            return name
    return ""
