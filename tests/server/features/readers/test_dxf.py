"""Drawings: which parts are read, and how a passage states its position."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ezdxf
import pytest
from ezdxf.math import Vec2
from ezdxf.render.mleader import ConnectionSide
from tests.server.features.readers.reading import Reading, stand_in_one_text

from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers import dxf


def drawn(draw: Callable[[Any], None], version: str = "R2018", encoding: str = "utf-8") -> bytes:
    """Return a drawing on which ``draw`` has drawn."""
    drawing = ezdxf.new(version, setup=True, units=6)  # type: ignore[attr-defined]
    draw(drawing)
    text = io.StringIO()
    drawing.write(text)
    return text.getvalue().encode(encoding)


def boat_house(drawing: Any) -> None:
    drawing.header.custom_vars.append("Title", "Boat house")
    model, sheet = drawing.modelspace(), drawing.layouts.get("Layout1")
    model.add_text("Kitchen", dxfattribs={"layer": "NOTES", "insert": (1, 5)})
    model.add_mtext(
        "The {\\fArial|b1;slip} is\\P12 m long. 船台", dxfattribs={"layer": "NOTES", "insert": (1, 9)}
    )
    model.add_linear_dim(base=(3, 2), p1=(0, 0), p2=(3.25, 0), dxfattribs={"layer": "WALLS"}).render()
    model.add_linear_dim(
        base=(3, 4), p1=(0, 0), p2=(2, 0), text="<> max.", dxfattribs={"layer": "WALLS"}
    ).render()
    leader = model.add_multileader_mtext("Standard", dxfattribs={"layer": "SAFETY"})
    leader.set_content("Fire door T30")
    leader.add_leader_line(ConnectionSide.left, [Vec2(-2, -5)])
    leader.build(insert=Vec2(5, 0))
    title = drawing.blocks.new("TITLE")
    title.add_attdef("DRAWN", (0, 0))
    title.add_attdef("SCALE", (0, 1))
    sheet.add_blockref("TITLE", (0, 0)).add_auto_attribs({"DRAWN": "M. Larsen", "SCALE": "1:50"})
    drawing.blocks.new("DOOR").add_text("EI 30")
    for place in range(3):
        model.add_blockref("DOOR", (place, 0))


async def test_a_drawing_is_read_by_layout_and_layer(read: Reading) -> None:
    about, *parts = await read("boat-house.dxf", drawn(boat_house))
    assert about.place.heading == ("Boat house",)
    for phrase in ("DXF R2018", "Units: meters", "NOTES (2)", "WALLS (2)", "DOOR (3)", "TITLE (1)"):
        assert phrase in about.text
    assert {part.place.heading[1:]: part.text for part in parts} == {
        ("Model", "NOTES"): "The slip is\n12 m long. 船台\nKitchen",
        ("Model", "WALLS"): "Dimension, linear: 2 max.\nDimension, linear: 3.25",
        ("Model", "SAFETY"): "Fire door T30",
        ("Layout1",): "TITLE\nDRAWN: M. Larsen\nSCALE: 1:50",
        ("Block DOOR", "0"): "EI 30",
    }
    assert stand_in_one_text([about, *parts])


async def test_many_texts_of_a_layer_are_cut_into_parts(read: Reading) -> None:
    def notes(drawing: Any) -> None:
        for number in range(500):
            drawing.modelspace().add_text(f"Beam {number} of oak", dxfattribs={"insert": (0, -number)})

    _, *parts = await read("beams.dxf", drawn(notes))
    assert len(parts) > 5
    assert "\n".join(part.text for part in parts).splitlines() == [f"Beam {n} of oak" for n in range(500)]


async def test_an_old_drawing_in_another_encoding_is_read(read: Reading) -> None:
    def note(drawing: Any) -> None:
        drawing.encoding = "gbk"
        drawing.modelspace().add_text("厨房")

    _, note_part = await read("old.dxf", drawn(note, "R2000", "gb18030"))
    assert note_part.text == "厨房"


async def test_a_table_of_a_drawing_is_read_row_by_row(read: Reading) -> None:
    owner = ""

    def note(drawing: Any) -> None:
        nonlocal owner
        drawing.modelspace().add_text("here")
        owner = drawing.modelspace().layout_key

    data = drawn(note).decode()
    cells = "".join(f"171\n1\n301\nCELL_VALUE\n302\n{value}\n" for value in ("Part", "Number", "Door", "3"))
    table = (
        f"0\nACAD_TABLE\n5\nFFF1\n330\n{owner}\n100\nAcDbEntity\n8\nPARTS\n100\nAcDbBlockReference\n2\n*T1\n10\n0.0\n20\n0.0\n30\n0.0\n"
        f"100\nAcDbTable\n91\n2\n92\n2\n{cells}"
    )
    place = data.rindex("  0\nTEXT\n")
    _, *parts = await read("parts.dxf", (data[:place] + table + data[place:]).encode())
    assert ("Part | Number\nDoor | 3", ("Model", "PARTS")) in [
        (part.text, part.place.heading) for part in parts
    ]


INSERTION = "0|INSERT|8|0|2|{}|10|0|20|0|"


def simple(entities: str, blocks: str = "") -> bytes:
    """Return a drawing of release 12 with these tags, separated by bars."""
    sections = f"0|SECTION|2|BLOCKS|{blocks}0|ENDSEC|0|SECTION|2|ENTITIES|{entities}0|ENDSEC|0|EOF|"
    return sections.replace("|", "\n").encode()


def nested_blocks(depth: int, last: str = INSERTION.format("B0")) -> str:
    """Return blocks of which each inserts the next two, and the last has the tags ``last``."""
    return "".join(
        f"0|BLOCK|2|B{number}|10|0|20|0|0|TEXT|10|0|20|0|1|Level {number}|"
        + "".join(INSERTION.format(f"B{n}") for n in (number + 1, number + 2) if n < depth)
        + (last if number == depth - 1 else "")
        + "0|ENDBLK|"
        for number in range(depth)
    )


TEXT = "0|TEXT|8|0|10|0|20|0|1|{}|"
PARTLY_READ = {
    "blocks nested a thousand deep in a circle": (
        simple(INSERTION.format("B0"), nested_blocks(1_000)),
        ["Level 0", "Level 999"],
    ),
    "blocks with a billion paths": (
        simple(
            INSERTION.format("B0"), nested_blocks(40, INSERTION.format("END")) + "0|BLOCK|2|END|0|ENDBLK|"
        ),
        ["Level 39"],
    ),
    "a block inserted in itself": (simple(INSERTION.format("B0"), nested_blocks(1)), ["Level 0", "B0 (2)"]),
    "a block that is missing": (
        simple(TEXT.format("Quay") + INSERTION.format("LOST") * 2),
        ["Quay", "2 insertion(s) of blocks that the file does not contain"],
    ),
    "a layer with a name that is not allowed": (
        simple(
            "0|INSERT|8|A:1|66|1|2|B0|10|0|20|0|0|ATTRIB|8|A:1|10|0|20|0|2|KKS|1|10LCA|", nested_blocks(1)
        ),
        ["KKS: 10LCA", "A_1 (1)"],
    ),
    "a text with line breaks": (simple(TEXT.format("Quay|of 7 stones|")), ["Quay of 7 stones"]),
    "code pages that are no charsets": (
        b"0\nSECTION\n2\nHEADER\n9\n$DWGCODEPAGE\n3\nhex\n0\nENDSEC\n" + simple(TEXT.format("Kai: \u00fc")),
        ["Kai: \u00fc"],
    ),
}


@pytest.mark.parametrize(("data", "texts"), PARTLY_READ.values(), ids=PARTLY_READ)
async def test_a_part_that_cannot_be_read_costs_that_part_alone(
    read: Reading, data: bytes, texts: list[str]
) -> None:
    text = "\n".join(part.text for part in await read("hostile.dxf", data))
    assert [passage for passage in texts if passage not in text] == []


@pytest.mark.parametrize("version", ["R12", "R2000", "R2018"])
async def test_binary_drawings_of_all_versions_read_as_text_drawings(read: Reading, version: str) -> None:
    def sheet(drawing: Any) -> None:
        drawing.modelspace().add_text("Slip 12 m, k\u00fchl")
        block = drawing.blocks.new("TITLE")
        block.add_text("Harbour Authority")
        drawing.modelspace().add_blockref("TITLE", (0, 0)).add_attrib("DRAWN", "M. Larsen")

    drawing = ezdxf.new(version)  # type: ignore[attr-defined]
    sheet(drawing)
    file = io.BytesIO()
    drawing.write(file, fmt="bin")
    binary_parts = await read("sheet.dxf", file.getvalue())
    text = io.StringIO()
    drawing.write(text)
    text_parts = await read("sheet.dxf", text.getvalue().encode(drawing.output_encoding, "dxfreplace"))
    assert [part.text for part in binary_parts] == [part.text for part in text_parts]
    assert any("k\u00fchl" in part.text for part in binary_parts)
    for end in range(30, len(file.getvalue()), len(file.getvalue()) // 7):
        with suppress(Unreadable):
            await read("cut.dxf", file.getvalue()[:end])


@pytest.mark.parametrize(
    "data",
    [b"", b"no drawing", b"\x00" * 5_000, b"  0\nSECTION\n  2\nENTITIES\n", drawn(boat_house)[:20_000]],
    ids=["empty", "text", "zeros", "begun", "cut"],
)
async def test_a_damaged_drawing_is_read_as_far_as_it_goes_or_refused(read: Reading, data: bytes) -> None:
    with suppress(Unreadable):
        assert stand_in_one_text(await read("damaged.dxf", data))


async def test_a_drawing_truncated_before_its_content_is_refused_not_read_as_empty(read: Reading) -> None:
    empty = drawn(lambda drawing: None)
    assert [part.text[:16] for part in await read("empty.dxf", empty)] == ["Drawing in DXF R"]
    for data in (empty[:-10], drawn(boat_house)[:20_000]):
        with pytest.raises(Unreadable, match="truncated before any drawn content"):
            await read("cut.dxf", data)


async def test_a_dwg_file_is_refused_with_conversion_advice(read: Reading) -> None:
    with pytest.raises(
        Unreadable, match=r"DWG\. Save it as \.dxf, or install LibreDWG .* run 'dwg2dxf FILE\.dwg'"
    ):
        await read("house.dwg", b"AC1032\0\0\0" + bytes(200))


def test_a_missing_drawing_package_is_named_in_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ezdxf", None)
    with pytest.raises(Unreadable, match="the package that reads drawings is not installed") as error:
        list(dxf.read(SourceDocument("x.dxf", b"")))
    assert error.value.code == "unsupported_file"
