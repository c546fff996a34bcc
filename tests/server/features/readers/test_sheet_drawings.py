"""What a workbook shows beside its cells."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import pytest
from tests.server.features.readers import office
from tests.server.features.readers.reading import Reading

_SPACES = (
    'xmlns:xdr="http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)
_RELATIONS = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
_ROWS = {"Tariff": [["Harbour", "Dues"], ["Lindau", 23]]}
_CELLS = "Harbour | Dues\nLindau | 23"
_SERIES = (
    "<c:ser><c:tx><c:v>Boats</c:v></c:tx><c:cat><c:pt idx='0'><c:v>June</c:v></c:pt></c:cat>"
    "<c:val><c:pt idx='0'><c:v>31</c:v></c:pt></c:val></c:ser>"
)


def workbook(drawing: str, sheet_end: str = "") -> bytes:
    """Return a workbook whose sheet has a drawing, and ``sheet_end`` behind its cells."""
    with zipfile.ZipFile(io.BytesIO(office.sheets(_ROWS))) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    members[sheet] = members[sheet].replace("</worksheet>", f"{sheet_end}</worksheet>")
    parts: Mapping[str, str] = {
        "xl/worksheets/_rels/sheet1.xml.rels": relation("drawing", "../drawings/drawing1.xml"),
        "xl/drawings/drawing1.xml": f"<xdr:wsDr {_SPACES}>{drawing}</xdr:wsDr>",
        "xl/drawings/_rels/drawing1.xml.rels": relation("chart", "../charts/chart1.xml"),
        "xl/charts/chart1.xml": f"<c:chartSpace {_SPACES}><c:title><a:t>Summer</a:t></c:title>{_SERIES}</c:chartSpace>",
    }
    return office.zipped({**members, **(parts if drawing else {})})


def relation(kind: str, target: str) -> str:
    return f'<Relationships {_RELATIONS}><Relationship Id="rId1" Type="x/{kind}" Target="{target}"/></Relationships>'


def anchor(content: str, attributes: str = "") -> str:
    properties = f'<xdr:nvSpPr><xdr:cNvPr id="1" name="x"{attributes}/></xdr:nvSpPr>'
    return f"<xdr:twoCellAnchor><xdr:sp>{properties}{content}</xdr:sp></xdr:twoCellAnchor>"


def text(*lines: str) -> str:
    return (
        "<xdr:txBody>"
        + "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in lines)
        + "</xdr:txBody>"
    )


DRAWN = {
    "a text box": (anchor(text("Beware of rapids", "and reefs")), "Beware of rapids\nand reefs"),
    "a description of a picture": (anchor("", ' descr="A brigantine"'), "A brigantine"),
    "a chart": (anchor('<a:graphic><c:chart r:id="rId1"/></a:graphic>'), "Summer\nBoats: June 31"),
    "two forms of one box": (
        f"<mc:AlternateContent><mc:Choice>{anchor(text('once'))}</mc:Choice><mc:Fallback>{anchor(text('once'))}"
        "</mc:Fallback></mc:AlternateContent>",
        "once",
    ),
    "a hidden box beside another": (anchor(text("secret"), ' hidden="1"') + anchor(text("shown")), "shown"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DRAWN)
async def test_drawings_of_a_sheet_follow_its_cells(read: Reading, kind: str) -> None:
    drawing, lines = DRAWN[kind]
    cells, drawing_part = await read("a.xlsx", workbook(drawing))
    assert (cells.text, drawing_part.text, drawing_part.place.sheet) == (_CELLS, lines, "Tariff")


@pytest.mark.parametrize("drawing", ["<damaged", anchor('<a:graphic><c:chart r:id="rId9"/></a:graphic>')])
async def test_a_damaged_drawing_costs_no_cell(read: Reading, drawing: str) -> None:
    [cells] = await read("a.xlsx", workbook(drawing))
    assert cells.text == _CELLS


async def test_headers_and_footers_of_pages_are_the_last_part(read: Reading) -> None:
    header = "&amp;L&amp;&quot;Arial,Bold&quot;&amp;14Harbour &amp;amp;&amp;amp; co&amp;R&amp;P/&amp;N"
    footer = "&amp;CPage &amp;P of &amp;N&amp;RDraft of 2026 &amp;KFF0000red"
    end = f"<headerFooter><oddHeader>{header}</oddHeader><oddFooter>{footer}</oddFooter></headerFooter>"
    cells, pages = await read("a.xlsx", workbook("", end.replace("&amp;amp;", "&amp;")))
    assert (cells.text, pages.text) == (_CELLS, "Harbour & co\nDraft of 2026 red")


async def test_drawings_errors_and_covered_cells_of_an_opendocument_sheet(read: Reading) -> None:
    frame = "<draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    body = (
        f"<table:table table:name='Tariff'><table:shapes>{frame.format('Beware of rapids')}</table:shapes>"
        "<table:table-row><table:table-cell office:value-type='string' table:number-columns-spanned='2'>"
        "<text:p>Lindau</text:p></table:table-cell><table:covered-table-cell office:value-type='string'>"
        "<text:p>covered</text:p></table:covered-table-cell></table:table-row><table:table-row>"
        "<table:table-cell office:value-type='string' office:string-value=''><text:p>#DIV/0!</text:p>"
        "</table:table-cell><table:table-cell office:value-type='string'><text:p>Ostend</text:p>"
        f"{frame.format('reefs')}</table:table-cell></table:table-row><table:table-row><table:table-cell>"
        f"{frame.format('shoals')}</table:table-cell></table:table-row></table:table>"
    )
    pages = (
        "<style:master-page><style:header><text:p>Provisional</text:p></style:header>"
        "<style:footer style:display='false'><text:p>hidden</text:p></style:footer></style:master-page>"
    )
    parts = await read("a.ods", office.opendocument(body, "spreadsheet", pages=pages))
    assert (
        "\n".join(part.text for part in parts)
        == "Lindau\n#DIV/0! | Ostend\nBeware of rapids\nreefs\nshoals\nProvisional"
    )
