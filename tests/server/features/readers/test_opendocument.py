"""What a person sees in an OpenDocument text."""

from __future__ import annotations

import pytest
from tests.server.features.readers import office
from tests.server.features.readers.reading import Reading

_STYLES = (
    "<style:style style:name='Gone' style:family='text'><style:text-properties text:display='none'/></style:style>"
    "<style:style style:name='Gone' style:family='paragraph'><style:text-properties/></style:style>"
    "<text:list-style style:name='N'>"
    "<text:list-level-style-number text:level='1' style:num-format='1' style:num-suffix='.' text:start-value='4'/>"
    "<text:list-level-style-number text:level='2' style:num-format='a' style:num-prefix='(' style:num-suffix=')'/>"
    "<text:list-level-style-bullet text:level='3'/></text:list-style>"
)
_FRACTION = (
    "<m:math><m:semantics><m:mfrac><m:mi>y</m:mi><m:mn>2</m:mn></m:mfrac><m:annotation>y over 2</m:annotation>"
    "</m:semantics></m:math>"
)
_CHART = (
    "<office:document-content><office:body><office:chart><chart:chart><chart:title><text:p>Boats</text:p></chart:title>"
    "<table:table><table:table-rows><table:table-row><table:table-cell><text:p>June</text:p></table:table-cell>"
    "<table:table-cell><text:p>31</text:p></table:table-cell></table:table-row></table:table-rows></table:table>"
    "</chart:chart></office:chart></office:body></office:document-content>"
)
_MEMBERS = {
    "Formula-1/content.xml": _FRACTION,
    "Object 1/content.xml": _CHART,
    "Object 2/content.xml": "<damaged",
}


def par(*content: str, style: str = "Standard") -> str:
    return f"<text:p text:style-name='{style}'>{''.join(content)}</text:p>"


def note(text: str, kind: str = "footnote") -> str:
    return (
        f"<text:note text:note-class='{kind}'><text:note-citation>i</text:note-citation><text:note-body>{par(text)}"
        "</text:note-body></text:note>"
    )


def frame(content: str, description: str = "") -> str:
    return f"<draw:frame>{content}<svg:title>{description}</svg:title></draw:frame>"


def embedded_object(name: str) -> str:
    return frame(f"<draw:object xlink:href='./{name}'/>")


def items(*texts: str, style: str = "", attributes: str = "") -> str:
    style_attribute = f" text:style-name='{style}'" if style else ""
    list_items = "".join(f"<text:list-item>{text}</text:list-item>" for text in texts)
    return f"<text:list{style_attribute}{attributes}>{list_items}</text:list>"


def row(*cells: str) -> str:
    return f"<table:table-row>{''.join(cells)}</table:table-row>"


def cell(text: str, attributes: str = "") -> str:
    return f"<table:table-cell{attributes}>{par(text)}</table:table-cell>"


def table(*rows: str) -> str:
    return f"<table:table>{''.join(rows)}</table:table>"


_COVERED = "<table:covered-table-cell/>"

SEEN = {
    "a comment": (
        par("The winch<office:annotation><text:p>replace it</text:p></office:annotation> is old."),
        "The winch is old.\nComment: replace it",
    ),
    "two footnotes": (
        par("Of gravel", note("coarse"), " and granite", note("grey", "endnote"), "."),
        "Of gravel[1] and granite[2].\n[1] coarse\n[2] grey",
    ),
    "a hidden span": (par("A<text:span text:style-name='Gone'> secret</text:span> lamp"), "A lamp"),
    "a paragraph whose style has the name of a hidden span": (par("A lamp", style="Gone"), "A lamp"),
    "a hidden section": (
        f"<text:section text:display='none'>{par('secret')}</text:section>{par('A lamp')}",
        "A lamp",
    ),
    "a section that a condition hides": (
        f"<text:section text:display='condition' text:is-hidden='true'>{par('secret')}</text:section>"
        + par("A lamp"),
        "A lamp",
    ),
    "a text box": (
        par("An", frame(f"<draw:text-box>{par('opens at noon')}</draw:text-box>"), " anchor"),
        "An anchor\nopens at noon",
    ),
    "a table in a text box": (
        par(frame(f"<draw:text-box>{table(row(cell('A-01'), cell('23')))}</draw:text-box>")),
        "A-01 | 23",
    ),
    "shapes in a group": (
        par(f"Look:<draw:g><draw:rect>{par('bow')}</draw:rect><draw:custom-shape>{par('stern')}</draw:custom-shape></draw:g>"),
        "Look:\nbow\nstern",
    ),
    "a shape between paragraphs": (
        f"{par('Look:')}<draw:ellipse><text:p>rudder</text:p></draw:ellipse>",
        "Look:\nrudder",
    ),
    "a description of a picture": (par("See", frame("<draw:image/>", "A lighthouse")), "See\nA lighthouse"),
    "a description that the caption repeats": (
        par(frame(f"<draw:text-box>{par(frame('<draw:image/>', 'A crane'), 'A crane')}</draw:text-box>")),
        "A crane",
    ),
    "a description that is a file name": (par("See", frame("<draw:image/>", "crane.PNG")), "See"),
    "a picture that is a link": (
        par("<draw:a xlink:href='x'>", frame("<draw:image/>", "A lighthouse"), "</draw:a>"),
        "A lighthouse",
    ),
    "a cell over two rows": (
        table(row(cell("North", " table:number-rows-spanned='2'"), cell("A-01")), row(_COVERED, cell("A-02"))),
        "North | A-01\nNorth | A-02",
    ),
    "a cell over two columns": (
        table(row(cell("Summer", " table:number-columns-spanned='2'"), _COVERED), row(cell("June"), cell("July"))),
        "Summer\nJune | July",
    ),
    "a cell over two rows behind repeated cells": (
        table(
            row(cell("x", " table:number-columns-repeated='2'"), cell("North", " table:number-rows-spanned='2'")),
            row(cell("A"), cell("B"), _COVERED),
        ),
        "x | North\nA | B | North",
    ),
    "ruby": (
        par(
            "<text:ruby><text:ruby-base>図書館</text:ruby-base><text:ruby-text>としょかん</text:ruby-text></text:ruby>",
            "へ",
        ),
        "図書館(としょかん)へ",
    ),
    "a formula": (par("Depth ", embedded_object("Formula-1"), "."), "Depth y/2."),
    "a chart": (par("Look:", embedded_object("Object 1")), "Look:\nBoats\nJune | 31"),
    "a damaged and a missing object": (par("Look:", embedded_object("Object 2"), embedded_object("Object 3")), "Look:"),
    "a numbered list": (items(par("Lock"), par("Leave"), style="N"), "4. Lock\n5. Leave"),
    "a numbered list that goes on": (
        items(par("Lock"), style="N") + items(par("Leave"), style="N", attributes=" text:continue-numbering='true'"),
        "4. Lock\n5. Leave",
    ),
    "a list in a list": (
        items(par("Ropes") + items(par("hemp"), par("nylon")), par("Fenders"), style="N"),
        "4. Ropes\n(a) hemp\n(b) nylon\n5. Fenders",
    ),
    "an item of two paragraphs": (items(par("Ropes") + par("Check them."), style="N"), "4. Ropes\nCheck them."),
    "a list of an unknown style": (items(par("Ropes"), style="X"), "- Ropes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
async def test_the_text_is_what_a_person_sees(read: Reading, kind: str) -> None:
    body, text = SEEN[kind]
    [part] = await read("a.odt", office.opendocument(body, styles=_STYLES, members=_MEMBERS))
    assert part.text == text


async def test_headers_and_footers_of_pages_are_the_last_part(read: Reading) -> None:
    pages = (
        f"<style:master-page><style:header>{par('Harbour handbook')}</style:header><style:header-first>"
        f"{par('Harbour handbook')}</style:header-first><style:footer>{par('Page 3 of 9')}</style:footer>"
        "</style:master-page>"
    )
    _, last = await read("a.odt", office.opendocument(par("A lamp"), pages=pages))
    assert last.text == "Harbour handbook"
