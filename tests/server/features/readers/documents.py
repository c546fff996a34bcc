"""Builders of test documents: a chain of texts, hand-written PDF and zip files, and Word files from its own library."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import docx
from docx.oxml import parse_xml
from PIL import ImageFont

CHAIN_QUESTION = "Which river flows by the birth place of the founder of the builder of the Orlix lamp?"
CHAIN_EVIDENCE = frozenset({"lamp.txt", "works.txt", "velling.txt", "river.txt"})
"""Texts of `chain` that answer its question in four hops."""


def chain(others: int) -> dict[str, str]:
    """Return texts by name: four that each mention something of the previous one, and others with the same words."""
    return {
        "lamp.txt": "The Orlix lamp was built by Harwick Works, and it burned for years.",
        "works.txt": "An uncle lent the money with which Mara Velling set up Harwick Works.",
        "velling.txt": "A plaque in Port Ansel marks the house of the birth of Mara Velling.",
        "river.txt": "Barges reach Port Ansel by the Issentrill as long as the ice allows.",
        **{
            f"other{n}.txt": f"The founder of the builder of another lamp was born near river number {n}."
            for n in range(others)
        },
    }


def write_files(folder: Path, texts: Mapping[str, str]) -> Path:
    """Create a folder with a file for each text."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def ruled(lines: Sequence[str], columns: Sequence[int], rows: range, indent: int = 0) -> str:
    """Return the borders of a table in a page of `pdf`: its ``rows`` of lines, its ``columns`` in characters."""
    left_edge, right = (50 + 7.2 * (columns[i] + indent) - 3 for i in (0, -1))
    assert rows.stop <= len(lines)
    across = [740 - 16 * row + 12 for row in (*rows, rows.stop)]
    top, bottom = across[0], across[-1]
    downs = [50 + 7.2 * (column + indent) - 3 for column in columns]
    strokes = [f"{left_edge} {y} m {right} {y} l S" for y in across]
    return "\n".join([*strokes, *(f"{x} {top} m {x} {bottom} l S" for x in downs)]) + "\n"


def pdf(
    *pages: str,
    encrypt: bool = False,
    outline: Sequence[tuple[str, int, int]] = (),
    drawn: Mapping[int, str] | None = None,
    title: str = "",
) -> bytes:
    """Return a PDF with one line of text for each line of a page; Chinese uses a font with a ToUnicode map.

    Every character is 7.2 points wide, every line 16 points high. ``drawn`` contains other page contents, by page from
    0.

    ``outline`` are bookmarks: title, page from 0, and the number of the parent bookmark (from 1 in this list; 0:
    none).
    """
    characters = sorted({c for page in pages for c in page if c != "\n"})
    codes = {c: i + 1 for i, c in enumerate(characters)}
    objects: list[bytes] = [
        f"<< /Type /Catalog /Pages 2 0 R /Outlines {7 + 2 * len(pages)} 0 R >>".encode(),
        f"<< /Type /Pages /Kids [{' '.join(f'{7 + 2 * i} 0 R' for i in range(len(pages)))}] "
        f"/Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [4 0 R] "
        b"/ToUnicode 6 0 R >>",
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /CIDSystemInfo << /Registry (Adobe) "
        b"/Ordering (Identity) /Supplement 0 >> /FontDescriptor 5 0 R /DW 600 >>",
        b"<< /Type /FontDescriptor /FontName /X /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0 /Ascent 800 "
        b"/Descent -200 /CapHeight 700 /StemV 80 >>",
        _stream(_unicode_map(codes).encode()),
    ]
    for i, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {8 + 2 * i} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode()
        )
        lines = [f"<{''.join(f'{codes[c]:04X}' for c in line)}> Tj 0 -16 Td" for line in page.split("\n")]
        shapes = (drawn or {}).get(i, "")
        objects.append(_stream((shapes + "BT /F 12 Tf 50 740 Td\n" + "\n".join(lines) + "\nET").encode()))
    objects.extend(_outline(outline, 7 + 2 * len(pages)))
    return _assemble(objects, encrypt=encrypt, title=title)


_TURNED = ("", "0 1 -1 0 792 0 cm\n", "-1 0 0 -1 792 792 cm\n", "0 -1 1 0 0 792 cm\n")


def laid_out(
    pieces: Sequence[tuple[int, int, str]], *, quarters: int = 0, rotate: int | None = None, drawn: str = ""
) -> bytes:
    """Return a one-page PDF with pieces of text in order: points from the left, points from the lower edge, text.

    The text is upright once the page is turned clockwise by ``quarters``, as for wide pages in reports. The page is
    shown turned by ``rotate`` quarters, or upright. ``drawn`` is turned with the text.
    """
    quarter_turns = quarters if rotate is None else rotate
    content = (
        _TURNED[quarters]
        + drawn
        + "".join(f"BT /F 10 Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in pieces)
    )
    return _page(_stream(content.encode()), rotate=90 * quarter_turns)


def packed(content: bytes, filters: str) -> bytes:
    """Return a one-page PDF whose content stream is packed with ``filters``, such as ``[/A85 /Fl]``."""
    return _page(_stream(content, f"/Filter {filters}"))


def _page(stream: bytes, *, rotate: int = 0) -> bytes:
    return _assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 792 792] /Contents 5 0 R "
            b"/Resources << /Font << /F 3 0 R >> >> /Rotate %d >>" % rotate,
            stream,
        ],
        encrypt=False,
        title="",
    )


def vertical(columns: Sequence[tuple[int, int, str]]) -> bytes:
    """Return a one-page PDF with vertical columns of Chinese: points from the left, points from the lower edge, text.

    The font is embedded, because PDFium measures vertical characters by their outlines. The outlines are Latin.
    """
    font = ImageFont.load_default(10)
    assert isinstance(font, ImageFont.FreeTypeFont)
    characters = sorted({c for _, _, text in columns for c in text})
    codes = {c: i + 35 for i, c in enumerate(characters)}
    content = "".join(
        f"BT /F 12 Tf {x} {y} Td <{''.join(f'{codes[c]:04X}' for c in text)}> Tj ET\n"
        for x, y, text in columns
    )
    return _assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [7 0 R] /Count 1 >>",
            b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-V /DescendantFonts [4 0 R] "
            b"/ToUnicode 6 0 R >>",
            b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /CIDSystemInfo << /Registry (Adobe) "
            b"/Ordering (Identity) /Supplement 0 >> /FontDescriptor 5 0 R /DW 1000 /CIDToGIDMap /Identity >>",
            b"<< /Type /FontDescriptor /FontName /X /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0 /Ascent 800 "
            b"/Descent -200 /CapHeight 700 /StemV 80 /FontFile2 9 0 R >>",
            _stream(_unicode_map(codes).encode()),
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 8 0 R "
            b"/Resources << /Font << /F 3 0 R >> >> >>",
            _stream(content.encode()),
            _stream(font.font_bytes),
        ],
        encrypt=False,
        title="",
    )


def _unicode_map(codes: Mapping[str, int]) -> str:
    """Return the ToUnicode map of a font."""
    mapping = "\n".join(f"<{code:04X}> <{c.encode('utf-16-be').hex()}>" for c, code in codes.items())
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        "1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
        f"{len(codes)} beginbfchar\n{mapping}\nendbfchar\nendcmap end end"
    )


def _outline(marks: Sequence[tuple[str, int, int]], first: int) -> list[bytes]:
    """Return the bookmark root as object number ``first``, followed by one object for each bookmark."""

    def links(above: int) -> str:
        below = [i for i, mark in enumerate(marks, start=1) if mark[2] == above]
        return f"/First {first + below[0]} 0 R /Last {first + below[-1]} 0 R" if below else ""

    outline_objects = [f"<< /Type /Outlines {links(0)} >>".encode()]
    for i, (title, page, above) in enumerate(marks, start=1):
        next_siblings = [j for j, mark in enumerate(marks, start=1) if j > i and mark[2] == above]
        following = f"/Next {first + next_siblings[0]} 0 R" if next_siblings else ""
        text = "FEFF" + title.encode("utf-16-be").hex()
        outline_objects.append(
            f"<< /Title <{text}> /Parent {first + above} 0 R /Dest [{7 + 2 * page} 0 R /Fit] {following} "
            f"{links(i)} >>".encode()
        )
    return outline_objects


def _stream(data: bytes, entries: str = "") -> bytes:
    return f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream"


def _assemble(objects: Sequence[bytes], *, encrypt: bool, title: str) -> bytes:
    out = bytearray(b"%PDF-1.5\n")
    offsets = []
    parts = list(objects)
    if encrypt:
        # The standard handler, with digests that no empty password opens.
        parts.append(
            b"<< /Filter /Standard /V 1 /R 2 /Length 40 /P -44 /O <"
            + b"41" * 32
            + b"> /U <"
            + b"42" * 32
            + b"> >>"
        )
    for number, content in enumerate(parts, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    last = len(parts)
    if title:
        offsets.append(len(out))
        parts.append(f"<< /Title <FEFF{title.encode('utf-16-be').hex()}> >>".encode())
        out += f"{len(parts)} 0 obj\n".encode() + parts[-1] + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    lock = f"/Encrypt {last} 0 R /ID [<00><00>] " if encrypt else ""
    lock += f"/Info {len(parts)} 0 R " if title else ""
    out += f"trailer\n<< /Size {len(parts) + 1} /Root 1 0 R {lock}>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def word(*, title: str = "") -> bytes:
    """Return a Word document with headings, a list and a table with merged cells.

    Its title is in the text, or is ``title`` in its properties.
    """
    document = docx.Document()
    if title:
        document.core_properties.title = title
    else:
        document.add_heading("Harbour handbook", 0)
    document.add_paragraph("Welcome to the harbour.")
    document.add_heading("Fees", 1)
    document.add_paragraph("A berth costs 40 crowns a night.")
    document.add_paragraph("Electricity", style="List Bullet")
    document.add_heading("价目", 2)
    document.add_paragraph("帆船每晚四十克朗。")
    table = document.add_table(rows=2, cols=3)
    for cell, text in zip(table.rows[0].cells, ("Boat", "Length", "Fee"), strict=True):
        cell.text = text
    table.rows[1].cells[0].merge(table.rows[1].cells[1]).text = "Dinghy"
    table.rows[1].cells[2].text = "15"
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def form(text: str, *fields: str) -> bytes:
    """Return a one-page PDF with a line of text and form fields."""
    numbers = " ".join(f"{6 + index} 0 R" for index in range(len(fields)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [{numbers}] /NeedAppearances true >> >>".encode(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> "
        + f"/Annots [{numbers}] >>".encode(),
        _stream(f"BT /F 12 Tf 50 740 Td ({text}) Tj ET".encode()),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *(f"<< /Type /Annot /Subtype /Widget /P 3 0 R {field} >>".encode() for field in fields),
    ]
    return _assemble(objects, encrypt=False, title="")


def annotated(
    content: str, *annotations: str, box: str = "", attachments: Mapping[str, bytes] | None = None
) -> bytes:
    """Return a one-page PDF with a content stream, annotations and attached files; ``box`` is its crop box."""
    numbers = " ".join(f"{6 + index} 0 R" for index in range(len(annotations)))
    first = 6 + len(annotations)
    names = " ".join(f"({name}) {first + 2 * index} 0 R" for index, name in enumerate(attachments or {}))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R /Names << /EmbeddedFiles << /Names [{names}] >> >> >>".encode(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> "
        b"/ExtGState << /Clear << /ca 0 >> >> >> " + f"/Annots [{numbers}] {box} >>".encode(),
        _stream(content.encode()),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *(
            f"<< /Type /Annot /Rect [9 9 99 99] /P 3 0 R {annotation} >>".encode()
            for annotation in annotations
        ),
    ]
    for index, (name, data) in enumerate((attachments or {}).items()):
        objects.append(
            f"<< /Type /Filespec /F ({name}) /UF ({name}) /EF << /F {first + 2 * index + 1} 0 R >> >>".encode()
        )
        objects.append(_stream(data, f"/Type /EmbeddedFile /Params << /Size {len(data)} >>"))
    return _assemble(objects, encrypt=False, title="")


def formulas(lines: Sequence[str]) -> bytes:
    """Return a Word document with a paragraph around each formula, given in Word's format."""
    document = docx.Document()
    space = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    for number, line in enumerate(lines):
        paragraph = document.add_paragraph("The mean is ")
        formula = parse_xml(f'<m:oMath xmlns:m="{space}">{line}</m:oMath>')
        if number % 2:
            outer = parse_xml(f'<m:oMathPara xmlns:m="{space}"/>')
            outer.append(formula)
            formula = outer
        paragraph._p.append(formula)
        paragraph.add_run(" exactly.")
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def bomb(unpacked: int) -> bytes:
    """Return a zip that claims to be a Word document and to unpack to ``unpacked`` bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 1000)
    raw = bytearray(data.getvalue())
    directory = raw.index(b"PK\x01\x02")
    struct.pack_into("<I", raw, directory + 24, unpacked)
    return bytes(raw)
