"""The `portico` command: one file per command group, each loaded only when its command is used.

Stands on the SDK alone. `portico up` starts its daemon before anything heavy is imported, so this file and
``root``, ``up``, ``render`` and ``session`` import neither httpx nor rich.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def main() -> int:
    """Entry point. The exit code: 0 done, 1 an error, 2 a wrong command line, 130 interrupted."""
    for name in ("stdin", "stdout", "stderr"):
        if (
            getattr(sys, name) is None
        ):  # closed by whoever started us: what is opened next would take its place
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # until the end
    try:
        if find_spec("typer") is None or find_spec("rich") is None:
            from portico._installed import how_to_add

            print(f"The 'portico' command needs its extra 'cli': {how_to_add('cli')}", file=sys.stderr)
            return 2
        from portico.cli.root import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # while it was still being read
        return 130
