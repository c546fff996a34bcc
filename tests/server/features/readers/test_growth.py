"""Hostile documents of every format: twice the size costs about twice the work.

Lines of Python are counted. Work in C, such as the search for a pattern, is not a line. For such documents, the time
limit of the reader is the bound: with the square of their size, they would take minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any, Final, TypeAlias

import pytest
from tests.server.features.readers import documents, office
from tests.server.features.readers.reading import Reading

from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.documents import document_format
from portico_server.features.readers.worker import batches

Build: TypeAlias = Callable[[int], bytes]
"""Returns a document with ``n`` repetitions of what makes it hostile."""

COUNTED: Final = 2_000
"""Repetitions for which lines are counted; then for twice as many."""

LARGE: Final = 200_000
"""Repetitions of a text that a reader finishes within its time limit."""

MAX_GROWTH: Final = 2.3


def text(pattern: str, before: str = "", after: str = "") -> Build:
    return lambda n: (before + pattern * n + after).encode()


def quarter(build: Build) -> Build:
    """Return a build of a quarter of the repetitions, for documents that take seconds to read."""
    return lambda n: build(n // 4)


def cue(pattern: str, before: str = "") -> Build:
    return text(pattern, f"00:00:01,000 --> 00:00:02,000\n{before}", "\n\n")


def markdown_cell(pattern: str) -> Build:
    return lambda n: office.notebook(("markdown", f"# a{pattern * n} x", ""))


ODT_ROW: Final = "<table:table-row><table:table-cell><text:p>a</text:p></table:table-cell></table:table-row>"


def paragraph(style: str) -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>a</w:t></w:r></w:p>'


def cell(properties: str) -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl><w:tblPr/><w:tblGrid/>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def word(body: str, styles: int = 0) -> bytes:
    """Return a Word document with this body and with additional styles, of which the first is the last in the file."""
    style_elements = "".join(
        f'<w:style w:type="paragraph" w:styleId="s{number}"><w:name w:val="S{number}"/></w:style>'
        for number in reversed(range(styles))
    )
    data = documents.word()
    data = office.rewritten(data, "word/styles.xml", "</w:styles>", f"{style_elements}</w:styles>")
    return office.rewritten(data, "word/document.xml", "(?s)<w:body>.*</w:body>", f"<w:body>{body}</w:body>")


def nested_formula(depth: int) -> str:
    return "<m:sSub><m:e/><m:sub>" * depth + "<m:r><m:t>a</m:t></m:r>" + "</m:sub></m:sSub>" * depth


def nested_table(depth: int) -> str:
    opening = "<table:table><table:table-row><table:table-cell>"
    return (
        opening * depth + "<text:p>a</text:p>" + "</table:table-cell></table:table-row></table:table>" * depth
    )


def exchange(schema: str, lines: Iterable[str]) -> bytes:
    """Return a STEP or IFC file with these instances, numbered from 1."""
    data = "".join(f"#{number}={line};\n" for number, line in enumerate(lines, 1))
    return f"ISO-10303-21;\nHEADER;\nFILE_SCHEMA(('{schema}'));\nENDSEC;\nDATA;\n{data}END-ISO-10303-21;\n".encode()


def references(first: int, count: int) -> str:
    return "(" + ",".join(f"#{number}" for number in range(first, first + count)) + ")"


GLOBAL_ID: Final = "'0123456789012345678901'"


def building(elements: int, sets: int = 1, properties: int = 1, name: str = "a", value: str = "b") -> bytes:
    """Return a building whose elements share all property sets, and whose property sets share all properties."""
    first_set = properties + 1
    first_element = first_set + sets
    return exchange(
        "IFC4",
        [
            *(f"IFCPROPERTYSINGLEVALUE('{name}{number}',$,'{value}',$)" for number in range(properties)),
            *(
                f"IFCPROPERTYSET({GLOBAL_ID},$,'s{number}',$,{references(1, properties)})"
                for number in range(sets)
            ),
            *[f"IFCWALL({GLOBAL_ID},$,'w',$)"] * elements,
            f"IFCRELDEFINESBYPROPERTIES({GLOBAL_ID},$,$,$,{references(first_element, elements)},"
            f"{references(first_set, sets)})",
        ],
    )


def typed_building(count: int) -> bytes:
    """Return a building whose elements have one type with many property sets."""
    return exchange(
        "IFC4",
        [
            "IFCPROPERTYSINGLEVALUE('a',$,'b',$)",
            *(f"IFCPROPERTYSET({GLOBAL_ID},$,'s{number}',$,(#1))" for number in range(count)),
            f"IFCWALLTYPE({GLOBAL_ID},$,'t',$,$,{references(2, count)})",
            *[f"IFCWALL({GLOBAL_ID},$,'w',$)"] * count,
            f"IFCRELDEFINESBYTYPE({GLOBAL_ID},$,$,$,{references(count + 3, count)},#{count + 2})",
        ],
    )


def storeys(count: int) -> bytes:
    """Return a building with many storeys and a long name."""
    return exchange(
        "IFC4",
        [
            f"IFCBUILDING({GLOBAL_ID},$,'{'a' * count}',$,$,$,$,$)",
            *[f"IFCBUILDINGSTOREY({GLOBAL_ID},$,'b',$,$,$,$,$,$,$)"] * count,
            f"IFCRELAGGREGATES({GLOBAL_ID},$,$,$,#1,{references(2, count)})",
        ],
    )


def grouped_building(count: int) -> bytes:
    """Return a building whose property sets share a chain of groups of properties, and that has many classes."""
    lines = [
        *(f"IFCCOMPLEXPROPERTY('g',$,'',{references(number + 2, 1)})" for number in range(count)),
        f"IFCCOMPLEXPROPERTY('g',$,'',{references(1, count)})",
        *[f"IFCPROPERTYSET({GLOBAL_ID},$,'s',$,{references(1, 1)})"] * count,
        *[f"IFCDOOR({GLOBAL_ID},$,'w',$)"] * count,
        *["IFCCLASSIFICATIONREFERENCE($,'c',$,$)"] * count,
    ]
    sets, doors, classes = (count * part + 2 for part in (1, 2, 3))
    relations = [
        f"IFCRELDEFINESBYPROPERTIES({GLOBAL_ID},$,$,$,{references(doors, count)},{references(sets, 1)})",
        *(
            f"IFCRELASSOCIATESCLASSIFICATION({GLOBAL_ID},$,$,$,{references(doors + number, 1)},#{classes + number})"
            for number in range(count)
        ),
    ]
    return exchange("IFC4", [*lines, *relations])


def drawing(count: int, entity: str, block: str = "") -> bytes:
    """Return a drawing of release 12 with many entities, and as many blocks. ``N`` is the number of each."""
    entities, blocks = (
        "".join(tags.replace("N", str(number)) for number in range(count)) for tags in (entity, block)
    )
    sections = f"0|SECTION|2|BLOCKS|{blocks}0|ENDSEC|0|SECTION|2|ENTITIES|{entities}0|ENDSEC|0|EOF|"
    return sections.replace("|", "\n").encode()


BLOCK: Final = "0|BLOCK|2|BN|10|0|20|0|0|TEXT|10|0|20|0|1|a|0|INSERT|2|B0|10|0|20|0|0|ENDBLK|"


def assemblies(count: int, name: str = "a") -> bytes:
    """Return assemblies that all contain one part with a name, and belong to one assembly with this name."""
    products = count + 2
    return exchange(
        "AUTOMOTIVE_DESIGN",
        [
            *(f"PRODUCT('{name if number < 2 else number}','','',$)" for number in range(products)),
            *(f"PRODUCT_DEFINITION_FORMATION('','',#{number + 1})" for number in range(products)),
            *(f"PRODUCT_DEFINITION('','',#{products + number + 1},$)" for number in range(products)),
            *(
                f"NEXT_ASSEMBLY_USAGE_OCCURRENCE('','','',#{2 * products + assembly},#{2 * products + part})"
                for number in range(3, products + 1)
                for assembly, part in ((1, number), (number, 2))
            ),
        ],
    )


def slides(lines: int) -> bytes:
    return office.slides(("a", "\n".join("b" * lines), ""))


def repeated(data: bytes, member: str, pattern: str, count: int) -> bytes:
    """Return a zip file with an element of a member repeated."""
    return office.rewritten(data, member, pattern, r"\g<0>" * count)


TEXTS: Final[Mapping[str, tuple[str, Build]]] = {
    "one line": ("a.txt", text("a")),
    "one line of Chinese": ("a.txt", text("第")),
    "one line of full stops": ("a.txt", text("。")),
    "spaces": ("a.txt", text(" ", "x", "x")),
    "empty lines": ("a.txt", text("\n", "x", "x")),
    "flags": ("a.txt", text("\U0001f1e6")),
    "marks on one letter": ("a.txt", text("\u0301", "a")),
    "a row of a table": ("a.txt", text("a | ")),
    "two rows and no third": ("a.txt", lambda n: f"{'a | ' * n}\n{'a | ' * n}\nplain".encode()),
    "a wide number": ("a.txt", lambda n: f"{'1' * n}x | a\n".encode() * 3),
    "voices": ("a.vtt", cue("<v ")),
    "spaces of a voice": ("a.vtt", cue(" ", "<v")),
    "marks of subtitles": ("a.vtt", cue("<a")),
    "braces of subtitles": ("a.srt", cue("{\\a")),
    "addresses": ("a.eml", text("a,", "To: ", "\n\nx")),
    "comments of an address": ("a.eml", text("(", "To: ", "\n\nx")),
    "encoded words": ("a.eml", text("=?a?q?a?= ", "Subject: ", "\n\nx")),
    "open encoded words": ("a.eml", text("=?a?q?", "Subject: ", "\n\nx")),
    "beginning of a mailbox": ("a.mbox", text("1", "Subject: a\n\nFrom ", "x")),
    "flowed lines": ("a.eml", text("a \n", "Content-Type: text/plain; format=flowed\n\n")),
    "folded lines of a calendar": (
        "a.eml",
        text("\n a", "Content-Type: text/calendar\n\nBEGIN:VEVENT\nSUMMARY:"),
    ),
    "quotations of flowed text": ("a.eml", text("> ", "Content-Type: text/plain; format=flowed\n\n")),
    "rows that a cell covers": ("a.html", text("<tr><td>a", "<table><tr><td rowspan=1000>" + "b" * 200)),
    "long cells": ("a.html", lambda n: text("<td>a<td>" + "b" * 2_000, "<table><tr>")(n // 400)),
    "empty rows below many covering cells": (
        "a.html",
        text("<tr></tr>", "<table><tr>" + f"<td rowspan=1000>{'b' * 200}" * 1_000),
    ),
    "references to notes": ("a.html", text("<sup><a href=#n>1</a></sup>", "<p>2024")),
    "raised links to notes": ("a.html", text("<a href=#n><sup>1</sup></a>", "<p>2024")),
    "buttons": ("a.html", text("<button>a</button>")),
    "comments of a line of Markdown": ("a.md", text("<!-- a -->x")),
    "open comments of a line of Markdown": ("a.md", text("<!--")),
    "comments over lines of Markdown": ("a.md", text("--> a\n<!--", "<!--")),
    "open comments of Markdown": ("a.md", text("<!-- a\n")),
    "tags of a line of Markdown": ("a.md", text("<a ")),
    "open tables of Markdown": ("a.md", text("<table>\n")),
    "grave accents of Markdown": ("a.md", text("` <b>", "<b>")),
    "Punycode": ("a.eml", text("a", "Subject: a\nContent-Type: text/plain; charset=punycode\n\na-")),
    "links of a heading": ("a.md", text("[", "# ")),
    "targets of a heading": ("a.md", text("[a](", "# ")),
    "tags of a heading": ("a.md", text("<", "# ")),
    "spaces of a heading": ("a.md", text(" ", "# a", "x")),
    "spaces of a title": ("a.md", text(" ", "---\na: b\ntitle: a", "x\n---\n")),
    "bars of a ruled table": ("a.md", text("|")),
    "spaces of a rule": ("a.md", text(" ", "a|b\n-", "x")),
    "spaces of an AsciiDoc heading": ("a.adoc", text(" ", "= a", "x")),
    "references of AsciiDoc": ("a.adoc", text("<<a,")),
    "attributes of AsciiDoc": ("a.adoc", text("{a")),
    "roles": ("a.rst", text(":a:`b<")),
    "literals": ("a.rst", text("``:a:`")),
    "spaces of an Org heading": ("a.org", text(" ", "* a", "x")),
    "braces of a LaTeX heading": ("a.tex", text("{", "\\part{")),
    "tabs in HTML": ("a.html", text("\t", "<pre>a", "b</pre>")),
    "spaces in HTML": ("a.html", text(" ", "<pre>a", "b</pre>")),
    "open string in JSON": ("a.json", text('"')),
    "visibilities": ("a.rs", text("\npub(")),
    "receivers": ("a.go", text("\nfunc (")),
    "spaces of a class": ("a.js", text(" ", "class", "(")),
    "spaces of a heading in a notebook": ("a.ipynb", markdown_cell(" ")),
    "a cell of a sheet without an end": (
        "a.xlsx",
        lambda n: office.rewritten(
            office.sheets({"a": [["h"], [1]]}, formats={"A2": "0.0"}),
            "*sheet1.xml",
            '<c r="A2"',
            f"""<c a='{' s="1" t="e" hidden="1"' * n} < ' r="A2\"""",
        ),
    ),
}
"""Texts that patterns and functions in C read."""

STRUCTURES: Final[Mapping[str, tuple[str, Build]]] = {
    "cues": ("a.srt", text("00:00:01,000 --> 00:00:02,000\na\n\n")),
    "a heading above many": ("a.md", lambda n: f"# {'t' * n}\n{'## s' * 3}\n".encode() + b"## s\ntext\n" * n),
    "underlined headings": ("a.rst", text("\n\na\n===\n")),
    "underlined headings of plain text": ("a.txt", text("\n\nab\n===\n\nabc\n---\n")),
    "log without entries": ("a.log", text("a ")),
    "nested headings in HTML": ("a.html", quarter(text("<h1><div>a"))),
    "nested tables in HTML": ("a.html", text("<table><tr><td>a")),
    "a heading above many in HTML": (
        "a.html",
        lambda n: b"<h1>" + b"t" * n + b"</h1>" + b"<h2>s</h2>text" * n,
    ),
    "elements in XML": ("a.xml", text("<b>x</b>", "<a>", "</a>")),
    "a long name in XML": (
        "a.xml",
        lambda n: (
            b"<" + b"a" * min(n, 40_000) + b">" + b"<b>x</b><c/>y" * n + b"</" + b"a" * min(n, 40_000) + b">"
        ),
    ),
    "a header above many rows": ("a.csv", lambda n: b"h" * n + b"\n" + b"a,b\n" * n),
    "a wide row": ("a.csv", lambda n: b"a," * n + b"\n" + b"b," * n),
    "nested lists in JSON": ("a.json", text("[")),
    "members in JSON": ("a.json", text("1,", "[", "1]")),
    "settings": ("a.yaml", text("a: b\n")),
    "hunks": ("a.diff", text("@@ \n")),
    "statements on a line": ("a.py", text("a;", "import a\n")),
    "cells of a notebook": ("a.ipynb", lambda n: office.notebook(*[("markdown", "# a", "")] * n)),
    "paragraphs with many styles": ("a.docx", lambda n: word(paragraph("s0") * n, n)),
    "a cell over many columns": ("a.docx", lambda n: word(table(cell(f'<w:gridSpan w:val="{n}"/>')))),
    "a cell over many rows": ("a.docx", lambda n: word(table(*[cell("<w:vMerge/>")] * n))),
    "nested formulas": ("a.docx", lambda n: documents.formulas([nested_formula(n // 50)])),
    "a slide that is shown many times": (
        "a.pptx",
        lambda n: repeated(slides(n), "ppt/presentation.xml", "<p:sldId [^>]*>", n),
    ),
    "notes of many slides": (
        "a.pptx",
        lambda n: office.rewritten(
            office.slides(("a", "b", "c\n" * n), *[("a", "b", "c")] * (n // 10)),
            "ppt/slides/_rels/*",
            r"n\d+\.xml",
            f"n{n // 10 + 1}.xml",
        ),
    ),
    "elements of a building": ("a.ifc", building),
    "properties of many elements": ("a.ifc", quarter(lambda n: building(n, properties=n))),
    "property sets of many elements": ("a.ifc", lambda n: building(n, sets=n)),
    "property sets of a type": ("a.ifc", typed_building),
    "a long name of a property": ("a.ifc", lambda n: building(n, name="a" * n)),
    "a long value of a property": ("a.ifc", lambda n: building(n, value="b" * n)),
    "a long name above many storeys": ("a.ifc", storeys),
    "groups of properties and classes": ("a.ifc", grouped_building),
    "insertions of blocks in a drawing": (
        "a.dxf",
        lambda n: drawing(n // 10, "0|INSERT|2|BN|10|0|20|0|", BLOCK),
    ),
    "data of entities in a drawing": (
        "a.dxf",
        lambda n: drawing(n // 10, "0|LINE|10|0|20|0|11|1|21|1|1001|APP|1000|aN|"),
    ),
    "codes of a text in a drawing": (
        "a.dxf",
        lambda n: drawing(1, "0|MTEXT|10|0|20|0|1|" + "\\S1#2;\\S1/\\f\\H1" * n + "|"),
    ),
    "assemblies": ("a.stp", assemblies),
    "assemblies with a long name": ("a.stp", quarter(lambda n: assemblies(n, "a" * n))),
    "lines of a page": (
        "a.pdf",
        lambda n: documents.laid_out([(50, 780 - 12 * i, "tide") for i in range(n)]),
    ),
    "blocks of a page": (
        "a.pdf",
        lambda n: documents.laid_out([(50 + 300 * (i % 2), 780 - 12 * i, "tide") for i in range(n)]),
    ),
    "nested tables in OpenDocument": ("a.odt", lambda n: office.opendocument(nested_table(n // 50))),
    "rows in OpenDocument": (
        "a.odt",
        lambda n: office.opendocument(f"<table:table>{ODT_ROW * n}</table:table>"),
    ),
    "a chapter that is read many times": (
        "a.epub",
        lambda n: repeated(office.book("a", ["<p>a</p>" * n]), "*/package.opf", "<itemref [^>]*>", n),
    ),
    "a sheet with many names": (
        "a.xlsx",
        lambda n: repeated(
            office.sheets({"a": [["h"], *[["x"]] * n]}), "xl/workbook.xml", "<sheet [^>]*>", n
        ),
    ),
    "a header above many rows of a sheet": (
        "a.xlsx",
        lambda n: office.sheets({"a": [["h" * n], *[["x"]] * n]}),
    ),
    "files of an archive": ("a.zip", lambda n: office.zipped({f"{i}.txt": "a" for i in range(n // 10)})),
}


def count_lines(name: str, data: bytes) -> int:
    """Return the number of lines of Python that reading and chunking a document runs."""
    lines = 0
    source = SourceDocument(name, data)

    def trace(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    previous_trace = sys.gettrace()
    sys.settrace(trace)
    try:
        for _parts in batches(source, document_format(source), {"type": "auto"}):
            pass
    except Unreadable:
        pass
    finally:
        sys.settrace(previous_trace)
    return lines


@pytest.mark.parametrize(
    ("name", "build"), [*TEXTS.values(), *STRUCTURES.values()], ids=[*TEXTS, *STRUCTURES]
)
def test_parsing_work_grows_linearly_with_document_size(name: str, build: Build) -> None:
    count_lines(name, build(10))  # imports the reader
    assert count_lines(name, build(2 * COUNTED)) <= MAX_GROWTH * count_lines(name, build(COUNTED))


@pytest.mark.parametrize(("name", "build"), TEXTS.values(), ids=TEXTS)
async def test_a_long_text_is_read_within_the_time_limit(read: Reading, name: str, build: Build) -> None:
    assert await read(name, build(LARGE), {"type": "auto"})
