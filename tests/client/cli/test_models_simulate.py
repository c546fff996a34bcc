"""`portico models simulate`, which contacts no daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.daemon import ROOT

from portico.cli.root import run

EXAMPLE = ROOT / "configs" / "simulation"


def simulate(*arguments: object) -> int:
    return run(["models", "simulate", *map(str, arguments)])


def test_the_example_says_what_each_number_of_machines_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (EXAMPLE / "trace.jsonl.gz", "--machines", EXAMPLE / "machines.yaml")
    assert simulate(*arguments, "--first-token", 15, "--json") == 0
    simulation = json.loads(capsys.readouterr().out)
    assert [estimate["machines"] for estimate in simulation["data"]] == [
        {"gpu": number} for number in (1, 2, 3, 4)
    ]
    assert simulation["cheapest"] == next(
        estimate for estimate in simulation["data"] if estimate["first_token"]["p95"] <= 15
    )
    assert simulate(*arguments, "--first-token", 0) == 0
    heading, *rows, verdict = capsys.readouterr().out.splitlines()
    assert "\t" in heading and heading.upper() == heading
    assert [row.split("\t")[0] for row in rows] == ["1 gpu", "2 gpu", "3 gpu", "4 gpu"]
    assert verdict.startswith("With none of these")


def test_an_invalid_simulation_file_is_reported_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = EXAMPLE / "machines.yaml"
    (tmp_path / "broken.gz").write_bytes(b"no gzip")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "loop.yaml").write_text("machines: [")
    for trace, plan, words in (
        (tmp_path / "none.jsonl", machines, "none.jsonl does not exist"),
        (tmp_path / "broken.gz", machines, "cannot be read as text"),
        (tmp_path / "bytes.jsonl", machines, "cannot be read as text"),
        (EXAMPLE / "trace.jsonl.gz", tmp_path / "loop.yaml", "is not valid YAML"),
        (EXAMPLE / "trace.jsonl.gz", tmp_path / "none.yaml", "none.yaml does not exist"),
    ):
        assert simulate(trace, "--machines", plan) == 1
        assert words in capsys.readouterr().err
