"""Facts in drawings and buildings as AutoCAD, LibreCAD, FreeCAD, Revit and BlenderBIM write them.

Each line of ``drawings/facts.tsv`` is a question, the text that answers it, and the public report of a reader that lost
it, if there is one. A passage answers a question if it contains the text and, with its headings, all words of the
question.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import ezdxf
import pytest
from ezdxf.math import Vec2
from ezdxf.render.mleader import ConnectionSide
from tests.server.features.readers.reading import Reading
from tests.server.features.readers.test_dxf import boat_house

from portico_server.features.readers.analyse import analyse, analyse_question

DRAWINGS = Path(__file__).with_name("drawings")


def facts_by_file() -> dict[str, list[tuple[str, str]]]:
    facts: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with (DRAWINGS / "facts.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            facts[row["file"]].append((row["question"], row["text"]))
    return facts


FACTS = facts_by_file()


def boat_house_with_gate(drawing: Any) -> None:
    """Draw what AutoCAD adds to a drawing: variants of dynamic blocks, data of applications, links and balloons."""
    boat_house(drawing)
    model = drawing.modelspace()
    model.add_mtext('clearance 90{\\H0.7x;\\S1#2;}"', dxfattribs={"layer": "NOTES"})
    for application in ("CADASTRE", "PE_URL", "AcDbBlockRepBTag"):
        drawing.appids.add(application)
    parcel = model.add_lwpolyline([(0, 0), (1, 0), (1, 1)], dxfattribs={"layer": "PARCELS"})
    parcel.set_xdata("CADASTRE", [(1000, "Parcel 12/3"), (1000, "Larsen"), (1040, 34.5)])
    parcel.set_xdata("PE_URL", [(1000, "https://example.org/manual"), (1002, "{"), (1070, 1), (1002, "}")])
    gate = drawing.blocks.new("SLIDING-GATE")
    variant = drawing.blocks.new("*U7")
    variant.add_text("Runs on rail S20")
    variant.block_record.set_xdata("AcDbBlockRepBTag", [(1070, 1), (1005, gate.block_record.dxf.handle)])
    model.add_blockref("*U7", (5, 5))
    drawing.blocks.new("BALLOON").add_attdef("NUMBER", (0, 0))
    balloon = model.add_multileader_block("Standard")
    balloon.set_content("BALLOON")
    balloon.set_attribute("NUMBER", "Position 7")
    balloon.add_leader_line(ConnectionSide.left, [Vec2(-2, -5)])
    balloon.build(insert=Vec2(5, 0))


def binary(version: str) -> bytes:
    drawing = ezdxf.new(version, setup=True)  # type: ignore[attr-defined]
    boat_house_with_gate(drawing)
    file = io.BytesIO()
    drawing.write(file, fmt="bin")
    return file.getvalue()


def content_of(name: str) -> bytes:
    return binary("R2018") if name == "autocad_2018.dxf" else (DRAWINGS / name).read_bytes()


@pytest.mark.parametrize("name", FACTS)
async def test_the_facts_of_a_drawing_are_found_by_their_questions(read: Reading, name: str) -> None:
    passages = [
        (part.text, set(analyse("\n".join((*part.place.heading, part.text))).words))
        for part in await read(name, content_of(name), {"type": "auto"})
    ]
    assert [
        (question, text)
        for question, text in FACTS[name]
        if not any(text in passage and words >= question_words(question) for passage, words in passages)
    ] == []


def question_words(question: str) -> set[str]:
    return set(analyse_question(question).words)


def test_the_table_covers_three_kinds_of_programs() -> None:
    assert sum(map(len, FACTS.values())) >= 60
    assert len(FACTS) == 9
    assert {path.name for path in DRAWINGS.glob("*.*[cf]")} <= set(FACTS)
