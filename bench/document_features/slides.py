"""Features of slides: decks that LibreOffice saves from flat OpenDocument files, and decks of python-pptx."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.dml.color import RGBColor
from pptx.enum.chart import XL_CHART_TYPE
from pptx.enum.shapes import MSO_SHAPE
from pptx.oxml import parse_xml
from pptx.util import Inches

from document_features.case import RED_SQUARE, Case, Feature, convert_with_libreoffice, save
from document_features.flat_text import NAMESPACES

_P = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'


def _flat(pages: str) -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {NAMESPACES} '
        'xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0" office:version="1.3" '
        'office:mimetype="application/vnd.oasis.opendocument.presentation"><office:automatic-styles>'
        '<style:page-layout style:name="L"><style:page-layout-properties fo:page-width="28cm" fo:page-height="21cm"/>'
        '</style:page-layout></office:automatic-styles><office:master-styles><style:master-page style:name="M" '
        'style:page-layout-name="L"/></office:master-styles>'
        f"<office:body><office:presentation>{pages}</office:presentation></office:body></office:document>"
    )


def _page(name: str, content: str) -> str:
    return f'<draw:page draw:name="{name}" draw:master-page-name="M">{content}</draw:page>'


def _frame(text: str, y: int = 2, extra: str = "") -> str:
    paragraphs = text if text.startswith("<") else f"<text:p>{text}</text:p>"
    return (
        f'<draw:frame svg:x="2cm" svg:y="{y}cm" svg:width="20cm" svg:height="2cm"{extra}><draw:text-box>{paragraphs}'
        "</draw:text-box></draw:frame>"
    )


def _shape(kind: str, text: str) -> str:
    return f'<draw:{kind} svg:x="2cm" svg:y="6cm" svg:width="8cm" svg:height="3cm"><text:p>{text}</text:p></draw:{kind}>'


_TABLE = (
    '<draw:frame svg:x="2cm" svg:y="6cm" svg:width="16cm" svg:height="4cm"><table:table><table:table-column/><table:table-column/>{}'
    "</table:table></draw:frame>"
)


def _row(*cells: str) -> str:
    return f"<table:table-row>{''.join(f'<table:table-cell><text:p>{cell}</text:p></table:table-cell>' for cell in cells)}</table:table-row>"


_TOP = _frame("Harbour rules", 1)
_FLAT: dict[Feature, str] = {
    Feature("two text boxes", ("Harbour rules", "gravel quay")): _page(
        "1", _TOP + _frame("A gravel quay.", 5)
    ),
    Feature("a rectangle with text", ("Harbour rules", "keel")): _page("1", _TOP + _shape("rect", "keel")),
    Feature("an ellipse with text", ("Harbour rules", "rudder")): _page(
        "1", _TOP + _shape("ellipse", "rudder")
    ),
    Feature("grouped shapes", ("Harbour rules", "bow", "stern")): _page(
        "1", _TOP + f"<draw:g>{_shape('rect', 'bow')}{_shape('ellipse', 'stern')}</draw:g>"
    ),
    Feature("a table in a deck", ("Berth", "Fee"), (("A-01", "23"), ("B-07", "18"))): _page(
        "1", _TOP + _TABLE.format(_row("Berth", "Fee") + _row("A-01", "23") + _row("B-07", "18"))
    ),
    Feature("a list in a box", ("Harbour rules", "hemp", "nylon")): _page(
        "1",
        _TOP
        + _frame(
            "<text:list><text:list-item><text:p>hemp</text:p></text:list-item><text:list-item><text:p>nylon</text:p>"
            "</text:list-item></text:list>",
            6,
        ),
    ),
    Feature("a picture with a description", ("Harbour rules", "lighthouse on a rock")): _page(
        "1",
        _TOP
        + '<draw:frame svg:x="2cm" svg:y="6cm" svg:width="2cm" svg:height="2cm"><draw:image><office:binary-data>'
        + base64.b64encode(RED_SQUARE).decode()
        + "</office:binary-data></draw:image><svg:desc>A lighthouse on a rock</svg:desc></draw:frame>",
    ),
    Feature("notes of the speaker", ("Harbour rules", "mention the storm")): _page(
        "1",
        _TOP
        + '<presentation:notes><draw:page-thumbnail draw:page-number="1" svg:x="2cm" svg:y="2cm" svg:width="8cm" svg:height="6cm"/>'
        '<draw:frame presentation:class="notes" svg:x="2cm" svg:y="12cm" svg:width="15cm" svg:height="8cm"><draw:text-box>'
        "<text:p>mention the storm</text:p></draw:text-box></draw:frame></presentation:notes>",
    ),
    Feature("two slides", ("Harbour rules", "Fees", "crowns")): _page("1", _TOP)
    + _page("2", _frame("Fees", 1) + _frame("23 crowns", 5)),
    Feature("a line break in a box", ("Quay 4", "22100 Lund"), hidden=("422100",)): _page(
        "1", _TOP + _frame("Quay 4<text:line-break/>22100 Lund", 5)
    ),
    Feature("a link in a box", ("Harbour rules", "the tide tables")): _page(
        "1", _TOP + _frame('See <text:a xlink:href="https://example.org/x">the tide tables</text:a>.', 5)
    ),
}


def _text(slide: Any, *lines: str, top: float = 2.0) -> Any:
    box = slide.shapes.add_textbox(Inches(1), Inches(top), Inches(6), Inches(1))
    box.text_frame.text = lines[0]
    for line in lines[1:]:
        box.text_frame.add_paragraph().text = line
    return box


def _slide(deck: Any, title: str = "Harbour rules") -> Any:
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = title
    return slide


def _table(slide: Any, rows: list[list[str]]) -> Any:
    table = slide.shapes.add_table(len(rows), len(rows[0]), Inches(1), Inches(2), Inches(6), Inches(2)).table
    for number, row in enumerate(rows):
        for column, value in enumerate(row):
            table.cell(number, column).text = value
    return table


def _columns(deck: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[3])
    for shape, text in zip(
        slide.placeholders, ("Harbour rules", "gravel quay", "granite quay"), strict=False
    ):
        shape.text = text


def _title(deck: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[0])
    slide.shapes.title.text = "Harbour rules"
    slide.placeholders[1].text = "for skippers"


def _levels(deck: Any) -> None:
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Harbour rules"
    frame = slide.placeholders[1].text_frame
    frame.text = "Ropes"
    inner = frame.add_paragraph()
    inner.text, inner.level = "hemp", 1
    frame.add_paragraph().text = "Fenders"


def _notes(deck: Any) -> None:
    slide = _slide(deck)
    slide.notes_slide.notes_text_frame.text = "mention the storm"


def _merged(deck: Any) -> None:
    table = _table(_slide(deck), [["Pontoon", "Berth"], ["North", "A-01"], ["", "A-02"]])
    table.cell(1, 0).merge(table.cell(2, 0))


def _spanning(deck: Any) -> None:
    table = _table(_slide(deck), [["Summer", ""], ["June", "July"], ["31", "32"]])
    table.cell(0, 0).merge(table.cell(0, 1))


def _group(deck: Any) -> None:
    group = _slide(deck).shapes.add_group_shape()
    for number, word in enumerate(("bow", "stern")):
        shape = group.shapes.add_shape(MSO_SHAPE.OVAL, Inches(1 + number), Inches(2), Inches(1), Inches(1))
        shape.text_frame.text = word


def _nested_group(deck: Any) -> None:
    inner = _slide(deck).shapes.add_group_shape().shapes.add_group_shape()
    inner.shapes.add_textbox(Inches(1), Inches(2), Inches(1), Inches(1)).text_frame.text = "capstan"


def _picture(deck: Any) -> None:
    picture = _slide(deck).shapes.add_picture(io.BytesIO(RED_SQUARE), Inches(1), Inches(2))
    picture._element.nvPicPr.cNvPr.set("descr", "A lighthouse on a rock")


def _chart(kind: Any) -> Callable[[Any], None]:
    def add(deck: Any) -> None:
        data = CategoryChartData()
        data.categories = ["June", "July"]
        data.add_series("Visitors", (4711, 5822))
        chart = _slide(deck).shapes.add_chart(kind, Inches(1), Inches(2), Inches(5), Inches(4), data).chart
        chart.has_title = True
        chart.chart_title.text_frame.text = "Boats in summer"

    return add


def _hidden(deck: Any) -> None:
    _text(_slide(deck), "gravel quay")
    slide = _slide(deck, "Smugglers")
    slide._element.set("show", "0")


def _hidden_shape(deck: Any) -> None:
    slide = _slide(deck)
    _text(slide, "smuggler", top=4)._element.nvSpPr.cNvPr.set("hidden", "1")
    _text(slide, "gravel quay")


def _order(deck: Any) -> None:
    slide = _slide(deck)
    _text(slide, "third berth", top=5)
    _text(slide, "second berth", top=3)
    _text(slide, "first berth", top=2)


def _runs(deck: Any) -> None:
    paragraph = _text(_slide(deck), "")._element.txBody.p_lst[0]
    for part, bold in (("un", "0"), ("moored", "1"), (" boats", "0")):
        paragraph.append(parse_xml(f'<a:r {_P}><a:rPr lang="en" b="{bold}"/><a:t>{part}</a:t></a:r>'))


def _field(deck: Any) -> None:
    paragraph = _text(_slide(deck), "Edition of ")._element.txBody.p_lst[0]
    paragraph.append(
        parse_xml(
            f'<a:fld {_P} id="{{B6F15528-21DE-4FAA-801E-634DDDAF4B2B}}" type="datetime1"><a:rPr lang="en"/><a:t>15 March 2026</a:t></a:fld>'
        )
    )


def _break(deck: Any) -> None:
    _text(_slide(deck), "Quay 4\v22100 Lund")


def _footer(deck: Any) -> None:
    slide = _slide(deck)
    slide.shapes._spTree.append(
        parse_xml(
            f'<p:sp {_P}><p:nvSpPr><p:cNvPr id="9" name="Footer"/><p:cNvSpPr/><p:nvPr><p:ph type="ftr" sz="quarter" idx="11"/></p:nvPr>'
            "</p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>Harbour office, confidential</a:t></a:r></a:p></p:txBody></p:sp>"
        )
    )


def _autoshape(kind: Any) -> Callable[[Any], None]:
    def add(deck: Any) -> None:
        shape = _slide(deck).shapes.add_shape(kind, Inches(1), Inches(2), Inches(3), Inches(2))
        shape.text_frame.text = "slack water"

    return add


def _untitled(deck: Any) -> None:
    _text(deck.slides.add_slide(deck.slide_layouts[6]), "gravel quay", "granite quay")


def _link(deck: Any) -> None:
    link = _text(_slide(deck), "See ").text_frame.paragraphs[0].add_run()
    link.text = "the tide tables"
    link.hyperlink.address = "https://example.org/x"


def _coloured(deck: Any) -> None:
    box = _text(_slide(deck), "gravel quay")
    box.text_frame.paragraphs[0].runs[0].font.color.rgb = RGBColor(0x22, 0x22, 0x22)


def _cell_lines(deck: Any) -> None:
    _table(_slide(deck), [["Berth", "Notes"], ["A-01", "lit\nguarded"]])


def _three(deck: Any) -> None:
    for title in ("Harbour rules", "Fees", "Keys"):
        _slide(deck, title)


_BUILT: dict[Feature, Callable[[Any], None]] = {
    Feature("a title and a subtitle", ("Harbour rules", "for skippers")): _title,
    Feature("levels of a list", ("Harbour rules", "Ropes", "hemp", "Fenders")): _levels,
    Feature("two columns of placeholders", ("Harbour rules", "gravel quay", "granite quay")): _columns,
    Feature("notes", ("Harbour rules", "mention the storm")): _notes,
    Feature("a table", ("Berth", "Fee"), (("A-01", "23"), ("B-07", "18"))): lambda deck: _table(
        _slide(deck), [["Berth", "Fee"], ["A-01", "23"], ["B-07", "18"]]
    ),
    Feature(
        "a cell over two rows", ("Pontoon", "A-01", "A-02"), (("North", "A-01"), ("North", "A-02"))
    ): _merged,
    Feature("a cell over two columns", ("Summer", "June", "July"), (("31", "32"),)): _spanning,
    Feature("an empty cell", ("Berth", "Fee"), (("A-02", "28"),)): lambda deck: _table(
        _slide(deck), [["Berth", "Length", "Fee"], ["A-01", "", "23"], ["A-02", "", "28"]]
    ),
    Feature(
        "two lines in a cell", ("Berth", "lit", "guarded"), (("A-01", "lit"),), ("litguarded",)
    ): _cell_lines,
    Feature("a group of shapes", ("Harbour rules", "bow", "stern")): _group,
    Feature("a group in a group", ("Harbour rules", "capstan")): _nested_group,
    Feature("alternative text", ("Harbour rules", "lighthouse on a rock")): _picture,
    Feature("a column chart", ("Boats in summer",), (("June", "4711"), ("July", "5822"))): _chart(
        XL_CHART_TYPE.COLUMN_CLUSTERED
    ),
    Feature("a pie chart", ("Boats in summer",), (("June", "4711"),)): _chart(XL_CHART_TYPE.PIE),
    Feature("a line chart", ("Boats in summer",), (("July", "5822"),)): _chart(XL_CHART_TYPE.LINE),
    Feature("a hidden slide", ("Harbour rules", "gravel quay"), hidden=("Smugglers",)): _hidden,
    Feature("a hidden shape", ("Harbour rules", "gravel quay"), hidden=("smuggler",)): _hidden_shape,
    Feature(
        "boxes in another order", ("Harbour rules", "first berth", "second berth", "third berth")
    ): _order,
    Feature("half of a word bold", ("Harbour rules", "unmoored boats"), hidden=("un moored",)): _runs,
    Feature("a field", ("Harbour rules", "Edition of 15 March 2026")): _field,
    Feature("a line break", ("Quay 4", "22100 Lund"), hidden=("422100",)): _break,
    Feature("a footer", ("Harbour rules", "Harbour office, confidential")): _footer,
    Feature("text in an arrow", ("Harbour rules", "slack water")): _autoshape(MSO_SHAPE.RIGHT_ARROW),
    Feature("text in a callout", ("Harbour rules", "slack water")): _autoshape(MSO_SHAPE.RECTANGULAR_CALLOUT),
    Feature("a slide without a title", ("gravel quay", "granite quay")): _untitled,
    Feature("a link", ("Harbour rules", "See the tide tables")): _link,
    Feature("coloured text", ("Harbour rules", "gravel quay")): _coloured,
    Feature("Chinese text", ("Harbour rules", "泊位每晚二十三克朗")): lambda deck: _text(
        _slide(deck), "泊位每晚二十三克朗"
    ),
    Feature("signs and emoji", ("Harbour rules", "⚓ ½ €")): lambda deck: _text(_slide(deck), "⚓ ½ €"),
    Feature("three slides", ("Harbour rules", "Fees", "Keys")): _three,
}


def cases(folder: Path) -> Iterator[Case]:
    """Write the decks."""
    yield from convert_with_libreoffice(
        folder, {feature: _flat(pages) for feature, pages in _FLAT.items()}, "fodp", ("pptx",)
    )
    for feature, build in _BUILT.items():
        deck = Presentation()
        build(deck)
        data = io.BytesIO()
        deck.save(data)
        yield save(folder, "python-pptx", feature, "pptx", data.getvalue())
