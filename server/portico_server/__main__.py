"""``python -m portico_server serve`` runs the daemon. ``settings`` prints every setting with its value and source.
``backup``, ``restore``, ``vacuum`` and ``migrate`` work on a home folder while no daemon runs on it.

Users run the `portico` command, which starts this module as a child process.
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
    """Return the argument parser. Only ``chosen_command`` gets its options, because adding the options of every
    command would slow startup.
    """
    parser = argparse.ArgumentParser(
        prog="portico_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("serve", "run the daemon"),
        ("settings", "print the settings"),
        ("backup", "write the home folder to one file"),
        ("restore", "restore a home folder from a backup file"),
        ("vacuum", "release unused space of the database"),
        ("migrate", "copy a home folder into a PostgreSQL database, or back"),
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
            command.add_argument("--with-models", action="store_true", help="include model files")
        if name == "restore":
            command.add_argument(
                "--replace",
                action="store_true",
                help="move the existing home folder aside instead of failing",
            )
        if name == "migrate":
            command.add_argument("source", help="home folder or PostgreSQL URL to copy")
            command.add_argument("target", help="empty home folder or database to fill")
        if name in ("restore", "migrate"):
            command.add_argument(
                "--dry-run", action="store_true", help="check and list, without changing anything"
            )
        if name == "serve":
            command.add_argument(
                "--docs",
                type=Path,
                action="append",
                default=[],
                help="folder to serve as a store with a chat app",
            )
            command.add_argument("--model", default="", help="source of the default chat model, or 'auto'")
            command.add_argument(
                "--parent-watch", action="store_true", help="stop when standard input closes"
            )
            command.add_argument("--quiet", action="store_true", help="log to the file only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """folder to serve as a store with its own chat app"""
    words = sys.argv[1:] if arguments is None else arguments
    given_arguments = _parser(words[0] if words else "").parse_args(words)
    # Libraries and child processes read these variables.
    os.environ.update(unproxied(os.environ))
    flags: dict[str, Any] = {item.name: getattr(given_arguments, item.name) for item in fields(Settings)}
    try:
        if given_arguments.file is None:
            configuration = None
        else:
            from portico_server import config

            configuration = config.read(given_arguments.file, lenient=given_arguments.command == "serve")
        if given_arguments.command == "migrate":
            from portico_server.features.backup import maintenance

            flags |= maintenance.migration_settings(given_arguments.source, given_arguments.target)
        settings = load(flags, file=configuration.settings if configuration else None)
        if given_arguments.command == "settings":
            print(json.dumps({"data": [asdict(row) for row in settings.describe()]}, ensure_ascii=False))
            return 0
        if given_arguments.command != "serve":
            from portico_server.features.backup import maintenance

            return maintenance.run(given_arguments, settings)
        # NumPy reads this variable when it is first imported. With more threads, which spin while they wait
        # for each other, a search of a store without a graph would take several times as long.
        set_for_daemon("OPENBLAS_NUM_THREADS", "1")
        # Imported modules stay in memory. Scanning them for garbage repeatedly would take a tenth of the
        # startup time.
        gc.disable()
        from portico_server import app

        gc.freeze()
        gc.enable()
        options = app.StartOptions(
            docs=tuple(given_arguments.docs),
            model=given_arguments.model,
            parent_watch=given_arguments.parent_watch,
            quiet=given_arguments.quiet,
            file=given_arguments.file,
            configuration=configuration,
        )
        return app.main(settings, options)
    except PorticoError as error:
        print(json.dumps(error.body().to_json(), ensure_ascii=False), flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
