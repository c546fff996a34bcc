"""Diagrams of apps and charts of runs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.db.steps import StepRow
from portico_server.features.flows import read
from portico_server.features.flows.drawing import diagram
from portico_server.features.flows.drawing.diagram import gantt, mermaid
from portico_server.features.flows.drawing.svg import svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(step: dict[str, Any]) -> diagram.DiagramNode:
    return diagram.of_flow(read.flow({"portico_flow": 1, "name": "a", "step": step}))


def say(name: str) -> dict[str, Any]:
    return {"op": "emit", "name": name}


EVERY = {
    "op": "pipeline",
    "steps": [
        say("first"),
        {"op": "parallel", "name": "both", "join": "dict", "steps": [say("a"), say("b")]},
        {"op": "warp", "name": "each", "step": say("item")},
        {
            "op": "switch",
            "name": "which",
            "cases": [
                {"equals": "x", "step": say("x")},
                {"when": {"$gt": [{"$ref": "value"}, 3]}, "step": say("y")},
            ],
            "default": say("z"),
        },
        {"op": "branch", "name": "maybe", "condition": {"$ref": "input.sure"}, "then": say("sure")},
        {"op": "loop", "name": "again", "limit": 3, "step": say("round")},
        {
            "op": "graph",
            "name": "net",
            "after": {"r": ["p", "q"], "q": ["p"]},
            "steps": [say("p"), say("q"), say("r")],
        },
        {"op": "subflow", "name": "within", "step": say("inner")},
        {"op": "diverter", "name": "apart", "steps": [say("left"), say("right")]},
    ],
}


def arrows(text: str) -> set[tuple[str, str, str]]:
    """Return the arrows of a flowchart by the names of the boxes: (from, label, to)."""
    names = dict(re.findall(r'(\w+)\["<b>(.*?)</b>', text))
    names |= dict(re.findall(r"(\w+)\(\[(\w+)\]\)", text))
    names |= dict(re.findall(r'(\w+)\(\("(.*?)"\)\)', text))
    names |= dict(re.findall(r'(\w+)\{"(\w+):', text))
    matches = re.findall(r'^\s*(\w+) -\.?->(?:\|"(.*?)"\|)? (\w+)$', text, re.MULTILINE)
    return {(names[source], label, names[two]) for source, label, two in matches}


def test_a_diagram_has_the_arrows_of_every_combinator() -> None:
    drawn_arrows = arrows(mermaid(drawn(EVERY)))
    assert {
        ("input", "", "first"),
        ("first", "", "a"),
        ("first", "", "b"),
        ("a", "", "dict"),
        ("b", "", "dict"),
        ("dict", "", "item"),
        ("which", "x", "x"),
        ("which", "value gt 3", "y"),
        ("which", "else", "z"),
        ("maybe", "yes", "sure"),
        ("maybe", "no", "round"),
        ("sure", "", "round"),
        ("round", "again", "round"),
        ("round", "", "p"),
        ("p", "", "q"),
        ("q", "", "r"),
        ("p", "", "r"),
        ("r", "", "inner"),
        ("inner", "", "left"),
        ("right", "", "list"),
        ("list", "", "output"),
    } <= drawn_arrows
    assert ("first", "", "dict") not in drawn_arrows and ("q", "", "inner") not in drawn_arrows


def test_svg_has_every_box_within_its_bounds() -> None:
    root = ET.fromstring(svg(drawn(EVERY)))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [box for box in root.iter(f"{SVG}rect") if "box" in box.attrib["class"].split()]
    assert len(boxes) == 15
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
    for first_box in boxes:
        for two in boxes:
            assert first_box is two or apart(first_box.attrib, two.attrib)
    steps = [box.attrib["data-step"] for box in root.iter(f"{SVG}rect") if "data-step" in box.attrib]
    assert len(steps) == len(set(steps)) == 23
    assert {"pipeline1.first", "pipeline1.each", "pipeline1.each.item", "pipeline1.which.y"} <= set(steps)


def apart(one: dict[str, str], two: dict[str, str]) -> bool:
    """Return whether two boxes do not overlap."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = (
        tuple(float(box[key]) for key in ("x", "y", "width", "height")) for box in (one, two)
    )
    return x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 or y2 + h2 <= y1


def test_text_of_users_is_escaped_in_diagrams() -> None:
    node = drawn({"op": "llm", "model": 'a<b>"#&;\n-->x'})
    text = mermaid(node)
    assert '<b>"' not in text.replace("<b>llm1</b>", "") and "a#lt;b#gt;#quot;#35;#38;;" in text
    words = [item.text or "" for item in ET.fromstring(svg(node)).iter(f"{SVG}text")]
    assert 'llm · a<b>"#&; -->x' in words
    wide = drawn({"op": "llm", "model": "模型" * 40})
    (box,) = (b for b in ET.fromstring(svg(wide)).iter(f"{SVG}rect") if "box" in b.attrib["class"].split())
    assert float(box.attrib["width"]) > 34 * 12


def test_an_agent_is_drawn_with_what_it_uses() -> None:
    spec = {
        "model": "house",
        "tools": ["web_fetch", {"tool": "sql", "as": "query"}],
        "stores": ["handbook"],
        "agents": ["critic", {"agent": {"name": "writer", "tools": ["web_fetch"]}, "as": "handoff"}],
    }
    drawn_arrows = arrows(mermaid(diagram.of_agent("team", spec)))
    assert drawn_arrows == {
        ("team", "", "tool/web_fetch"),
        ("team", "", "tool/sql"),
        ("team", "", "store/handbook"),
        ("team", "", "critic"),
        ("team", "", "writer"),
        ("writer", "", "tool/web_fetch"),
    }
    ET.fromstring(svg(diagram.of_agent("team", spec)))


def test_a_diagram_of_more_than_1000_steps_is_refused() -> None:
    steps = [say(f"s{number}") for number in range(diagram.MAX_BOXES + 1)]
    with pytest.raises(InvalidRequest, match="more than 1,000 steps"):
        drawn({"op": "pipeline", "steps": steps})


def row(path: str, began: float, milliseconds: float, **more: Any) -> StepRow:
    values = {"status": "completed", "hit": False, **more}
    return StepRow(
        path,
        1,
        "llm",
        values["status"],
        1,
        None,
        None,
        None,
        began,
        milliseconds,
        0,
        0,
        0,
        values["hit"],
    )


def test_a_chart_begins_with_the_first_step_and_marks_what_failed() -> None:
    rows = [
        row("story.write", 100.5, 250.0, status="failed"),
        row("story.outline", 100.0, 500.0),
        row("story.kept", 100.75, 0.0, hit=True),
        row("story.not", 101.0, 0.0, status="skipped"),
    ]
    assert gantt("run_1", rows).splitlines() == [
        "gantt",
        "    title run_1",
        "    dateFormat x",
        "    axisFormat %M:%S.%L",
        "    section story",
        "    outline (llm) :0, 500",
        "    write (llm) :crit, 500, 750",
        "    kept (llm) :done, 750, 751",
    ]
    assert gantt("run_1", []).startswith("gantt\n")
