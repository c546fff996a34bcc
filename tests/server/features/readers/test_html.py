"""What a browser shows of a page."""

from __future__ import annotations

import pytest
from tests.server.features.readers.reading import Reading

_LONG = "harbour " * 200


def table(*rows: str) -> str:
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


SEEN = {
    "paragraphs in a cell": (table("<td>A-01<td><p>lit</p><p>guarded</p>"), "A-01 | lit guarded"),
    "a list in a cell": (table("<td>A-01<td><ul><li>hose<li>socket</ul>"), "A-01 | - hose - socket"),
    "rows": (table("<th>Berth<th>Fee", "<td>A-01<td>23"), "Berth | Fee\nA-01 | 23"),
    "groups of rows": (
        "<table><thead><tr><th>Berth<tbody><tr><td>A-01<tfoot><tr><td>Total</table>",
        "Berth\nA-01\nTotal",
    ),
    "a cell over rows": (
        table("<td rowspan=2>North<td>A-01", "<td>A-02", "<td>South<td>B-01"),
        "North | A-01\nNorth | A-02\nSouth | B-01",
    ),
    "a last cell over rows": (table("<td>A-01<td rowspan=3>lit", "<td>A-02"), "A-01 | lit\nA-02 | lit"),
    "a cell over rows and columns": (
        table("<td rowspan=2 colspan=2>North<td>A-01", "<td>A-02"),
        "North | A-01\nNorth | A-02",
    ),
    "a cell over all rows of its group": (
        f"<table><tbody><tr><td rowspan=0>North<td>A-01{'<tr><td>A-02' * 2}<tbody><tr><td>South</table>",
        "North | A-01\nNorth | A-02\nNorth | A-02\nSouth",
    ),
    "a cell over more rows than its group has": (
        "<table><thead><tr><th rowspan=5>Berth<th>Fee</thead><tr><td>A-01<td>23</table>",
        "Berth | Fee\nA-01 | 23",
    ),
    "spans that are no numbers": (table("<td rowspan=x colspan=-1>North<td>A-01", "<td>A-02"), "North | A-01\nA-02"),
    "an empty cell": (table("<td><td>23", "<td>A-02<td>"), "| 23\nA-02"),
    "a table that lays out the page": (
        table(f"<td>menu<td><h2>Fees</h2><p>{_LONG}"),
        f"menu\n\nFees\n\n{_LONG.strip()}",
    ),
    "a long cell behind a short one": (table(f"<td>A-01<td>{_LONG}"), f"A-01\n{_LONG.strip()}"),
    "a table in a cell": (
        table(f"<td>Outer<td>{table('<td>inner berth<td>inner fee')}"),
        "Outer\n\ninner berth | inner fee",
    ),
    "a numbered list": ("<ol><li>Report<li>Pay</ol>", "1. Report\n\n2. Pay"),
    "a list that starts at four": ("<ol start=4 type=a><li>Lock<li value=9>Leave</ol>", "d. Lock\n\ni. Leave"),
    "a list that starts below zero": (
        "<ol start=-1><li>mud<li>datum<li value=+3>mean</ol>",
        "-1. mud\n\n0. datum\n\n3. mean",
    ),
    "a list that starts at no number": ("<ol start=-x><li>mud</ol>", "1. mud"),
    "a reversed list": ("<ol reversed><li>third<li>second</ol>", "2. third\n\n1. second"),
    "a paragraph in an item": ("<ul><li><p>hemp</p></ul>", "- hemp"),
    "a list in an item": ("<ol><li>Ropes<ul><li>hemp</ul><li>Fenders</ol>", "1. Ropes\n\n- hemp\n\n2. Fenders"),
    "a reference to a note": ("<p>It costs 23 crowns.<sup><a>1</a></sup></p>", "It costs 23 crowns.[1]"),
    "a reference in brackets": ("<p>The crane<sup>[2]</sup> lifts.</p>", "The crane[2] lifts."),
    "an exponent": ("<p>40 m<sup>2</sup>, 10<sup>6</sup>, the 1<sup>st</sup></p>", "40 m2, 106, the 1st"),
    "a reference behind a year": (
        "<p>In 2024<sup><a href='#n1'>1</a></sup> and m<a href=x#n2><sup>2</sup></a></p>",
        "In 2024[1] and m[2]",
    ),
    "a reference with a letter": ("<p>The crane<sup><a href=#a>[a]</a></sup> lifts.</p>", "The crane[a] lifts."),
    "a reference that styles raise": ("<p>The end.<a role=doc-noteref href=#n>3</a></p>", "The end.[3]"),
    "a reference of a book": ("<p>The end<a epub:type='noteref' href=n.xhtml#n><sup>*</sup></a></p>", "The end[*]"),
    "a number before its note": ("<p><sup><a href=#r1>1</a></sup> See there.</p>", "1 See there."),
    "an exponent in a link": ("<p><a href=#n>40 m<sup>2</sup> on the 1<sup>st</sup></a></p>", "40 m2 on the 1st"),
    "a link in a raised text": ("<p>lamp<sup>(<a href=#n>see below</a>)</sup></p>", "lamp(see below)"),
    "a button": (
        "<p>Open:<button>Book a <b>berth</b></button></p><button hidden>secret</button>",
        "Open: Book a berth",
    ),
    "buttons of a form": ("<input type=submit value=Send><input type=password value=secret>", "Send"),
    "suggestions of a form": ("<input value=A-01><datalist><option>B-07</datalist>", "A-01"),
    "a chosen option": ("<select><option>South<option selected>North</select>", "North"),
    "the first option": ("<select><option>South<option>North</select>", "South"),
    "a hidden list and a hidden drawing": (
        "<select hidden><option>South</select><svg style='display:none'><text>slack</text></svg><p>shown</p>",
        "shown",
    ),
    "text in a drawing": ("<svg><title>icon</title><text>slack <tspan>water</tspan></text></svg>", "slack water"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
async def test_the_text_is_what_a_person_sees(read: Reading, kind: str) -> None:
    body, text = SEEN[kind]
    parts = await read("a.html", f"<html><body>{body}</body></html>".encode())
    assert "\n\n".join(part.text for part in parts) == text
