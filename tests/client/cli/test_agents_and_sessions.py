"""`portico agents` and `portico sessions` against a real daemon."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.daemon import Daemon

from portico.cli.root import run

SPEC = {
    "portico_agent": 1,
    "name": "clerk",
    "description": "Repeats what it hears.",
    "instructions": "Repeat.",
    "tools": ["calculator", {"tool": "python_light", "as": "python"}],
    "strategy": "text_tools",
}


class Shell:
    """Commands to one daemon."""

    def __init__(self, daemon: Daemon, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._daemon, self._capsys, self._patch = daemon, capsys, patch

    def __call__(self, *words: str, given: str = "", code: int = 0) -> str:
        self._patch.setattr("sys.stdin", io.StringIO(given))
        assert run(["--url", self._daemon.url, *words]) == code
        out, error = self._capsys.readouterr()
        return out if code == 0 else error

    def json(self, *words: str, given: str = "") -> Any:
        return json.loads(self(*words, "--json", given=given))


@pytest.fixture
def shell(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(daemon, capsys, monkeypatch)


@pytest.fixture
def clerk(shell: Shell, tmp_path: Path) -> str:
    file = tmp_path / "clerk.json"
    file.write_text(json.dumps(SPEC), encoding="utf-8")
    shell("agents", "deploy", str(file))
    return "clerk"


def test_an_agent_is_deployed_listed_shown_and_removed(shell: Shell, clerk: str) -> None:
    assert "clerk" in shell("agents", "list") and "Repeats what it hears." in shell("agents", "list")
    assert [item["name"] for item in shell.json("agents", "list")["data"]] == ["clerk"]
    shown = shell("agents", "show", clerk)
    assert all(word in shown for word in ("text_tools", "calculator, python_light", "Repeat."))
    assert shell.json("agents", "show", clerk)["spec"]["tools"] == SPEC["tools"]
    assert "Would remove" in shell("agents", "remove", clerk, "--dry-run")
    assert "Removed 'clerk'" in shell("agents", "remove", clerk, "--yes")
    assert "no deployed app" in shell("agents", "show", clerk, code=1)


def test_what_is_no_agent_is_not_shown(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(
        '{"portico_flow": 1, "name": "plain", "step": {"name": "say", "op": "emit", "text": "x"}}'
    )
    shell("apps", "deploy", str(file))
    assert "'plain' is no agent" in shell("agents", "show", "plain", code=1)


def test_an_agent_of_a_python_file_is_deployed(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "parrot.py"
    file.write_text("from portico.agent import Agent\nagent = Agent(name='parrot', instructions='Repeat.')\n")
    assert "'parrot' answers at version 1" in shell("agents", "deploy", f"{file}:agent")
    assert "hello" in shell("agents", "chat", "parrot", given="hello\n")


def test_a_chat_goes_on_in_its_session(shell: Shell, clerk: str) -> None:
    assert shell("agents", "chat", clerk, "--session", "mon", given="one\n\ntwo\n").split() == ["one", "two"]
    said = shell.json("agents", "chat", clerk, "--session", "mon", given="three\n")["messages"]
    assert [message["content"] for message in said] == ["three", "three"]
    shown = shell("sessions", "show", "clerk/mon")
    assert [shown.count(word) for word in ("one", "two", "three", "clerk\n")] == [2, 2, 2, 4]


def test_sessions_are_listed_searched_and_named(shell: Shell, clerk: str) -> None:
    shell("agents", "chat", clerk, "--session", "heater", given="the heater is broken\n")
    shell("agents", "chat", clerk, "--session", "other", given="hello\n")
    listed = shell.json("sessions", "list", "--app", clerk)["data"]
    assert [item["name"] for item in listed][:2] == ["other", "heater"]
    found = shell.json("sessions", "list", "--search", "heater is")["data"]
    assert [item["name"] for item in found] == ["heater"]
    assert "'heater' is now called 'Cold'" in shell("sessions", "rename", "clerk/heater", "Cold")
    assert "Cold" in shell("sessions", "list") and "Cold" in shell("sessions", "show", found[0]["id"])
    assert "has no session 'nope'" in shell("sessions", "show", "clerk/nope", code=1)


def test_a_session_is_copied_emptied_and_removed(shell: Shell, clerk: str) -> None:
    shell("agents", "chat", clerk, "--session", "first", given="hello\n")
    assert "clerk/second" in shell("sessions", "fork", "clerk/first", "--name", "second")
    assert "--yes" in shell("sessions", "reset", "clerk/first", code=1)
    assert "is empty" in shell("sessions", "reset", "clerk/first", "--yes")
    assert shell.json("sessions", "show", "clerk/first")["messages"] == []
    assert len(shell.json("sessions", "show", "clerk/second")["messages"]) == 2
    assert "Would remove" in shell("sessions", "delete", "clerk/second", "--dry-run")
    assert shell.json("sessions", "delete", "clerk/second", "--yes")["removed"].startswith("conv_")
    assert "has no session" in shell("sessions", "show", "clerk/second", code=1)


def test_a_session_is_exported_and_read_back(shell: Shell, clerk: str, tmp_path: Path) -> None:
    shell("agents", "chat", clerk, "--session", "whole", given="hello\n")
    state = shell("sessions", "export", "clerk/whole")
    assert [message["content"] for message in json.loads(state)["memory"]] == ["hello", "hello"]
    file = tmp_path / "whole.json"
    file.write_text(state, encoding="utf-8")
    assert "clerk/back is there" in shell("sessions", "import", str(file), "clerk/back")
    assert shell("sessions", "export", "clerk/back") == state
    assert "--yes" in shell("sessions", "import", str(file), "clerk/back", code=1)
    assert shell.json("sessions", "import", "-", "clerk/back", "--yes", given=state)["name"] == "back"
    assert "APP/NAME" in shell("sessions", "import", str(file), "nameless", code=1)
    file.write_text("[1", encoding="utf-8")
    assert "is not JSON" in shell("sessions", "import", str(file), "clerk/back", code=1)
