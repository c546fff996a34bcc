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
    drawing.blocks.new("DOOR").add_text("never read")
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
    with pytest.raises(Unreadable, match=r"DWG\. Save it as \.dxf"):
        await read("house.dwg", b"AC1032\0\0\0" + bytes(200))


def test_a_missing_drawing_package_is_named_in_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ezdxf", None)
    with pytest.raises(Unreadable, match="the package that reads drawings is not installed") as error:
        list(dxf.read(SourceDocument("x.dxf", b"")))
    assert error.value.code == "unsupported_file"
