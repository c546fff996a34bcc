"""What a person sees in a Word document, in every wrapper in which Word keeps it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from itertools import pairwise

import docx
import pytest
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from tests.server.features.readers.reading import Reading

_SPACES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "v": "urn:schemas-microsoft-com:vml",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
    "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
}
_DECLARED = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in _SPACES.items())
_TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def word_file(body: str, other_parts: Mapping[str, str] | None = None) -> bytes:
    """Return a document with this body; ``other_parts`` are further parts by kind, with the ids ``r-KIND``."""
    document = docx.Document()
    for element in parse_xml(f"<w:body {_DECLARED}>{body}</w:body>"):
        document.element.body.append(element)
    for kind, content in (other_parts or {}).items():
        blob = f"<w:{kind} {_DECLARED}>{content}</w:{kind}>" if not content.startswith("<?") else content
        part = Part(PackURI(f"/word/{kind}.xml"), "application/xml", blob.encode(), document.part.package)
        document.part.rels.add_relationship(f"{_TYPES}/{kind}", part, f"r-{kind}")
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def run(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def par(*content: str) -> str:
    return f"<w:p>{''.join(content)}</w:p>"


def table(*rows: str) -> str:
    return f"<w:tbl><w:tblPr/><w:tblGrid/>{''.join(rows)}</w:tbl>"


def row(*cells: str, properties: str = "") -> str:
    return f"<w:tr>{properties}{''.join(f'<w:tc>{cell}</w:tc>' for cell in cells)}</w:tr>"


def control(content: str) -> str:
    return f"<w:sdt><w:sdtPr><w:alias w:val='Hidden alias'/></w:sdtPr><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def box(content: str) -> str:
    inner = f"<w:txbxContent>{content}</w:txbxContent>"
    return (
        "<w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wp:inline><a:graphic><a:graphicData>"
        f"<wps:wsp><wps:txbx>{inner}</wps:txbx></wps:wsp></a:graphicData></a:graphic></wp:inline></w:drawing>"
        f"</mc:Choice><mc:Fallback>{old_box(content, run=False)}</mc:Fallback></mc:AlternateContent></w:r>"
    )


def old_box(content: str, *, run: bool = True) -> str:
    shape = (
        f"<w:pict><v:shape><v:textbox><w:txbxContent>{content}</w:txbxContent></v:textbox></v:shape></w:pict>"
    )
    return f"<w:r>{shape}</w:r>" if run else shape


def picture(description: str = "") -> str:
    about = f'<wp:docPr id="1" name="Picture 1" descr="{description}"/>'
    return (
        f"<w:r><w:drawing><wp:inline>{about}<a:graphic><pic:pic/></a:graphic></wp:inline></w:drawing></w:r>"
    )


RENT = (run("The rent is "), run(", due monthly."))
VALUE = run("1,250 euros")
DELETED = "<w:r><w:delText>900 euros</w:delText></w:r>"
SERIES = (
    "<c:ser><c:tx><c:strRef><c:strCache><c:pt idx='0'><c:v>Sales</c:v></c:pt></c:strCache></c:strRef></c:tx>"
    "<c:cat><c:strRef><c:strCache><c:pt idx='0'><c:v>May</c:v></c:pt></c:strCache></c:strRef></c:cat>"
    "<c:val><c:numRef><c:numCache><c:pt idx='0'><c:v>17</c:v></c:pt></c:numCache></c:numRef></c:val></c:ser>"
)
CHART = f"<?xml version='1.0'?><c:chartSpace {_DECLARED}><c:title><a:t>Boats</a:t></c:title>{SERIES}</c:chartSpace>"
SHAPE = "<dgm:t><a:p><a:r><a:t>Plan</a:t></a:r></a:p></dgm:t>"
DIAGRAM = f"<?xml version='1.0'?><dgm:dataModel {_DECLARED}>{SHAPE}</dgm:dataModel>"

SEEN: dict[str, tuple[str, Mapping[str, str], str]] = {
    # docling-project/docling 3152, python-openxml/python-docx 1123
    **{
        f"{wrapper} in a paragraph": (
            par(RENT[0], f"<w:{wrapper}{attributes}>{VALUE}</w:{wrapper}>", RENT[1]),
            {},
            "The rent is 1,250 euros, due monthly.",
        )
        for wrapper, attributes in (
            ("ins", ""),
            ("moveTo", ""),
            ("smartTag", ""),
            ("customXml", ""),
            ("fldSimple", ' w:instr="DOCPROPERTY Rent"'),
            ("bdo", ' w:val="rtl"'),
            ("hyperlink", ""),
        )
    },
    "deleted and moved away": (
        par(
            RENT[0],
            f"<w:del>{DELETED}</w:del><w:ins>{VALUE}</w:ins>",
            f"<w:moveFrom>{run('soon')}</w:moveFrom>",
        ),
        {},
        "The rent is 1,250 euros",
    ),
    "a deleted paragraph mark": (
        par("<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>", RENT[0]) + par(VALUE),
        {},
        "The rent is 1,250 euros",
    ),
    "an inserted paragraph": (
        par("<w:pPr><w:rPr><w:ins/></w:rPr></w:pPr>", f"<w:ins>{VALUE}</w:ins>"),
        {},
        "1,250 euros",
    ),
    "an inserted row and a deleted row": (
        table(
            row(par(run("Ann"))),
            row(par(f"<w:ins>{run('Ben')}</w:ins>"), properties="<w:trPr><w:ins/></w:trPr>"),
            row(par(f"<w:del>{DELETED}</w:del>"), properties="<w:trPr><w:del/></w:trPr>"),
        ),
        {},
        "Ann\nBen",
    ),
    "an insertion in a link": (
        par(f"<w:hyperlink><w:ins>{VALUE}</w:ins></w:hyperlink>"),
        {},
        "1,250 euros",
    ),
    # docling-project/docling 3923, 3950
    "a control around paragraphs": (control(par(VALUE) + par(RENT[1])), {}, "1,250 euros\n\n, due monthly."),
    "a control in a paragraph": (par(RENT[0], control(VALUE)), {}, "The rent is 1,250 euros"),
    "a control around a cell": (
        f"<w:tbl><w:tblPr/><w:tblGrid/><w:tr><w:tc>{par(run('Rent'))}</w:tc>{control(f'<w:tc>{par(VALUE)}</w:tc>')}</w:tr></w:tbl>",
        {},
        "Rent | 1,250 euros",
    ),
    "a control around a row": (table(control(row(par(run("Rent")), par(VALUE)))), {}, "Rent | 1,250 euros"),
    "a control in a control": (control(control(par(control(VALUE)))), {}, "1,250 euros"),
    "a control around a table": (control(table(row(par(VALUE)))), {}, "1,250 euros"),
    # docling-project/docling 1529
    "a box": (
        par(RENT[0], box(par(VALUE))) + par(RENT[1]),
        {},
        "The rent is\n\n1,250 euros\n\n, due monthly.",
    ),
    "an old box": (par(RENT[0], old_box(par(VALUE))), {}, "The rent is\n\n1,250 euros"),
    "a box in a control": (control(par(box(control(par(VALUE))))), {}, "1,250 euros"),
    "two boxes, one with a table": (
        par(box(par(VALUE)), box(table(row(par(run("Rent")), par(run("due")))))),
        {},
        "1,250 euros\n\nRent | due",
    ),
    "a box in a box": (par(box(par(VALUE, box(par(RENT[1]))))), {}, "1,250 euros\n\n, due monthly."),
    "a box in a cell": (table(row(par(run("Rent"), box(par(VALUE))))), {}, "Rent 1,250 euros"),
    "a table in a cell": (
        table(row(par(run("Rent")) + table(row(par(run("May")), par(VALUE))) + par())),
        {},
        "Rent May | 1,250 euros",
    ),
    "ruby": (
        par(
            "<w:r><w:ruby><w:rubyPr/><w:rt>"
            + run("としょかん")
            + "</w:rt><w:rubyBase>"
            + run("図書館")
            + "</w:rubyBase></w:ruby></w:r>",
            run("へ"),
        ),
        {},
        "図書館(としょかん)へ",
    ),
    "a complex field": (
        par(
            "<w:r><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText>DATE</w:instrText></w:r>"
            f"<w:r><w:fldChar w:fldCharType='separate'/></w:r>{VALUE}<w:r><w:fldChar w:fldCharType='end'/></w:r>"
        ),
        {},
        "1,250 euros",
    ),
    "hidden text": (
        par(VALUE, run("secret", "<w:vanish/>"), run("!", '<w:vanish w:val="0"/>')),
        {},
        "1,250 euros!",
    ),
    "symbols": (par("<w:r><w:sym w:font='Wingdings' w:char='F0FE'/></w:r>", run(" agreed")), {}, "☒ agreed"),
    "a numbered paragraph": (
        par('<w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr>', VALUE),
        {},
        "- 1,250 euros",
    ),
    "a footnote, an endnote and a comment": (
        par(run("Rent"), "<w:r><w:footnoteReference w:id='2'/></w:r>", run(" and fees"))
        + par(
            run("Deposit"),
            "<w:r><w:endnoteReference w:id='3'/></w:r>",
            "<w:r><w:commentReference w:id='0'/></w:r>",
        ),
        {
            "footnotes": f"<w:footnote w:id='2'>{par(run('Without heating.'))}</w:footnote>",
            "endnotes": f"<w:endnote w:id='3'>{par(f'<w:ins>{VALUE}</w:ins>')}</w:endnote>",
            "comments": f"<w:comment w:id='0'>{par(run('Ask Ann.'))}</w:comment>",
        },
        "Rent[1] and fees\n\n[1] Without heating.\n\nDeposit[2]\n\n[2] 1,250 euros\n\nComment: Ask Ann.",
    ),
    "headers and footers": (
        par(VALUE),
        {"header": par(run("Harbour office")), "footer": par(run("Page 3 of 7")) + par(run("Confidential"))},
        "1,250 euros\nHarbour office\nConfidential",
    ),
    "a described picture": (
        par(run("See"), picture("The quay at low tide")),
        {},
        "See\n\nThe quay at low tide",
    ),
    "a picture with the same caption": (
        par(picture("The quay")) + par(run("The quay")),
        {},
        "The quay",
    ),
    "pictures without a description": (
        par(VALUE, picture(), picture("quay.png")),
        {},
        "1,250 euros\nNot read:\nx.docx: 2 picture(s) without a description",
    ),
    "a chart": (
        par(VALUE, '<w:r><w:drawing><c:chart r:id="r-chart"/></w:drawing></w:r>'),
        {"chart": CHART},
        "1,250 euros\n\nBoats\n\nSales: May 17",
    ),
    "a diagram": (
        par(VALUE, '<w:r><w:drawing><dgm:relIds r:dm="r-diagramData"/></w:drawing></w:r>'),
        {"diagramData": DIAGRAM},
        "1,250 euros\n\nPlan",
    ),
    "damaged notes": (
        par(VALUE, "<w:r><w:footnoteReference w:id='2'/></w:r>"),
        {"footnotes": "<?xml version='1.0'?><w:footnotes"},
        "1,250 euros",
    ),
}


@pytest.mark.parametrize("case", SEEN)
async def test_visible_text_is_read_in_order(read: Reading, case: str) -> None:
    body, other_parts, seen_text = SEEN[case]
    parts = await read("x.docx", word_file(body, other_parts))
    assert "\n".join(part.text for part in parts) == seen_text
    assert all(part.place.end <= following.place.start for part, following in pairwise(parts))
    assert not re.search("Hidden|900|secret|DATE|soon", seen_text)


def level(number: int, text: str, kind: str = "decimal", properties: str = "") -> str:
    return (
        f'<w:lvl w:ilvl="{number}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/>{properties}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


def of_style(style: str) -> str:
    return f'<w:pStyle w:val="{style}"/>'


LEVELS = (
    (
        level(0, "%1."),
        level(1, "%1.%2"),
        level(2, "(%3)", "lowerLetter"),
        level(3, "§ %4", "upperRoman"),
        level(4, "%4.%5", properties="<w:isLgl/>"),
    ),
    (level(0, "•", "bullet"), level(1, "", "none"), level(2, "第%3条", "chineseCounting")),
    (
        level(0, "Art. %1", properties=of_style("Heading1")),
        level(1, "%1-%2", properties=of_style("Heading2")),
    ),
)
NUMBERING = "".join(
    f'<w:abstractNum w:abstractNumId="{place}">{"".join(levels)}</w:abstractNum>'
    for place, levels in enumerate(LEVELS)
) + "".join(
    f'<w:num w:numId="{number}"><w:abstractNumId w:val="{place}"/>{override}</w:num>'
    for number, place, override in (
        (1, 0, ""),
        (2, 1, ""),
        (3, 2, ""),
        (4, 0, '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride>'),
        (5, 99, ""),
    )
)


def item(text: str, list_id: int = 1, level_number: int = 0) -> str:
    number = f'<w:numPr><w:ilvl w:val="{level_number}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return par(f"<w:pPr>{number}</w:pPr>", run(text))


NUMBERED = {
    "items": (item("Ropes") + item("Fenders"), ["1. Ropes", "2. Fenders"]),
    "clauses below clauses": (
        item("Rent") + item("Amount", 1, 1) + item("Day", 1, 1) + item("Keys") + item("Number", 1, 1),
        ["1. Rent", "1.1 Amount", "1.2 Day", "2. Keys", "2.1 Number"],
    ),
    "letters and Roman digits": (
        item("a", 1, 2) + item("b", 1, 2) + item("c", 1, 3) + item("d", 1, 3),
        ["(a) a", "(b) b", "§ I c", "§ II d"],
    ),
    "Roman digits that a lower level shows as decimals": (
        item("c", 1, 3) + item("e", 1, 4),
        ["§ I c", "1.1 e"],
    ),
    "bullets and no number": (item("Ropes", 2) + item("plain", 2, 1), ["- Ropes", "plain"]),
    "Chinese digits": (
        "".join(item("款", 2, 2) for _ in range(11)),
        [f"第{digits}条 款" for digits in (*"一二三四五六七八九十", "十一")],
    ),
    "a list that starts again and goes on": (
        item("a") + item("b", 4) + item("c", 4) + item("d"),
        ["1. a", "7. b", "8. c", "9. d"],
    ),
    "an item in a cell": (
        table(row(item("Ropes"), par(run("hemp")))) + item("Fenders"),
        ["1. Ropes | hemp", "2. Fenders"],
    ),
    "an empty item": (item("") + item("Fenders"), ["2. Fenders"]),
    "a list without a definition": (item("Ropes", 5) + item("Fenders", 77), ["Ropes", "Fenders"]),
}  # fmt: skip


def numbered_file(body: str, *, styles: str = "") -> bytes:
    document = docx.Document()
    numbering = document.part.numbering_part.element
    for child in list(numbering):
        numbering.remove(child)
    numbering.extend(parse_xml(f"<w:numbering {_DECLARED}>{NUMBERING}</w:numbering>"))
    for style in ("Heading1", "Heading2") if styles else ():
        properties = document.styles.element.get_by_id(style).get_or_add_pPr()
        properties.append(parse_xml(f"<w:numPr {_DECLARED}>{styles}</w:numPr>"))
    for element in parse_xml(f"<w:body {_DECLARED}>{body}</w:body>"):
        document.element.body.append(element)
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


@pytest.mark.parametrize("kind", NUMBERED)
async def test_items_have_the_numbers_that_word_shows(read: Reading, kind: str) -> None:
    body, lines = NUMBERED[kind]
    [part] = await read("a.docx", numbered_file(body))
    assert [line for line in part.text.splitlines() if line] == lines


async def test_numbers_of_headings_are_read_with_the_headings(read: Reading) -> None:
    titles = (("Heading1", "Rent"), ("Heading2", "Amount"), ("Heading2", "Day"), ("Heading1", "Keys"))
    body = "".join(par(f"<w:pPr>{of_style(style)}</w:pPr>", run(title)) for style, title in titles)
    parts = await read("a.docx", numbered_file(body, styles='<w:numId w:val="3"/>'))
    assert [part.place.heading for part in parts] == [
        ("Art. 1 Rent",),
        ("Art. 1 Rent", "1-1 Amount"),
        ("Art. 1 Rent", "1-2 Day"),
        ("Art. 2 Keys",),
    ]
