"""``python -m portico_server serve`` runs the daemon; ``settings`` prints every value and where it came from;
``backup``, ``restore`` and ``vacuum`` work on a home folder on which no daemon runs.

People use the `portico` command, which starts this as a child process.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from portico_server.child_environment import set_for_daemon, unproxied
from portico_server.core.errors import PorticoError
from portico_server.settings import Settings, load


def _parser(chosen_command: str) -> argparse.ArgumentParser:
    """Return the parser. Only the ``chosen_command`` command has its options: each costs time at every start."""
    parser = argparse.ArgumentParser(
        prog="portico_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("serve", "run the daemon"),
        ("settings", "print the settings"),
        ("backup", "write the home folder to one file"),
        ("restore", "make a home folder of such a file"),
        ("vacuum", "give unused room of the database back"),
    ):
        command = commands.add_parser(name, help=text)
        if name != chosen_command:
            continue
        for item in fields(Settings):
            command.add_argument(
                f"--{item.name.replace('_', '-')}", dest=item.name, help=item.metadata["doc"]
            )
        command.add_argument("--file", type=Path, help="configuration file (YAML)")
        if name in ("backup", "restore"):
            command.add_argument("path", type=Path, help="the archive")
        if name == "backup":
            command.add_argument("--with-models", action="store_true", help="model files too")
        if name == "restore":
            command.add_argument("--replace", action="store_true", help="keep what is there aside")
            command.add_argument("--dry-run", action="store_true", help="check and list, and change nothing")
        if name == "serve":
            command.add_argument(
                "--docs",
                type=Path,
                action="append",
                default=[],
                help="folder that becomes a store and a chat app",
            )
            command.add_argument("--model", default="", help="source of the default chat model, or 'auto'")
            command.add_argument(
                "--parent-watch", action="store_true", help="stop when standard input closes"
            )
            command.add_argument("--quiet", action="store_true", help="log to the file alone")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Errors are one JSON line on standard output and exit code 1."""
    words = sys.argv[1:] if arguments is None else arguments
    given_arguments = _parser(words[0] if words else "").parse_args(words)
    os.environ.update(unproxied(os.environ))  # for every library that asks it, and for every child
    flags: dict[str, Any] = {item.name: getattr(given_arguments, item.name) for item in fields(Settings)}
    try:
        if given_arguments.file is None:
            configuration = None
        else:
            from portico_server import config

            configuration = config.read(given_arguments.file, lenient=given_arguments.command == "serve")
        settings = load(flags, file=configuration.settings if configuration else None)
        if given_arguments.command == "settings":
            print(json.dumps({"data": [asdict(row) for row in settings.describe()]}, ensure_ascii=False))
            return 0
        if given_arguments.command != "serve":
            from portico_server import maintenance

            return maintenance.run(given_arguments, settings)
        # NumPy reads it when it is first imported. More threads wait for each other by spinning, which costs each
        # search of a store without a graph several times what it computes.
        set_for_daemon("OPENBLAS_NUM_THREADS", "1")
        # What is imported stays: looking for garbage in it, again and again, would be a tenth of the start.
        gc.disable()
        from portico_server import app

        gc.freeze()
        gc.enable()
        options = app.StartOptions(
            docs=tuple(given_arguments.docs),
            model=given_arguments.model,
            parent_watch=given_arguments.parent_watch,
            quiet=given_arguments.quiet,
            configuration=configuration,
        )
        return app.main(settings, options)
    except PorticoError as error:
        print(json.dumps(error.body().to_json(), ensure_ascii=False), flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
