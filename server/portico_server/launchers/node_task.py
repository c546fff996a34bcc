"""``python node_task.py MODULE …``: replaces itself with a module that works together with the same module on other
nodes. Standard library only.

Slurm's ``srun`` runs it once per node. In the arguments, ``{rank}`` is replaced by the number of this node, and
``{first_host}`` and
``{first_port}`` by the address at which all nodes meet, which is on the first node. An argument after
``{follower}`` is dropped on the first node.
"""

from __future__ import annotations

import os
import sys

FIRST_PORT = 20_000

PORT_COUNT = 10_000

FOLLOWER = "{follower}"


def main() -> None:
    """Replace this process with the module. The processes that the module starts can end together with it, because the
    variable ``PORTICO_STARTER`` is its process id.
    """
    words = sys.argv[1:]
    if "SLURM_JOB_ID" in os.environ:
        rank = os.environ["SLURM_NODEID"]
        replacements = {
            "{rank}": rank,
            "{first_host}": os.environ["SLURM_LAUNCH_NODE_IPADDR"],
            "{first_port}": str(
                FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORT_COUNT
            ),  # different for each job
        }
        if rank == "0":
            words = [word for word in words if not word.startswith(FOLLOWER)]
        words = [replacements.get(word, word.removeprefix(FOLLOWER)) for word in words]
    os.environ["PORTICO_STARTER"] = str(os.getpid())
    os.execv(sys.executable, [sys.executable, "-P", "-m", *words])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
