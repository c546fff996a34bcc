"""`portico tools`: tools looked at, added and removed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command

FOLDER = Path(__file__).parents[2] / "server" / "tools" / "added"


def test_a_tool_is_shown_with_its_arguments(command: Command) -> None:
    shown = command("tools", "show", "search").out
    assert "built-in" in shown and "query\tstring\tyes" in shown
    assert command("tools", "show", "search", "--json").json["read_only"] is True
    assert "Did you mean 'search'" in command("tools", "show", "serch").err


def test_a_command_is_added_called_and_removed(command: Command) -> None:
    assert "Nothing was added" in command("tools", "sources").out
    program = (sys.executable, "-c", "import sys; print(sys.argv[1:])", "{text}")
    added = command("tools", "add", "echo", "--describe", "Says it again.", "--read-only", "--", *program)
    assert added.out == "Added echo.\n"
    assert command("tools", "call", "echo", "text=$HOME;").out == "['$HOME;']\n\n"
    assert command("tools", "sources").out.startswith("echo\tcommand\tready\t1\t")
    assert command("tools", "remove", "echo", "--dry-run").code == 0
    assert command("tools", "remove", "echo", "--yes").code == 0
    assert command("tools", "call", "echo", "text=x").code == 1


def test_a_function_is_looked_for_in_this_folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    assert command("tools", "add", "area", "--function", "geometry:area").out == "Added area.\n"
    assert command("tools", "call", "area", "width=3", "--json").json["structured"]["area"] == 6
    assert command("tools", "remove", "area", "--yes").code == 0
    failed = command("tools", "add", "none", "--function", "geometry:none")
    assert failed.code == 1 and "none" in failed.err


def test_what_is_neither_is_refused(command: Command) -> None:
    assert "needs one of" in command("tools", "add", "x").err
    assert "NAME=VALUE" in command("tools", "add", "x", "--env", "A", "--", "true").err
