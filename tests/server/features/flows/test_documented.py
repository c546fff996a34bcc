"""docs/flow-spec.md names every field, and the examples in the table of docs/flows.md behave as written."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from tests.daemon import ROOT, Daemon

from portico import Client
from portico_server.features.flows import read
from portico_server.features.flows.schema import AROUND, OPS, schema

SPEC = (ROOT / "docs" / "flow-spec.md").read_text(encoding="utf-8")
FLOWS = (ROOT / "docs" / "flows.md").read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    """Return the rows of a table without its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines[2:]]


def section(title: str, level: str) -> str:
    return SPEC.partition(f"\n{level} {title}\n")[2].partition("\n##")[0]


def fields(text: str) -> set[str]:
    return {name for row in cells(text) for name in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize("op", OPS)
def test_every_field_of_an_op_is_in_its_table(op: str) -> None:
    assert fields(section(op, "###")) == set(OPS[op][0])
    needed = {row[0].strip("`") for row in cells(section(op, "###")) if row[1].endswith("needed")}
    assert needed == set(OPS[op][1])


def test_the_fields_of_steps_and_flows_are_documented() -> None:
    assert fields(section("Every step", "##")) == set(AROUND)
    assert fields(section("The flow", "##")) == set(schema()["properties"])


def test_the_documented_example_is_a_valid_flow() -> None:
    read.flow(json.loads(SPEC.partition("```json\n")[2].partition("```")[0]))


TABLE = cells(FLOWS.partition("## Combinators")[2].partition("\n## ")[0])


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, object, object]]:
    """Return the rows as Python: a step, an input, an output. They are in a file, since lambdas travel as source."""
    lines = ["from portico.flow import *", "from portico.flow import _0, input", "ROWS = ["]
    lines += [f"    ({row[2].strip('`')}, {row[3].strip('`')}, {row[4].strip('`')})," for row in TABLE]
    path: Path = tmp_path_factory.mktemp("rows") / "combinator_rows.py"
    path.write_text("\n".join([*lines, "]"]), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("combinator_rows", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows: list[tuple[object, object, object]] = module.ROWS
    return rows


@pytest.mark.parametrize("number", range(len(TABLE)), ids=[row[2] for row in TABLE])
def test_a_combinator_does_what_the_table_says(
    number: int, examples: list[tuple[object, object, object]], daemon: Daemon
) -> None:
    step, flow_input, result = examples[number]
    with Client(daemon.url) as client:
        assert client.run(step, flow_input) == result  # type: ignore[arg-type]  # it is a step
