"""``python -m child.node MODULE …``: replaces itself with the module that starts the training processes of this
machine.

On several nodes, Slurm's ``srun`` runs it once per node. In the arguments, ``{rank}`` is replaced by the number of
this node, and ``{address}`` and ``{port}`` by the address at which all nodes meet, which is on the first node.
"""

from __future__ import annotations

import os
import sys

from .daemon import STARTER_VARIABLE

FIRST_PORT = 20_000

PORT_COUNT = 10_000


def main() -> None:
    """Replace this process with the module. The processes that the module starts end together with it."""
    replacements = {}
    if "SLURM_JOB_ID" in os.environ:
        port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORT_COUNT  # a different port for each job
        address = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
        replacements = {"{rank}": os.environ["SLURM_NODEID"], "{address}": address, "{port}": str(port)}
    words = [replacements.get(word, word) for word in sys.argv[1:]]
    os.environ[STARTER_VARIABLE] = str(os.getpid())
    os.execv(sys.executable, [sys.executable, "-P", "-m", *words])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
