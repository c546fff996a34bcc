"""``portico chunk`` and ``portico chunkers`` against a real daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.cli.conftest import Command

from portico.cli.chunk import _table
from portico.cli.render import console
from portico.schemas.chunks import Chunk, Cut
from portico.wire import Place

TEXT = "# Fees\n\nA berth costs 40 crowns. It is paid at the gate.\n\n# 价目\n\n帆船每晚四十克朗。\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fees.md"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_the_chunkers_are_listed(command: Command) -> None:
    lines = command("chunkers").out.splitlines()
    assert len(lines) >= 20
    assert any(line.startswith("sentence\t1000\t100\t") for line in lines)
    assert {"name", "description", "size", "overlap", "formats"} == set(
        command("chunkers", "--json").json["data"][0]
    )


def test_chunks_of_several_strategies_are_compared_in_one_table(command: Command, file: Path) -> None:
    sizes = ("--size", "50", "--overlap", "0", "-n", "2")
    done = command("chunk", str(file), "--strategy", "section", "-s", "fixed", *sizes)
    heading, *rows = [line.split("\t") for line in done.out.splitlines()]
    assert heading == ["STRATEGY", "CHUNK", "OF", "PLACE", "TEXT"]
    assert {row[0] for row in rows} == {"section", "fixed"}
    assert len([row for row in rows if row[0] == "fixed"]) == 2
    assert "line 1 · Fees" in rows[0][3]
    cuts = command("chunk", str(file), "--json").json["data"]
    assert cuts[0]["strategy"] == {"type": "auto"}
    assert cuts[0]["chunks"][0]["text"].startswith("# Fees")


def test_an_unknown_strategy_is_refused_with_the_nearest_name(command: Command, file: Path) -> None:
    done = command("chunk", str(file), "-s", "sentense")
    assert done.code == 1
    assert "Did you mean 'sentence'" in done.err
    assert "The file 'nowhere.pdf' does not exist" in command("chunk", "nowhere.pdf").err


def test_on_a_terminal_each_strategy_has_a_column() -> None:
    page_cut = Cut({"type": "page"}, 7, 3, 9, (Chunk("First\x1b[31m page", Place(page=1)),))
    fine_cut = Cut({"type": "fine"}, 2, 1, 900, (Chunk("a", Place()), Chunk("b" * 900, Place())))
    out = console()
    with out.capture() as captured:
        out.print(_table([page_cut, fine_cut]))
    text = captured.get()
    assert "7 chunks" in text
    assert "page 1" in text
    assert "\x1b[31m" not in text
    assert "b" * 900 not in text.replace("\n", "")
