"""The `portico` command: one file per command group, each loaded only when its command is used.

Depends only on the SDK. `portico up` starts its daemon before heavy modules are imported, so this file and ``root``,
``up``, ``render`` and ``session`` import neither httpx nor rich.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def main() -> int:
    """Run the command line. Return the exit code: 0 success, 1 an error, 2 a wrong command line, 130 interrupted."""
    for name in ("stdin", "stdout", "stderr"):
        if (
            getattr(sys, name) is None
        ):  # the parent process has closed it: the next opened file would get its descriptor
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # until the end
    try:
        if find_spec("typer") is None or find_spec("rich") is None:
            from portico._installed import how_to_add

            print(f"The 'portico' command needs the extra 'cli': {how_to_add('cli')}", file=sys.stderr)
            return 2
        from portico.cli.root import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # interrupted while the command was being imported
        return 130
