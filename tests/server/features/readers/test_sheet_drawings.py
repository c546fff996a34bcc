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


async def test_a_missing_chart_costs_no_cell(read: Reading) -> None:
    [cells] = await read("a.xlsx", workbook(anchor('<a:graphic><c:chart r:id="rId9"/></a:graphic>')))
    assert cells.text == _CELLS


UNDESCRIBED = {
    "a picture in xlsx": ("a.xlsx", lambda: workbook(picture("") + picture(' descr="x.png"') + picture(' hidden="1"'))),
    "a picture in ods": ("a.ods", lambda: opendocument_pictures("", "<svg:desc>x.png</svg:desc>")),
}  # fmt: skip


def picture(attributes: str) -> str:
    properties = f'<xdr:nvPicPr><xdr:cNvPr id="1" name="x"{attributes}/></xdr:nvPicPr>'
    return f"<xdr:oneCellAnchor><xdr:pic>{properties}</xdr:pic></xdr:oneCellAnchor>"


def opendocument_pictures(*descriptions: str) -> bytes:
    frames = "".join(f"<draw:frame><draw:image/>{description}</draw:frame>" for description in descriptions)
    cells = "<table:table-cell office:value-type='string'><text:p>Lindau</text:p></table:table-cell>"
    row = f"<table:table-row>{cells}</table:table-row>"
    return office.opendocument(
        f"<table:table table:name='Tariff'><table:shapes>{frames}</table:shapes>{row}</table:table>",
        "spreadsheet",
    )


@pytest.mark.parametrize("kind", UNDESCRIBED)
async def test_pictures_without_a_description_are_counted(read: Reading, kind: str) -> None:
    name, data = UNDESCRIBED[kind]
    parts = await read(name, data())
    assert parts[-1].text == f"Not read:\n{name}: 2 picture(s) without a description"
    assert len(parts) == 2


_VML = (
    '<xml xmlns:v="urn:schemas-microsoft-com:vml" xmlns:x="urn:schemas-microsoft-com:office:excel">'
    '<v:shape style="{style}"><v:textbox><div>Weigh<br>anchor</div></v:textbox><x:ClientData ObjectType="{kind}"/>'
    "</v:shape></xml>"
)


@pytest.mark.parametrize(
    ("style", "kind", "lines"),
    [
        ("position:absolute", "Button", ["Weigh anchor"]),
        ("position:absolute", "Checkbox", ["Weigh anchor"]),
        ("visibility: hidden", "Button", []),
        ("position:absolute", "Note", []),
    ],
)
async def test_captions_of_controls_follow_the_cells(
    read: Reading, style: str, kind: str, lines: list[str]
) -> None:
    members = {
        "xl/worksheets/_rels/sheet1.xml.rels": relation("vmlDrawing", "../drawings/vmlDrawing1.vml"),
        "xl/drawings/vmlDrawing1.vml": _VML.format(style=style, kind=kind),
    }
    _cells, *captions = await read("a.xlsx", office.extended(office.sheets(_ROWS), members))
    assert [part.text for part in captions] == lines


@pytest.mark.parametrize(
    ("description", "text", "unread"),
    [
        ("A schooner", "A schooner", []),
        ("", "", ["Not read:\na.xlsx: 1 picture(s) without a description"]),
    ],
)
async def test_a_picture_in_a_cell_reads_as_its_description(
    read: Reading, description: str, text: str, unread: list[str]
) -> None:
    rows: dict[str, list[list[str | float | None]]] = {
        "Tariff": [["Harbour", "Boats"], ["Lindau", 23], ["Ostend", 5]]
    }
    data = office.rewritten(
        office.sheets(rows), "*sheet1.xml", r'<c r="B2"><v>23', '<c r="B2" t="e" vm="2"><v>#VALUE!'
    )
    parts = ("sheetMetadata", "rdRichValue", "rdRichValueStructure")
    relations = "".join(f'<Relationship Id="{part}" Type="x/{part}" Target="{part}.xml"/>' for part in parts)
    data = office.rewritten(data, "*workbook.xml.rels", "</Relationships>", f"{relations}</Relationships>")
    members = {
        "xl/sheetMetadata.xml": "<metadata xmlns:r='r'><metadataTypes><metadataType name='XLDAPR'/>"
        "<metadataType name='XLRICHVALUE'/></metadataTypes><futureMetadata name='XLRICHVALUE'>"
        "<bk><r:rvb i='1'/></bk></futureMetadata><valueMetadata><bk><rc t='1' v='0'/></bk><bk><rc t='2' v='0'/></bk>"
        "</valueMetadata></metadata>",
        "xl/rdRichValue.xml": f"<rvData><rv s='0'><v>7</v></rv><rv s='1'><v>0</v><v>{description}</v></rv></rvData>",
        "xl/rdRichValueStructure.xml": "<rvStructures><s t='_error'><k n='Text'/></s><s t='_localImage'>"
        "<k n='_rvRel:LocalImageIdentifier' t='i'/><k n='Text' t='s'/></s></rvStructures>",
    }
    cells, *last_parts = await read("a.xlsx", office.extended(data, members))
    assert cells.text == f"Harbour | Boats\nLindau | {text}\nOstend | 5"
    assert [part.text for part in last_parts] == unread


@pytest.mark.parametrize("kind", ["drawing", "comments", "vmlDrawing", "table", "sheetMetadata"])
async def test_a_damaged_part_of_a_sheet_costs_only_itself(read: Reading, kind: str) -> None:
    data = office.sheets(_ROWS, formats={"B2": "0.0"})
    relations = {"xl/worksheets/_rels/sheet1.xml.rels": relation(kind, "../damaged.xml")}
    [cells] = await read("a.xlsx", office.extended(data, {**relations, "xl/damaged.xml": "<x><filterColumn"}))
    assert cells.text == f"{_CELLS}.0"


async def test_damaged_styles_of_an_opendocument_sheet_cost_only_the_drawings(read: Reading) -> None:
    data = office.rewritten(opendocument_pictures(), "styles.xml", ">", "")
    [cells] = await read("a.ods", data)
    assert cells.text == "Lindau"


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
