"""The command line of a module that runs on several nodes of one job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from portico_server.launchers import node_task
from portico_server.subprocesses import run_script

NODES_LAUNCHER: Final = "slurm"
"""The launcher that can start a job on several nodes."""

NODE_TASK: Final = Path(node_task.__file__)


def node_command(python: Path, nodes: int, words: Sequence[str]) -> list[str]:
    """Return the command that runs a module with its arguments, ``words``, as one task on each node of a job.

    `portico_server.launchers.node_task` replaces the names in braces. Only the first task communicates with the daemon.
    If a task fails, all end.
    """
    command = run_script(NODE_TASK, *words, python=python)
    if nodes == 1:
        return command
    place = (f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1")
    return ["srun", *place, "--input=0", "--kill-on-bad-exit=1", "--unbuffered", *command]
