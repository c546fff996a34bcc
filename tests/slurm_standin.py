"""A ``scontrol`` whose cluster is two lines of a file, for situations that a real cluster cannot produce on demand."""

from __future__ import annotations

from pathlib import Path

_SCRIPT = """#!/bin/sh
cd '{folder}' || exit 1
case "$1" in
--oneliner)
    test -e hangs && exec sleep 1000
    cat nodes ;;
update)
    test -e refuses && {{ echo "slurm_update error: Access/permission denied" >&2; exit 1; }}
    echo "$2 $3 $4" >> updates
    case "$3" in
    State=RESUME) sed -i "/$2 /{{s/State=[^ ]*/State=IDLE/;s/ Reason=.*//}}" nodes ;;
    *) sed -i "/$2 /{{s/State=[^ ]*/State=IDLE+DRAIN/;s/$/ $4 [root@2026-01-01T00:00:00]/}}" nodes ;;
    esac ;;
esac
"""

_NODE = (
    "NodeName={name} Arch=x86_64 CPUAlloc={used} CPUTot=64 Gres=gpu:a100:4(S:0-1) NodeAddr={name}.intern "
    "OS=Linux 6.1 #1 SMP RealMemory=512000 AllocMem={memory} State={state} Partitions=gpu,long "
    "CfgTRES=cpu=64,gres/gpu=4 AllocTRES={tres}{reason}\n"
)


class SlurmStandIn:
    """A stand-in for Slurm. ``folder`` must be first in ``PATH``. Its commands hang or refuse once a file with that
    name exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        script = folder / "scontrol"
        script.write_text(_SCRIPT.format(folder=folder))
        script.chmod(0o755)
        busy = _NODE.format(
            name="g1", used=8, memory=64000, state="MIXED", tres="cpu=8,gres/gpu=1,gres/gpu:a100=1", reason=""
        )
        down = _NODE.format(
            name="g2",
            used=0,
            memory=0,
            state="DOWN*",
            tres="",
            reason=" Reason=power State=IDLE, rack 4 [root@2026-01-01T00:00:00] Comment=x",
        )
        (folder / "nodes").write_text(busy + down)

    @property
    def updates(self) -> list[str]:
        """Return the arguments of the calls of ``scontrol update``."""
        path = self.folder / "updates"
        return path.read_text().splitlines() if path.exists() else []
