"""The table of commands, the options before them, and how errors end the program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from portico.cli.session import Invocation, ReportedError
from portico.errors import PorticoError

PANELS = {
    "Start and stop": ("up", "open", "down", "status", "apply", "doctor", "settings", "version", "cookbook"),
    "Ask": ("ask", "chat", "search", "draw", "speak", "transcribe", "tui"),
    "Models": ("models", "adapters", "engines", "plugins", "pull", "tokens", "batches", "ps", "top", "logs"),
    "Fine-tuning": ("tune", "compare"),
    "Evaluation": ("evals",),
    "Knowledge": ("stores", "files", "chunk", "chunkers"),
    "Apps and agents": (
        "apps",
        "agents",
        "sessions",
        "facts",
        "chats",
        "prompts",
        "run",
        "runs",
        "approvals",
        "web",
    ),
    "Tools": ("tools", "serve", "mcp", "agent-server"),
    "Access": ("keys",),
    "Operation": ("backup", "restore", "vacuum"),
}
"""The commands as ``portico --help`` shows them. Each is the typer application ``app`` of the module of its name."""

COMMANDS = {command: panel for panel, commands in PANELS.items() for command in commands}

COMPLETION = frozenset({"install_completion", "show_completion"})
"""Options of the whole program that typer puts into every application."""


class _Loaded(MutableMapping[str, Any]):
    """Commands by name, imported when they are looked up."""

    def __init__(self) -> None:
        self._ready: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._ready:
            panel = COMMANDS[name]
            application = import_module(f"portico.cli.{name.replace('-', '_')}").app
            command: Any = typer.main.get_command(application)
            # Each module is an application of its own for typer; completion is installed for the program.
            command.params = [item for item in command.params if item.name not in COMPLETION]
            command.name = name
            command.rich_help_panel = panel
            self._ready[name] = command
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __setitem__(self, name: str, command: Any) -> None:
        self._ready[name] = command

    def __delitem__(self, name: str) -> None:
        del self._ready[name]


class _Group(TyperGroup):
    """A group whose commands are imported on use."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Loaded()})


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="One doorway to your models, your knowledge, your tools and your agents.",
    epilog="Example: portico up --docs ./docs, then in another terminal: portico ask 'What is this about?'",
)


@app.callback(invoke_without_command=True)
def portico(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="Where the daemon is (default: PORTICO_URL, then this machine's daemon)."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The API key (default: PORTICO_API_KEY).", show_default=False)
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options that hold for every command."""
    context.obj = Invocation(url, key)
    if version:
        from portico import __version__

        print(f"portico {__version__}")
        raise typer.Exit


def run(arguments: list[str]) -> int:
    """Run one command line. Every `PorticoError` ends as one sentence on standard error and exit code 1."""
    try:
        typer.main.get_command(app).main(arguments, prog_name="portico")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except PorticoError as error:
        _report(error, as_json="--json" in arguments)
        return 1
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        _report(PorticoError(f"{error.strerror or error}{where}."), as_json="--json" in arguments)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _report(error: PorticoError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(error.body().to_json(), ensure_ascii=False), file=sys.stderr)
    elif not isinstance(error, ReportedError):
        typer.secho(error.message, fg="red", err=True)
