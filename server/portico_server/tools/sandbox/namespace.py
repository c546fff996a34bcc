"""The command line of bubblewrap: what a kernel sees of this machine, which is its own folders and little else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from portico_server.tools.sandbox import seccomp
from portico_server.tools.sandbox.protocol import Limits

WORKER: Final = Path(__file__).with_name("worker.py")

UIDS: Final = range(60_514, 61_184)
"""User ids that no distribution gives away. A daemon that runs as root gives each kernel one of its own, so that the
limit on processes counts that kernel alone and root's files are not its own even where something is left open."""

INSIDE: Final = 65_534
"""The user id that a kernel of an ordinary user sees as its own."""

_TURN_ON: Final = "Code tools are off until then; nothing runs outside a sandbox."


def missing() -> str | None:
    """What to do before the sandbox can work on this machine; ``None`` if it can. Takes some milliseconds."""
    if sys.platform != "linux":
        return f"Running code needs Linux with bubblewrap, and this is {sys.platform}. {_TURN_ON}"
    if not seccomp.supported():
        return f"Running code needs an x86-64 or arm64 machine, and this is {os.uname().machine}. {_TURN_ON}"
    if shutil.which("bwrap") is None:
        return (
            "Running code needs bubblewrap, which is not installed here: 'apt install bubblewrap' on Debian and "
            f"Ubuntu, 'dnf install bubblewrap' on Fedora. {_TURN_ON}"
        )
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return f"Running code as root needs setpriv, which is part of util-linux. {_TURN_ON}"
    return _refusal(_try())


def _try() -> str:
    """What bubblewrap complains of when it is asked for the namespaces we need; empty if it is content."""
    try:
        done = subprocess.run(
            ["bwrap", *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


def _refusal(complaint: str) -> str | None:
    if not complaint:
        return None
    if "Unknown option" in complaint:
        return f"Running code needs bubblewrap 0.8 or newer; the one here is older. {_TURN_ON}"
    if os.geteuid() == 0:
        hint = "In a container, give it the capability SYS_ADMIN ('docker run --cap-add SYS_ADMIN') or leave code off."
    else:
        hint = (
            "User namespaces are off for this user: 'sysctl kernel.unprivileged_userns_clone=1' on Debian, "
            "'sysctl kernel.apparmor_restrict_unprivileged_userns=0' on Ubuntu, or an AppArmor profile for bwrap."
        )
    return f"bubblewrap cannot make a sandbox here ({complaint[:200]}). {hint} {_TURN_ON}"


def _namespaces() -> list[str]:
    """The namespaces, and what a process that leaves its parent behind comes to: nothing."""
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        # Not a user namespace: in one of root's making, the kernel's processes would still be root's to the files
        # outside. The worker is given a user id of its own, and every capability is gone before it starts.
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += ["--unshare-user", "--disable-userns", "--uid", str(INSIDE), "--gid", str(INSIDE)]
    return [*options, "--die-with-parent", "--new-session", "--hostname", "portico"]


def options(environment: Path, limits: Limits, *, filter_fd: int) -> Sequence[str]:
    """The options of bubblewrap: what a kernel sees.

    ``environment`` is a virtual environment, ``filter_fd`` an open file with the program of `seccomp`.
    """
    half = str(limits.disk // 2)
    return [
        *_namespaces(),
        *("--seccomp", str(filter_fd)),
        *_system(),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", half, "--tmpfs", "/dev/shm"),  # noqa: S108  # its own, and bounded
        *("--remount-ro", "/dev"),
        *("--perms", "1777", "--size", half, "--tmpfs", "/tmp"),  # noqa: S108
        *("--perms", "0777", "--size", str(limits.disk), "--tmpfs", "/work"),
        *("--ro-bind", str(environment), "/opt/notebook"),
        *("--ro-bind", str(WORKER), "/opt/worker.py"),
        *("--remount-ro", "/"),
        *("--chdir", "/work"),
        *_variables(),
    ]


def command(number: int, *, options_fd: int) -> Sequence[str]:
    """The command that starts a worker; ``number`` counts kernels.

    The options are in the open file ``options_fd``, each ended by a zero byte: what a kernel sees of the command line
    names no folder of this machine.
    """
    bwrap = shutil.which("bwrap") or "bwrap"
    worker = ("/opt/notebook/bin/python", "-I", "-B", "/opt/worker.py")
    return [bwrap, "--args", str(options_fd), "--", *_identity(number), *worker]


def _identity(number: int) -> list[str]:
    """What turns root's process into nobody's, before anything of the worker runs."""
    if os.geteuid() != 0:
        return []
    uid = str(UIDS[number % len(UIDS)])
    return ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all", "--"]


def _system() -> list[str]:
    """The programs and libraries of this machine, read-only; nothing of /etc, /home, /var or /sys."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    options += [
        "--dir",
        "/etc",
        "--dir",
        "/opt",
    ]  # open to all, which those that bubblewrap makes by itself are not
    for kept in ("/etc/ld.so.cache", "/etc/fonts", "/etc/alternatives"):
        options += ["--ro-bind-try", kept, kept]
    base = Path(sys.base_prefix).resolve()
    # Python may live anywhere, but a folder that would lay open the machine is none.
    if not base.is_relative_to("/usr") and len(base.parts) > 2:
        for above in list(base.parents)[-2::-1]:
            options += ["--dir", str(above)]
        options += ["--ro-bind", str(base), str(base)]
    return options


def _variables() -> list[str]:
    """The whole environment of a kernel."""
    values = {
        "PATH": "/opt/notebook/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/work",
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108  # inside
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
        "IPYTHONDIR": "/tmp/ipython",  # noqa: S108
        # As many threads as libraries like would each claim address space and a share of the limit on processes.
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
    }
    options = ["--clearenv"]
    for name, value in values.items():
        options += ["--setenv", name, value]
    return options
