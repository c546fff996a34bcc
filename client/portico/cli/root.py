"""The table of commands, the global options, and how errors end the program."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from portico.cli.render import json_text, safe
from portico.cli.session import Invocation, ReportedError, deferred
from portico.errors import PorticoError

UsageError: Any = typer.BadParameter.__base__
"""Typer's error for an invalid command line. Its own name is only in a private module."""

PANELS = {
    "Start and stop": {
        "up": "Start the daemon, show its startup, and run until Ctrl-C.",
        "open": "Open the daemon's page in a browser; without a browser, print its address.",
        "down": "Stop the daemon and its models, and wait until the daemon has exited.",
        "status": "Show the daemon's address, models, stores and apps.",
        "apply": "Create and change what a file defines: models, stores, tools, MCP servers, prompts, skills, "
        "apps, agents, schedules.",
        "doctor": "Check for problems that could prevent Portico from working on this machine. Exit code 1 if "
        "there are any.",
        "settings": "Print every setting of the daemon, or the settings it would start with if no daemon is running.",
        "version": "Print the versions of this client and of the daemon, if one responds.",
        "cookbook": "Recipes: list, start.",
    },
    "Ask": {
        "ask": "Ask about your documents: print the answer, then the passages it cites, with quoted sentences "
        "in bold.",
        "chat": "Chat with an app or a model. Ctrl-C stops an answer; at the prompt it leaves.",
        "search": "Search a store and print ranked passages with scores and locations.",
        "draw": "Generate an image, or edit an image, and write it to a file. Ctrl-C stops the model.",
        "speak": "Write a text as speech to a file, or generate music. Ctrl-C stops the model.",
        "transcribe": "Transcribe a recording. Ctrl-C stops the model.",
        "tui": "Open the terminal UI, which has a screen for each resource of the daemon.",
    },
    "Models": {
        "models": "Models: list, add, load, unload, remove.",
        "adapters": "Adapters of models: add, list, scale, export, remove.",
        "engines": "Engines: list, install, remove, doctor.",
        "plugins": "Plugins: list.",
        "guards": "Guards: list.",
        "pull": "Download a model's files into the cache and verify them. An interrupted download is resumed.",
        "tokens": "Show the tokens of a text and their number.",
        "batches": "Batches: many requests in a file, processed in the background.",
        "ps": "List the models in memory and how much memory each uses.",
        "top": "Show active models: memory, calls, tokens per second, restarts. Prints once if not on a "
        "terminal.",
        "logs": "Print the last lines of a model's log. With --follow, continue with new lines as they are "
        "written.",
    },
    "Fine-tuning": {
        "tune": "Fine-tuning: train a model on your examples; follow, pause or cancel the training.",
        "distil": "Distillation: a small model learns the answers of a larger model, and answers behind its alias "
        "where it is sure.",
        "compare": "Ask two models the same questions and compare their answers. Exit code 1 if --promote is set "
        "and the second model is not better.",
    },
    "Evaluation": {
        "evals": "Evaluations: grade the answers of models, apps and stores, and search for better settings.",
        "replay": "Run a recorded run again without its models, stores and tools, and show the first step that "
        "differs.",
        "improve": "Find the part of an app that fails on your cases, and measure changes of it on cases that were "
        "held back.",
        "test": "Replay each recording in a folder with the current version of its app. Exit code 1 if any run "
        "differs.",
    },
    "Knowledge": {
        "stores": "Stores: knowledge bases that you can search and ask.",
        "files": "Files: upload, list, remove.",
        "chunk": "Show side by side how strategies would split a document. Nothing is stored.",
        "chunkers": "List the strategies for splitting documents, and for which files each strategy is the default.",
    },
    "Apps and agents": {
        "apps": "Apps: stores, flows and agents that answer conversations; each is also a model name.",
        "agents": "Agents: models with instructions, tools and a memory; each is also a model name.",
        "sessions": "Sessions: conversations with agents, including the memory of every agent.",
        "facts": "Facts: the long-term memory of agents, each fact with the conversation in which it was learned.",
        "chats": "Chats: chat completions that were requested with 'store'.",
        "prompts": "Prompts: versioned texts with arguments.",
        "skills": "Skills: folders with instructions and scripts that models read when needed.",
        "run": "Run a flow in the daemon without deploying it. Functions that cannot be sent run in this "
        "process.",
        "runs": "Runs: calls, flows, downloads and indexing, with their events.",
        "approvals": "Approvals: tools that ask before they run, and other questions of runs.",
        "web": "Serve a single app as a page, with a separate key that is revoked when this command ends. "
        "Ctrl-C stops it.",
    },
    "Tools": {
        "tools": "Tools: functions that models can call.",
        "containers": "Containers: sandbox folders that the code of several calls shares.",
        "serve": "Serve Python functions as tools: called through the daemon, run in this process. Ctrl-C "
        "finishes running calls.",
        "mcp": "Serve the daemon's tools and documents to an assistant that uses MCP over standard input and "
        "output.",
        "connect": "Connect an editor or agent on this machine: its MCP server, its models, its skills, and a key of "
        "its own.",
        "agent-server": "Serve the Agent Client Protocol on standard input and output, for editors such as Zed.",
    },
    "Access": {
        "login": "Sign in to a daemon with your account at its issuer, instead of a key.",
        "logout": "Sign out of a daemon: remove the local tokens, and have the issuer revoke them if it supports "
        "that.",
        "whoami": "Print your identity at the daemon: role, scopes and limits, and when the token expires.",
        "keys": "Keys: who can call the daemon, and what they can do.",
    },
    "Operation": {
        "canaries": "Canaries: an alias whose calls are split between two models, or two versions of an app.",
        "cluster": "Machines: daemons, nodes of each launcher, and the work on them.",
        "schedules": "Schedules: apps that run, and stores that sync, at set times.",
        "webhooks": "Webhooks: URLs that are notified of finished work.",
        "backup": "Write all data of the daemon to a file, while it serves or while no daemon is running.",
        "restore": "Restore a home folder from a backup, while no daemon runs on it. The file is fully verified "
        "before anything changes.",
        "migrate": "Copy all data from a home folder into a PostgreSQL database, or back, while no daemon runs on "
        "either.",
        "package": "Write an app and everything it needs, pinned, to a folder or file: configuration, flows, "
        "stores, Portico itself.",
        "vacuum": "Free unused space in the database file, while the daemon serves or while no daemon is running.",
    },
}
"""The commands as ``portico --help`` shows them, each with the first paragraph of the command's own help.

Neither ``portico --help`` nor completion imports a command. Each command is the typer application ``app`` in the
module with the command's name.
"""

COMMANDS = {name: (panel, text) for panel, commands in PANELS.items() for name, text in commands.items()}


def group(name: str, example: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return the typer application for a command with subcommands. Its help is the command's line in `COMMANDS`."""
    return typer.Typer(cls=cls, no_args_is_help=True, help=COMMANDS[name][1], epilog=f"Example: {example}")


COMPLETION = frozenset({"install_completion", "show_completion"})
"""Options that concern the whole program, but that typer adds to every application."""


SAME_VERBS = (
    frozenset({"add", "create", "make", "new"}),
    frozenset({"delete", "remove", "rm"}),
    frozenset({"describe", "get", "info", "show"}),
    frozenset({"list", "ls"}),
    frozenset({"change", "edit", "set", "update"}),
)
"""Groups of synonymous verbs. Each command uses the verb that fits it best, but a user may try a synonym."""


def _load_help() -> None:
    """Import the modules that print help, and make them print texts unchanged. Otherwise typer would parse ``[word]``
    as a style and drop it.
    """
    with deferred(
        "rich.markdown", "rich.traceback"
    ):  # not needed, and slower to import than all other modules together
        help_pages = import_module("typer.rich_utils")

    def literal(*, text: str, style: str = "", markup_mode: str = "") -> Any:
        return help_pages.highlighter(help_pages.Text(safe(inspect.cleandoc(text)), style=style))

    help_pages.__dict__.update(_make_rich_text=literal, rich_render_text=safe)


def _print_help_literally(kind: Any) -> None:
    show = kind.format_help

    def format_help(command: Any, context: Any, formatter: Any) -> None:
        _load_help()
        show(command, context, formatter)

    kind.format_help = format_help


_print_help_literally(TyperCommand)
_print_help_literally(TyperGroup)


def _suggest_same_verb(group: TyperGroup) -> None:
    """Make the error for an unknown command suggest a synonymous verb instead of a verb with similar spelling."""
    resolve = group.resolve_command

    def resolve_command(ctx: Any, args: list[str]) -> Any:
        meaning = next((verbs for verbs in SAME_VERBS if args[0] in verbs), frozenset[str]())
        same_verb = next((verb for verb in group.commands if verb in meaning), None)
        if same_verb is not None and args[0] not in group.commands and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{same_verb}'?")
        return resolve(ctx, args)

    group.resolve_command = resolve_command  # type: ignore[method-assign]


class _Loaded(MutableMapping[str, Any]):
    """A mapping from names to commands. A command is imported when it is first requested."""

    def __init__(self) -> None:
        self._ready: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._ready:
            application = import_module(f"portico.cli.{name.replace('-', '_')}").app
            command: Any = typer.main.get_command(application)
            # In typer, each module is a separate application, but completion belongs to the whole program.
            command.params = [item for item in command.params if item.name not in COMPLETION]
            command.name = name
            if isinstance(command, TyperGroup):
                _suggest_same_verb(command)
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
    """A group that imports a command when it is called, not when it is listed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Loaded()})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, and keep the original command line for error messages that show a corrected one."""
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. If a global option follows the command, the error shows the corrected command line."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            name = getattr(error, "option_name", "")
            option = next((item for item in self.params if name in item.opts), None)
            if option is not None and getattr(error, "possibilities", None) is not None:
                error.possibilities = []
                line = _with_option_first(ctx.meta[__name__], option)
                error.message = f"'{name}' is an option of 'portico': put it before the command: {line}"
            raise

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in with a command's name and summary, for help and completion."""
        if cmd_name not in COMMANDS:
            return None
        panel, text = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=text, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command, to call it or to complete its arguments."""
        name, command, remainder = super().resolve_command(ctx, args)
        return name, self.commands[name] if name and command else command, remainder


def _with_option_first(arguments: list[str], option: Any) -> str:
    """Return the command line with a global option moved in front of the command. The value of ``--key`` is not
    shown.
    """
    name = option.opts[0]
    at = next(place for place, word in enumerate(arguments) if word.partition("=")[0] == name)
    _, equals, value = arguments[at].partition("=")
    remainder = arguments[at + 1 :]
    if not equals and not option.is_flag and remainder:
        value, *remainder = remainder
    if not option.is_flag and (name == "--key" or not value):
        value = option.name.upper()
    words = [name, value] if value else [name]
    return shlex.join(["portico", *words, *arguments[:at], *remainder])


def _convert_given_values_alone(kind: Any) -> None:
    """Make typer convert only values that were given. Converting imports pydantic, which takes longer to import than
    typer.
    """
    convert = kind.process_value

    def process_value(parameter: Any, context: Any, value: Any) -> Any:
        if value is not None or parameter.required:
            return convert(parameter, context, value)
        empty_value = () if parameter.multiple or parameter.nargs == -1 else None
        return parameter.callback(context, parameter, empty_value) if parameter.callback else empty_value

    kind.process_value = process_value


_convert_given_values_alone(TyperArgument)
_convert_given_values_alone(TyperOption)

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
        typer.Option(help="The address of the daemon (default: PORTICO_URL, then this machine's daemon)."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The API key (default: PORTICO_API_KEY).", show_default=False)
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options that apply to every command."""
    context.obj = Invocation(url, key)
    if version:
        from portico import _build

        print(f"portico {_build.version()}")
        raise typer.Exit


def run(arguments: list[str]) -> int:
    """Run a command line and return the exit code. A `PorticoError` becomes one sentence on standard error and exit
    code 1.
    """
    try:
        if "_PORTICO_COMPLETE" in os.environ:
            _load_help()
        typer.main.get_command(app).main(arguments, prog_name="portico")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except PorticoError as error:
        _report(error, as_json="--json" in arguments)
        return 1
    except OSError as error:
        file_text = f" '{error.filename}'" if error.filename else ""
        _report(PorticoError(f"{error.strerror or error}{file_text}."), as_json="--json" in arguments)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _report(error: PorticoError, *, as_json: bool) -> None:
    if as_json:
        print(json_text(error.body().to_json()), file=sys.stderr)
    elif not isinstance(error, ReportedError):
        typer.secho(safe(error.message), fg="red", err=True)
