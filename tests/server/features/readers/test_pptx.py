"""What a person sees on a slide."""

from __future__ import annotations

import io
import zipfile

import pytest
from tests.server.features.readers import office
from tests.server.features.readers.reading import Reading


def shape(text: str, *, role: str = "", hidden: bool = False, runs: str = "") -> str:
    placeholder = f'<p:ph type="{role}"/>' if role else ""
    attributes = ' hidden="1"' if hidden else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="9" name="S"{attributes}/><p:cNvSpPr/><p:nvPr>{placeholder}'
        f"</p:nvPr></p:nvSpPr><p:txBody><a:p>{runs or f'<a:r><a:t>{text}</a:t></a:r>'}</a:p></p:txBody></p:sp>"
    )


def superscript(text: str, number: str, baseline: str = "30000") -> str:
    runs = f'<a:r><a:t>{text}</a:t></a:r><a:r><a:rPr baseline="{baseline}"/><a:t>{number}</a:t></a:r>'
    return shape("", runs=runs)


def picture(description: str) -> str:
    return f'<p:pic><p:nvPicPr><p:cNvPr id="8" name="P" descr="{description}"/></p:nvPicPr></p:pic>'


SILENT = "\nNot read:\na.pptx: 1 picture(s) without a description"
SEEN = {
    "a hidden shape": (shape("secret", hidden=True) + shape("a lamp"), "a lamp"),
    "a hidden group": (
        f'<p:grpSp><p:nvGrpSpPr><p:cNvPr id="7" name="G" hidden="true"/></p:nvGrpSpPr>{shape("secret")}</p:grpSp>'
        + shape("a lamp"),
        "a lamp",
    ),
    "a description of a picture": (picture("A lighthouse"), "A lighthouse"),
    "a description that the caption repeats": (picture("A crane") + shape("A crane"), "A crane"),
    "a picture whose description is its file": (picture("crane.png") + shape("a lamp"), f"a lamp{SILENT}"),
    "a picture without a description": (picture("") + shape("a lamp"), f"a lamp{SILENT}"),
    "a footer": (shape("Harbour office", role="ftr") + shape("3 March", role="dt"), "Harbour office\n3 March"),
    "a raised reference to a note": (superscript("The crane", "1"), "The crane[1]"),
    "a raised reference behind a full stop": (superscript("It costs 23 crowns.", "2, 3"), "It costs 23 crowns.[2, 3]"),
    "an exponent behind a unit": (superscript("40 m", "2"), "40 m2"),
    "an exponent behind a number": (superscript("about 10", "6"), "about 106"),
    "a raised ending": (superscript("the 1", "st"), "the 1st"),
    "a lowered number": (superscript("Water", "2", "-25000"), "Water2"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
async def test_the_text_is_what_a_person_sees(read: Reading, kind: str) -> None:
    shapes, text = SEEN[kind]
    parts = await read("a.pptx", office.slides(("Harbour", "rules", ""), shapes=shapes))
    assert "\n".join(part.text for part in parts) == f"Harbour\nrules\n{text}"


async def test_a_damaged_chart_costs_no_slide(read: Reading) -> None:
    space = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    office_relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    chart = f'<c:chart xmlns:c="{space}" xmlns:r="{office_relations}" r:id="rId1"/>'
    with zipfile.ZipFile(io.BytesIO(office.slides(("Harbour", "rules", ""), shapes=chart))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["ppt/slides/_rels/slide1.xml.rels"] = (
        f'<Relationships xmlns="{relations}"><Relationship Id="rId1" Type="x/chart" Target="../charts/c.xml"/>'
        "</Relationships>"
    ).encode()
    [part] = await read("a.pptx", office.zipped({**members, "ppt/charts/c.xml": b"<damaged"}))
    assert part.text == "Harbour\nrules"


async def test_a_footer_of_all_slides_is_read_once(read: Reading) -> None:
    footer = shape("Harbour office", role="ftr")
    parts = await read("a.pptx", office.slides(("Harbour", "rules", ""), shapes=footer + footer))
    assert [part.text for part in parts] == ["Harbour\nrules\nHarbour office"]
