"""The table of commands, the options before them, and how errors end the program."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from portico.cli.render import safe
from portico.cli.session import Invocation, ReportedError, deferred
from portico.errors import PorticoError

UsageError: Any = typer.BadParameter.__base__
"""The error of a wrong command line; typer names it only in a private module."""

PANELS = {
    "Start and stop": {
        "up": "Start the daemon, show its start, and stay until Ctrl-C.",
        "open": "Open the daemon's page in a browser; where there is none, print its address.",
        "down": "Stop the daemon, its models included, and wait until it has ended.",
        "status": "Show where the daemon is, and its models, stores and apps.",
        "apply": "Create and change what a file has: models, stores, tools, MCP servers, prompts, skills, apps, "
        "agents, schedules.",
        "doctor": "Look for what could keep Portico from working here. Exit code 1 if something does.",
        "settings": "Print every setting of the daemon, or those it would start with if none runs.",
        "version": "Print the versions of this client and of the daemon, if one answers.",
        "cookbook": "Recipes: list, start.",
    },
    "Ask": {
        "ask": "Ask about your documents: print the answer, then the passages it cites, quoted sentences in bold.",
        "chat": "Talk to an app or a model. Ctrl-C stops an answer; at the prompt it leaves.",
        "search": "Search a store: ranked passages with scores and their places.",
        "draw": "Draw a picture into a file, or change one. Ctrl-C stops the model.",
        "speak": "Say a text aloud into a file, or make music. Ctrl-C stops the model.",
        "transcribe": "Write down what is said in a recording. Ctrl-C stops the model.",
        "tui": "Open the terminal UI, which has a screen for everything that the daemon has.",
    },
    "Models": {
        "models": "Models: list, add, load, unload, remove.",
        "adapters": "Adapters of models: add, list, scale, export, remove.",
        "engines": "Engines: list, install, remove, doctor.",
        "plugins": "Plugins: list.",
        "guards": "Guards: list.",
        "pull": "Fetch a model's files into the cache and check them. What broke off is continued.",
        "tokens": "Show the tokens of a text, and how many there are.",
        "batches": "Batches: many requests in one file, answered while nobody waits.",
        "ps": "List the models in memory, and how much each takes.",
        "top": "Show the models at work: memory, calls, tokens per second, restarts. Once if not on a terminal.",
        "logs": "Print the last lines of a model's log, and with --follow those that come.",
    },
    "Fine-tuning": {
        "tune": "Fine-tuning: train a model on your examples, and follow, pause or cancel that.",
        "compare": "Ask two models the same, and put their answers side by side. Exit code 1 "
        "if the second is not promoted.",
    },
    "Evaluation": {
        "evals": "Evaluations: judge what models, apps and stores answer, and look for better settings."
    },
    "Knowledge": {
        "stores": "Stores: knowledge bases that you can search and ask.",
        "files": "Files: upload, list, remove.",
        "chunk": "Show how a document would be cut, side by side. Nothing is kept.",
        "chunkers": "List the ways to cut documents, and which files each is the usual one for.",
    },
    "Apps and agents": {
        "apps": "Apps: stores, flows and agents that answer a conversation; each is also a model name.",
        "agents": "Agents: models with instructions, tools and a memory; each is also a model name.",
        "sessions": "Sessions: conversations with agents, with the memory of every agent in them.",
        "facts": "Facts: the long-term memory of agents, each with the conversation that it was learnt in.",
        "chats": "Chats: chat completions that were asked for with 'store'.",
        "prompts": "Prompts: texts with arguments, kept in versions.",
        "skills": "Skills: folders with instructions and scripts, which models read when they need them.",
        "run": "Run a flow in the daemon without deploying it. Functions that cannot travel are executed here.",
        "runs": "Runs: calls, flows, downloads and indexing, with their events.",
        "approvals": "Approvals: tools that ask before they run, and whatever else a run waits for.",
        "web": "Serve one app alone as a page, with a key of its own that ends with this command. Ctrl-C ends it.",
    },
    "Tools": {
        "tools": "Tools: what models may call.",
        "containers": "Containers: folders of the sandbox that code of several calls shares.",
        "serve": "Serve Python functions as tools: called over the daemon, executed here. "
        "Ctrl-C finishes what has begun.",
        "mcp": "Serve the daemon's tools and documents to an assistant that speaks MCP over standard input and output.",
        "agent-server": "Speak the Agent Client Protocol on standard input and output, for editors such as Zed.",
    },
    "Access": {
        "login": "Sign in at a daemon with the account that you have at its issuer, instead of a key.",
        "logout": "Sign out at a daemon: remove the tokens here, and have the issuer end them, where it can.",
        "whoami": "Print who you are at the daemon: role, scopes and limits, and until when the token counts.",
        "keys": "Keys: who may call the daemon, and what.",
    },
    "Operation": {
        "canaries": "Canaries: an alias whose calls are split between two models, or two versions of an app.",
        "cluster": "Machines: daemons, nodes of each launcher, and what runs where.",
        "schedules": "Schedules: apps that run, and stores that sync, at given times.",
        "webhooks": "Webhooks: addresses that hear of what has ended.",
        "backup": "Write everything that the daemon keeps to one file, while it serves, or while none runs.",
        "restore": "Make a home folder of a backup, on which no daemon runs. The file is "
        "checked whole before anything changes.",
        "package": "Write an app and all that it needs, pinned, to a folder or a file: configuration, flows, stores, "
        "Portico itself.",
        "vacuum": "Give back the room within the database file that nothing uses, while the "
        "daemon serves, or while none runs.",
    },
}
"""The commands as ``portico --help`` shows them, each with the first paragraph of its own help: neither that page nor
completion imports a command. Each is the typer application ``app`` of the module of its name."""

COMMANDS = {name: (panel, text) for panel, commands in PANELS.items() for name, text in commands.items()}


def group(name: str, example: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return the application of a command that has commands below it; its help is its line in `COMMANDS`."""
    return typer.Typer(cls=cls, no_args_is_help=True, help=COMMANDS[name][1], epilog=f"Example: {example}")


COMPLETION = frozenset({"install_completion", "show_completion"})
"""Options of the whole program that typer puts into every application."""


SAME_VERBS = (
    frozenset({"add", "create", "make", "new"}),
    frozenset({"delete", "remove", "rm"}),
    frozenset({"describe", "get", "info", "show"}),
    frozenset({"list", "ls"}),
    frozenset({"change", "edit", "set", "update"}),
)
"""Words for one thing: a noun has the verb that fits it, and somebody may try another."""


def _load_help() -> None:
    """Import what prints help, and have it print texts as they are: typer reads ``[word]`` as a style and drops it."""
    with deferred("rich.markdown", "rich.traceback"):  # twice the time of all else, and not used
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
    """Have a command that does not exist name the verb that means the same, not the one that is spelt alike."""
    resolve = group.resolve_command

    def resolve_command(ctx: Any, args: list[str]) -> Any:
        meaning = next((verbs for verbs in SAME_VERBS if args[0] in verbs), frozenset[str]())
        same = next((verb for verb in group.commands if verb in meaning), None)
        if same is not None and args[0] not in group.commands and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{same}'?")
        return resolve(ctx, args)

    group.resolve_command = resolve_command  # type: ignore[method-assign]


class _Loaded(MutableMapping[str, Any]):
    """Commands by name, imported when they are called."""

    def __init__(self) -> None:
        self._ready: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._ready:
            application = import_module(f"portico.cli.{name.replace('-', '_')}").app
            command: Any = typer.main.get_command(application)
            # Each module is an application of its own for typer; completion is installed for the program.
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
    """A group whose commands are imported when they are called, not when they are listed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Loaded()})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the command line for messages that correct it."""
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An option of the program that stands behind the command gets the corrected line."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            name = getattr(error, "option_name", "")
            option = next((item for item in self.params if name in item.opts), None)
            if option is not None and getattr(error, "possibilities", None) is not None:
                error.possibilities = []
                line = _with_option_first(ctx.meta[__name__], option)
                error.message = f"'{name}' is an option of 'portico' and goes before the command: {line}"
            raise

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The line about a command, for help and completion."""
        if cmd_name not in COMMANDS:
            return None
        panel, text = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=text, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself, which is called next or completes its own arguments."""
        name, command, remainder = super().resolve_command(ctx, args)
        return name, self.commands[name] if name and command else command, remainder


def _with_option_first(arguments: list[str], option: Any) -> str:
    """Return the command line with an option of the program in its place. A key is not repeated."""
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
    """Have typer import pydantic, which takes longer than typer itself, only if there is a value to convert."""
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
        if "_PORTICO_COMPLETE" in os.environ:
            _load_help()
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
        typer.secho(safe(error.message), fg="red", err=True)
