"""Builders of slides, spreadsheets, books, notebooks, mails and archives, hand-written so that their contents are
visible.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from fnmatch import fnmatch
from xml.sax.saxutils import escape

_MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """Return a zip file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def rewritten(data: bytes, member: str, pattern: str, replacement: str) -> bytes:
    """Return a zip file in which a pattern is replaced in the members whose name matches ``member``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    new_members = {
        name: re.sub(pattern, replacement, content.decode())
        for name, content in members.items()
        if fnmatch(name, member)
    }
    return zipped({**members, **new_members})


def extended(data: bytes, new_members: Mapping[str, str]) -> bytes:
    """Return a zip file with further members."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped({**members, **new_members})


def tarred(members: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    """Return a compressed tar file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _relations(items: Mapping[str, tuple[str, str]]) -> str:
    rows = "".join(
        f'<Relationship Id="{key}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for key, (kind, target) in items.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}">{rows}</Relationships>'


def _shape(text: str, role: str = "") -> str:
    holder = f'<p:nvPr><p:ph type="{role}"/></p:nvPr>' if role else "<p:nvPr/>"
    lines = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in text.split("\n"))
    return f"<p:sp><p:nvSpPr>{holder}</p:nvSpPr><p:txBody>{lines}</p:txBody></p:sp>"


def formula_shape(formula: str, *, whole: bool) -> str:
    """Return a text with a formula in PowerPoint's format, with its picture for older programs.

    The picture shows the ``whole`` shape, or only the formula.
    """
    math = f'<m:oMathPara xmlns:m="{_MATH}"><m:oMath>{formula}</m:oMath></m:oMathPara>'
    math_element = f'<a14:m xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main">{math}</a14:m>'
    if whole:
        shape = _shape("The mean is ").replace("</a:p>", f"{math_element}</a:p>")
        return _alternative(shape, _shape("The mean is \u00a0"))
    closing_runs = _alternative(math_element, _run("Formula")) + _run(" exactly.")
    return _shape("The mean is ").replace("</a:p>", f"{closing_runs}</a:p>")


def _alternative(choice: str, fallback: str) -> str:
    space = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    return (
        f'<mc:AlternateContent xmlns:mc="{space}"><mc:Choice Requires="a14">{choice}</mc:Choice>'
        f"<mc:Fallback>{fallback}</mc:Fallback></mc:AlternateContent>"
    )


def _run(text: str) -> str:
    return f"<a:r><a:t>{text}</a:t></a:r>"


def _slide(kind: str, content: str) -> str:
    return (
        f'<p:{kind} xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        f'xmlns:r="{_OFFICE}"><p:cSld><p:spTree>{content}</p:spTree></p:cSld></p:{kind}>'
    )


def slides(*content: tuple[str, str, str], table: Sequence[Sequence[str]] = (), shapes: str = "") -> bytes:
    """Return a presentation with title, text and notes for each slide, shown in reverse order of the file numbers.

    ``table`` and ``shapes`` are on the first slide.
    """
    members: dict[str, str] = {}
    relations = {}
    order = ""
    count = len(content)
    for i, (title, text, notes) in enumerate(content):
        number = count - i
        relations[f"rId{number}"] = ("slide", f"slides/slide{number}.xml")
        order += f'<p:sldId id="{256 + i}" r:id="rId{number}"/>'
        body = _shape(title, "title") + _shape(text) + _shape(str(number), "sldNum")
        if table and i == 0:
            rows = "".join(
                "<a:tr>"
                + "".join(
                    f"<a:tc><a:txBody><a:p><a:r><a:t>{c}</a:t></a:r></a:p></a:txBody></a:tc>" for c in row
                )
                + "</a:tr>"
                for row in table
            )
            body += f"<p:graphicFrame><a:graphic><a:tbl>{rows}</a:tbl></a:graphic></p:graphicFrame>"
        body += shapes * (i == 0)
        members[f"ppt/slides/slide{number}.xml"] = _slide("sld", body)
        if notes:
            members[f"ppt/notesSlides/n{number}.xml"] = _slide("notes", _shape(notes, "body"))
            members[f"ppt/slides/_rels/slide{number}.xml.rels"] = _relations(
                {"rId1": ("notesSlide", f"../notesSlides/n{number}.xml")}
            )
    members["ppt/_rels/presentation.xml.rels"] = _relations(relations)
    members["ppt/presentation.xml"] = (
        '<p:presentation xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        f'xmlns:r="{_OFFICE}"><p:sldIdLst>{order}</p:sldIdLst></p:presentation>'
    )
    return zipped(members)


def sheets(
    content: Mapping[str, Sequence[Sequence[str | float | None]]],
    *,
    corner: tuple[int, int] = (0, 0),
    merged: Mapping[str, Sequence[str]] | None = None,
    formats: Mapping[str, str] | None = None,
) -> bytes:
    """Return a spreadsheet (xlsx) with rows by sheet, and formulas (``=…``) without a value.

    ``corner`` is the row and the column, from 0, where each sheet begins. ``merged`` has ranges of cells by sheet,
    ``formats`` the number formats of cells in every sheet.
    """
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations, sheet_elements = {}, ""
    codes = list(dict.fromkeys((formats or {}).values()))
    styles = {name: f' s="{1 + codes.index(code)}"' for name, code in (formats or {}).items()}
    members: dict[str, str] = {}
    for i, (name, rows) in enumerate(content.items(), start=1):
        relations[f"rId{i}"] = ("worksheet", f"worksheets/sheet{i}.xml")
        sheet_elements += f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"/>'
        lines = ""
        for r, row in enumerate(rows, start=1 + corner[0]):
            names = {c: f"{chr(65 + c)}{r}" for c in range(corner[1], corner[1] + len(row))}
            cells = "".join(
                f'<c r="{names[c]}"><f>{escape(v[1:])}</f></c>'
                if isinstance(v, str) and v.startswith("=")
                else f'<c r="{names[c]}"{styles.get(names[c], "")} t="inlineStr"><is><t>{escape(v)}</t></is></c>'
                if isinstance(v, str)
                else f'<c r="{names[c]}"{styles.get(names[c], "")}><v>{v}</v></c>'
                for c, v in enumerate(row, start=corner[1])
                if v is not None
            )
            lines += f'<row r="{r}">{cells}</row>'
        ranges = "".join(f'<mergeCell ref="{cells}"/>' for cells in (merged or {}).get(name, ()))
        members[f"xl/worksheets/sheet{i}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData>'
            f"{f'<mergeCells>{ranges}</mergeCells>' if ranges else ''}</worksheet>"
        )
    if codes:
        number_formats = "".join(
            f'<numFmt numFmtId="{i}" formatCode="{escape(code, {chr(34): "&quot;"})}"/>'
            for i, code in enumerate(codes, 200)
        )
        style_formats = "".join(f'<xf numFmtId="{i}"/>' for i in (0, *range(200, 200 + len(codes))))
        members["xl/styles.xml"] = (
            f'<styleSheet xmlns="{main}"><numFmts>{number_formats}</numFmts><cellXfs>{style_formats}</cellXfs>'
            "</styleSheet>"
        )
        relations["styles"] = ("styles", "styles.xml")
    members["xl/_rels/workbook.xml.rels"] = _relations(relations)
    members["xl/workbook.xml"] = (
        f'<workbook xmlns="{main}" xmlns:r="{_OFFICE}"><sheets>{sheet_elements}</sheets></workbook>'
    )
    kinds = "http://schemas.openxmlformats.org/package/2006/content-types"
    members["[Content_Types].xml"] = f'<Types xmlns="{kinds}"/>'
    members["_rels/.rels"] = _relations({"rId1": ("officeDocument", "xl/workbook.xml")})
    return zipped(members)


def opendocument(
    body: str,
    kind: str = "text",
    *,
    title: str = "",
    locked: bool = False,
    styles: str = "",
    pages: str = "",
    members: Mapping[str, str] | None = None,
) -> bytes:
    """Return an OpenDocument file with that content; its elements have the usual prefixes.

    ``styles`` are automatic styles, ``pages`` are styles of pages, ``members`` further files in the package.
    """
    spaces = " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for prefix, name in (
            ("office", "office"),
            ("text", "text"),
            ("table", "table"),
            ("draw", "drawing"),
            ("presentation", "presentation"),
            ("manifest", "manifest"),
            ("style", "style"),
            ("svg", "svg-compatible"),
            ("chart", "chart"),
        )
    )
    spaces += ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:m="http://www.w3.org/1998/Math/MathML"'
    dc = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    crypt = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>" if locked else ""
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "META-INF/manifest.xml": f"<manifest:manifest {spaces}>{crypt}</manifest:manifest>",
            "meta.xml": f"<office:document-meta {spaces} {dc}><office:meta><dc:title>{title}</dc:title></office:meta>"
            "</office:document-meta>",
            "content.xml": f"<office:document-content {spaces}><office:automatic-styles>{styles}"
            f"</office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}>"
            "</office:body></office:document-content>",
            "styles.xml": f"<office:document-styles {spaces}><office:master-styles>{pages}</office:master-styles>"
            "</office:document-styles>",
            **{name: content.replace(">", f" {spaces}>", 1) for name, content in (members or {}).items()},
        }
    )


def book(title: str, chapters: Sequence[str]) -> bytes:
    """Return an EPUB with the bodies of its chapters, stored in an order other than the reading order."""
    items = "".join(
        f'<item id="c{i}" href="text/%63{i}.xhtml" media-type="application/xhtml+xml"/>'
        for i in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/package.opf"/></rootfiles></container>',
        "OEBPS/package.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title><dc:creator>A. Writer</dc:creator>'
        f"</metadata><manifest>{items}</manifest><spine>{spine}</spine></package>",
    }
    for i in reversed(range(len(chapters))):
        members[f"OEBPS/text/c{i}.xhtml"] = (
            f'<html xmlns="http://www.w3.org/1999/xhtml"><head/><body>{chapters[i]}</body></html>'.encode()
        )
    return zipped(members)


def notebook(*cells: tuple[str, str, str]) -> bytes:
    """Return a Jupyter notebook: kind, source and printed output of each cell."""
    cell_objects = [
        {
            "cell_type": kind,
            "source": source.splitlines(keepends=True),
            "outputs": [{"output_type": "stream", "text": [printed]}] if printed else [],
        }
        for kind, source, printed in cells
    ]
    return json.dumps(
        {"cells": cell_objects, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
    ).encode()


def mail(subject: str, text: str, *attached: tuple[str, bytes], html: str = "") -> bytes:
    """Return a message with attachments."""
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "Ann <ann@example.org>"
    message["To"] = "bob@example.org"
    message["Date"] = "Fri, 20 Nov 2026 10:00:00 +0000"
    if html:
        message.set_content(html, subtype="html")
    else:
        message.set_content(text)
    for name, data in attached:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()
