"""`portico runs`: the trace of a flow's run, continuing a run, and starting another run like it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client
from portico._read import read
from portico.cli.runs_trace import tree_of
from portico.flow import flow, llm, pipeline, warp
from portico.schemas.flows import TraceStep


@pytest.fixture
def ended(daemon: Daemon) -> str:
    """Return a durable run of three chapters, the second of which finally fails."""
    story_flow = flow(
        pipeline(
            titles=lambda topic: [f"{topic} {number}" for number in (1, 2)],
            chapters=warp(llm("default").named("write")),
            last=lambda chapters: chapters[9] if chapters[0] == "bread 1" else len(chapters),
        ),
        name="story",
        durability="normal",
    )
    with Client(daemon.url) as client:
        running = client.start(story_flow, "bread")
        with pytest.raises(Exception, match=r"story\.last"):
            running.result()
        assert running.id is not None
        return running.id


def test_the_steps_of_a_run_are_shown_with_times_tokens_and_errors(command: Command, ended: str) -> None:
    _heading, *lines = command("runs", "trace", ended).out.splitlines()
    cells = {line.split("\t")[0]: line.split("\t") for line in lines}
    assert cells["story.titles"][1:3] == ["code", "completed"]
    write = next(row for path, row in cells.items() if "chapters[0]" in path)
    assert write[1] == "llm" and write[4] == "2+2"
    assert cells["story.last"][2] == "failed" and cells["story.last"][6]
    steps = command("runs", "trace", ended, "--json").json["steps"]
    assert {step["path"] for step in steps} == set(cells)
    chart = command("runs", "trace", ended, "--mermaid").out
    assert chart.startswith("gantt\n") and "crit, " in chart and "titles (code) :" in chart
    assert "story.last" in command("runs", "tail", ended).out
    details = command("runs", "show", ended).out
    assert "failed" in details


def test_a_run_is_resumed_or_forked_with_new_input(command: Command, ended: str) -> None:
    output = command("runs", "resume", ended, "--from", "last").out
    assert output == f"{ended} continues. To follow it: portico runs tail {ended}\n"
    command("runs", "tail", ended)
    forked = command("runs", "fork", ended, "--input", "rice", "--json").json
    assert forked["id"] != ended
    tailed = command("runs", "tail", forked["id"], "--json").json["data"]
    assert tailed[-1]["type"] == "finished" and tailed[-1]["result"] == 2
    wrong = command("runs", "resume", ended, "--from", "story.lost")
    assert wrong.code == 1 and "Did you mean" in wrong.err
    assert "either --from or --input" in command("runs", "fork", ended, "--from", "a", "--input", "b").err


def test_a_file_is_the_input_of_a_fork(command: Command, ended: str, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('"rye"')
    forked = command("runs", "fork", ended, "--input", f"@{tmp_path / 'in.json'}", "--json").json
    assert command("runs", "tail", forked["id"], "--json").json["data"][-1]["result"] == 2


WORK = {"milliseconds": 12.0, "prompt_tokens": 3, "completion_tokens": 4}


def test_a_trace_tree_nests_list_items_and_inner_steps() -> None:
    def step(path: str, began: float, **more: object) -> TraceStep:
        return read(
            TraceStep,
            {"path": path, "kind": "llm", "status": "completed", "started_at": began, **WORK, **more},
        )

    steps = [
        step("story.chapters[0].write", 2.0, hit=True),
        step("story.chapters[1].write", 2.1, error={"message": "no"}),
        step("story.chapters", 1.5),
        step("story", 1.0),
        step("story.titles", 1.1),
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(tree_of("run_1", steps))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[:3] == [
        "run_1",
        "└── story  llm  12.0 ms  3+4 tokens",
        "    ├── titles  llm  12.0 ms  3+4 tokens",
    ]
    assert lines[4].endswith("├── [0]") and lines[5].endswith(
        "write  llm  12.0 ms  from the cache  3+4 tokens"
    )
    assert lines[-1].endswith("3+4 tokens  no")
