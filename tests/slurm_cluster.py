"""A Slurm cluster on this machine: munge, one controller, two nodes."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.guarded import Guarded

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "sinfo")

_CONFIGURATION = """
ClusterName=portico
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ReturnToService=2
SlurmdTimeout=300
MinJobAge=300
KillWait=5
SchedulerParameters=sched_interval=1,batch_sched_delay=0
EnforcePartLimits=ALL
GresTypes=gpu
MpiDefault=none
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={first} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={second} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Return why a cluster cannot run on this machine, or an empty string if it can."""
    if any(shutil.which(name) is None for name in PROGRAMS):
        return "no Slurm here: apt-get install slurmctld slurmd slurm-client munge"
    if os.getuid() != 0:
        return "Slurm's daemons are started as root"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return "the name of this machine has no address, which nodes of Slurm need"
    return ""


class SlurmCluster:
    """A running cluster. Slurm's commands need ``environment`` to find it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: dict[str, Guarded] = {}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        folder = self._folder
        (folder / "state").mkdir(parents=True)
        folder.chmod(0o755)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ports = dict(zip(("controller", "first", "second"), _free_ports(3), strict=True))
        (folder / "slurm.conf").write_text(
            _CONFIGURATION.format(folder=folder, host=socket.gethostname(), user="root", **ports)
        )
        (folder / "cgroup.conf").write_text("")
        self._run("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
                  f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
                  f"--seed-file={folder}/munged.seed")  # fmt: skip
        self.wait_until(lambda: (folder / "munge.socket").exists())
        self._run("slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait_until(lambda: self.ask("sinfo", "--noheader", "--format=%D %t").split() == ["2", "idle"])

    def start_node(self, node: str) -> None:
        self._run("slurmd", "-D", "-N", node)

    def ask(self, *command: str) -> str:
        """Return the output of a Slurm command."""
        process = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return process.stdout

    def jobs(self) -> list[str]:
        """Return the jobs that are waiting or running."""
        return self.ask("squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%j").split()

    def wait_until_empty(self) -> None:
        """Wait until no job is waiting or running; raise `AssertionError` if a job remains."""
        self.wait_until(lambda: not self.jobs())

    def lose_node(self, agent: int) -> None:
        """Remove the node on which the agent with this process id runs: its daemon, and the job."""
        self._daemons.pop(f"slurmd {psutil.Process(agent).environ()['SLURMD_NODENAME']}").end()

    def stop(self) -> None:
        for daemon in reversed(self._daemons.values()):
            daemon.end()

    def _run(self, program: str, *arguments: str) -> None:
        name = f"{program} {arguments[-1]}" if program == "slurmd" else program
        self._daemons[name] = Guarded(
            [program, *arguments], self._folder / f"{name.replace(' ', '-')}.out", self.environment
        )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        for _ in range(900):
            if ready():
                return
            dead_daemons = [name for name, daemon in self._daemons.items() if not daemon.alive]
            assert not dead_daemons, f"{dead_daemons} ended: {self._logs()}"
            # No event announces that a node has registered.
            subprocess.run(["sleep", "0.1"], check=True)
        raise AssertionError(f"it did not come to that: {self.ask('squeue')} {self._logs()}")

    def _logs(self) -> list[str]:
        return [path.read_text()[-800:] for path in self._folder.glob("*.log")]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@contextlib.contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
