"""The command line documents itself: this fails when a command or an option lacks its help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from portico.cli.root import COMMANDS, app


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{path} {name}")


ALL = list(_commands(typer.main.get_command(app), "portico"))
LEAVES = [(path, command) for path, command in ALL if not hasattr(command, "commands")]


def test_every_command_of_the_table_is_reachable() -> None:
    assert {path.split()[1] for path, _ in ALL if " " in path} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_first_paragraph_of_its_help(name: str) -> None:
    command = dict(ALL)[f"portico {name}"]
    assert COMMANDS[name][1] == " ".join(command.help.partition("\n\n")[0].split())


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_it_says_what_it_does_and_gives_an_example_of_itself(path: str, command: Any) -> None:
    assert command.help, path
    assert command.epilog, path
    assert command.epilog.startswith("Example"), path
    assert path in command.epilog or path == "portico mcp"


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_option_and_argument_says_what_it_is(path: str, command: Any) -> None:
    for parameter in command.params:
        assert parameter.help, f"{path} {parameter.name}"


def test_completion_is_an_option_of_the_program_alone() -> None:
    with_it = [
        path for path, command in ALL if "install_completion" in {item.name for item in command.params}
    ]
    assert with_it == ["portico"]


SILENT = {"portico mcp", "portico tui", "portico agent-server"}
"""Commands that print no data: they speak a protocol, or draw a screen."""


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_whatever_prints_data_prints_it_as_json_on_request(path: str, command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (path not in SILENT)


DESTROYS = {"remove", "revoke"}


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_whatever_destroys_asks_first_and_can_be_tried_dry(path: str, command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    if path.split()[-1] in DESTROYS:
        assert {"--yes", "--dry-run"} <= options
