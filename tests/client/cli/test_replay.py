"""`portico runs save`, `portico replay` and `portico test`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client
from portico.flow import flow, llm, pipeline


@pytest.fixture
def run(daemon: Daemon) -> str:
    """Return a run of the app ``story``, whose two steps echo their input."""
    with Client(daemon.url) as client:
        deploy(client, "Write")
        running = client.apps.start("story", "bread")
        assert running.result() == "bread"
        assert running.id is not None
        return running.id


def deploy(client: Client, verb: str) -> None:
    client.apps.deploy(
        "story",
        flow(pipeline(plan=llm(system="Plan it."), text=llm(system=f"{verb} it.")), name="story"),
    )


def test_a_run_is_saved_and_replayed(command: Command, run: str, tmp_path: Path) -> None:
    file = tmp_path / "new" / "story.json"
    assert run in command("runs", "save", run, str(file)).out
    assert json.loads(file.read_text())["run"]["id"] == run
    for source in (run, str(file)):
        done = command("replay", source)
        assert done.code == 0
        assert done.out.startswith("'story' did the same in 2 steps")


def test_a_run_that_is_neither_a_file_nor_an_id_is_refused(command: Command) -> None:
    assert "neither a file nor the id of a run" in command("replay", "nowhere.json").err


def test_a_changed_prompt_is_shown_with_its_step(command: Command, run: str) -> None:
    done = command("replay", run, "--set", "text.system=Sing it.")
    assert done.code == 0
    summary, *lines = done.out.splitlines()
    assert summary == "'story' differs first at the step story.text, which is changed."
    assert any(line.startswith("+") and "Sing it." in line for line in lines)
    assert any(line.startswith("-") and "Write it." in line for line in lines)
    assert lines[-1].split("\t") == ["story.text", "default", "changed"]
    assert command("replay", run, "--set", "text.system=Sing it.", "--json").json["first"] == 1


def test_a_folder_of_recordings_is_tested(command: Command, run: str, tmp_path: Path, daemon: Daemon) -> None:
    assert "no recordings" in command("test", str(tmp_path)).err
    command("runs", "save", run, str(tmp_path / "story.json"))
    assert command("test", str(tmp_path)).code == 0
    with Client(daemon.url) as client:
        deploy(client, "Draw")
    done = command("test", str(tmp_path))
    assert done.code == 1
    assert "story.json\tdiffers\t" in done.out and "story.text" in done.out
    (tmp_path / "other.json").write_text("[]")
    rows = command("test", str(tmp_path), "--json").json["data"]
    assert [(row["file"], row["is_equal"]) for row in rows] == [("other.json", False), ("story.json", False)]


def test_a_run_is_exported_as_an_evaluation_item_or_training_example(
    command: Command, run: str, tmp_path: Path
) -> None:
    recording = tmp_path / "story.json"
    command("runs", "save", run, str(recording))
    for source in (run, str(recording)):
        command("runs", "save", source, str(tmp_path / "items.jsonl"), "--as", "item")
        command("runs", "save", source, str(tmp_path / "examples.jsonl"), "--as", "example")
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert items == [{"item": {"input": "bread", "output": "bread"}}] * 2
    examples = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert [message["role"] for message in examples[0]["messages"]] == ["user", "assistant"]
    assert len(examples) == 2
