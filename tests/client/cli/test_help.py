"""The command line documents itself: these tests fail when a command or an option has no help."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from portico.cli.render import console, print_rows, safe
from portico.cli.root import COMMANDS, app, run


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{path} {name}")


ALL = list(_commands(typer.main.get_command(app), "portico"))
LEAVES = [(path, command) for path, command in ALL if not hasattr(command, "commands")]


def test_every_command_of_the_table_is_reachable() -> None:
    assert {path.split()[1] for path, _ in ALL if " " in path} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_table_contains_the_first_help_paragraph_of_each_command(name: str) -> None:
    command = dict(ALL)[f"portico {name}"]
    assert COMMANDS[name][1] == " ".join(command.help.partition("\n\n")[0].split())


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_command_has_a_help_text_and_an_example(path: str, command: Any) -> None:
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
"""Commands that print no data because they speak a protocol or draw a screen."""


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_that_prints_data_has_a_json_option(path: str, command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (path not in SILENT)


DESTROYS = {"remove", "revoke"}


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_destructive_command_has_yes_and_dry_run_options(path: str, command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    if path.split()[-1] in DESTROYS:
        assert {"--yes", "--dry-run"} <= options


def _words(text: str) -> str:
    """Return a text without line breaks and frames, since help is wrapped to the width of the terminal."""
    return "".join(text.replace("│", "").split())


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_help_output_contains_every_word_of_the_help_texts(
    path: str, command: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # a narrow terminal truncates option names
    assert run([*path.split()[1:], "--help"]) == 0
    printed = _words(capsys.readouterr().out)
    children = [child.help.partition("\n\n")[0] for child in getattr(command, "commands", {}).values()]
    visible_params = [item for item in command.params if not item.hidden]
    literals = [command.help, command.epilog, *children, *(item.help for item in visible_params)]
    for text in literals:
        assert _words(text) in printed
    for item in visible_params:
        assert all(option in printed for option in item.opts if option.startswith("-"))
        assert _words(item.metavar or "") in printed


FOREIGN = ("[no evidence]", "[/]", "[bold red]x[/bold red]", ":smile:", "[link=x]y[/link]", "\\[a]")


@pytest.mark.parametrize("text", FOREIGN)
def test_help_is_never_read_as_markup(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    strange = typer.Typer()

    @strange.command(help=f"First {text}.\n\nSecond {text}.", epilog=f"Example {text}")
    def command(value: str = typer.Option("", help=f"Option {text}.", metavar=text)) -> None: ...

    with pytest.raises(SystemExit):
        strange(["--help"])
    assert capsys.readouterr().out.count(text) == 5


@pytest.mark.parametrize("text", [*FOREIGN, "\x1b[31mred\x1b[0m", "\x1b]0;title\x07"])
def test_tables_and_errors_print_foreign_text_as_it_is(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    visible = "".join(" " if ord(character) < 32 else character for character in text)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda answer=is_terminal: answer)
        print_rows(("NAME", text), [("cell", text)])
        printed = capsys.readouterr().out
        assert printed.count(visible.strip()) == 2 and "\x1b" not in printed
    console().print(text if "\x1b" not in text else safe(text))
    assert visible.strip() in capsys.readouterr().out
    monkeypatch.setenv("PORTICO_URL", "http://127.0.0.1:9")
    assert run(["apply", "-f", f"no{text}.yaml"]) == 1
    assert visible.strip() in capsys.readouterr().err
    assert run([f"no{text}"]) == 2
    printed = capsys.readouterr().err
    assert "\x1b" not in printed and (visible != text or _words(text) in _words(printed))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["status", "--url", "http://x"], "portico --url http://x status"),
        (["status", "--url=http://x", "--json"], "portico --url http://x status --json"),
        (["models", "list", "--url"], "portico --url URL models list"),
        (["stores", "show", "a b", "--key", "sk-secret"], "portico --key KEY stores show 'a b'"),
        (["ask", "--version", "why?"], "portico --version ask 'why?'"),
    ],
)
def test_a_misplaced_global_option_is_refused_with_the_corrected_command_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    printed = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert f"'{line.split()[1]}' is an option of 'portico': put it before the command: {line}" in printed
    assert "sk-secret" not in printed


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["chunkr"], "Did you mean 'chunk'"),
        (["modles", "list"], "Did you mean 'models'"),
        (["models", "lst"], "Did you mean 'list'"),
        (["models", "delete"], "Did you mean 'remove'"),
        (["ask", "--stor", "x"], "--store"),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(
    arguments: list[str], suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert suggestion in capsys.readouterr().err
