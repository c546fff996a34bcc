"""The command line of bubblewrap: a kernel sees its own folders and little else of this machine."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.features.sandbox.protocol import SandboxLimits

# The system calls that are forbidden in a notebook, as a filter for bubblewrap. The namespaces already
# prevent harm; without these calls, the machine's kernel has a smaller attack surface. The filter is a
# classic BPF program over ``struct seccomp_data`` (see seccomp(2)). A refused call gets EPERM.


_LOAD, _EQUAL, _GREATER_OR_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

_NEW_NAMESPACE_BITS: Final = 0x7E020000
"""CLONE_NEW*: user, pid, net, ipc, uts, cgroup, mount."""

_FAMILIES: Final = (1, 2, 10)
"""AF_UNIX, AF_INET and AF_INET6, which are limited to the namespace. Other families, such as AF_VSOCK, ignore
namespaces.
"""


@dataclass(frozen=True, slots=True)
class _Machine:
    """One processor architecture: its audit number, and the numbers of its system calls."""

    audit: int
    clone: int
    clone3: int
    socket: int
    refused: tuple[int, ...]


_X86_64 = _Machine(
    audit=0xC000003E,
    clone=56,
    clone3=435,
    socket=41,
    refused=(
        *(
            165,
            166,
            155,
            161,
            167,
            168,
            169,
            163,
            179,
        ),  # mount umount2 pivot_root chroot swap* reboot acct quotactl
        *(272, 308),  # unshare setns
        *(101, 310, 311, 312, 438),  # ptrace process_vm_* kcmp pidfd_getfd
        *(248, 249, 250),  # add_key request_key keyctl
        *(321, 298, 323),  # bpf perf_event_open userfaultfd
        *(425, 426, 427),  # io_uring_*
        *(174, 175, 176, 313, 246, 320),  # *_module kexec_*
        *(303, 304),  # name_to_handle_at open_by_handle_at
        *(428, 429, 430, 431, 432, 433, 442),  # open_tree move_mount fs* mount_setattr
        *(103, 159, 164, 227, 305, 170, 171, 154, 172, 173),  # syslog, clocks, names, modify_ldt, ports
    ),
)
_AARCH64 = _Machine(
    audit=0xC00000B7,
    clone=220,
    clone3=435,
    socket=198,
    refused=(
        *(40, 39, 41, 51, 224, 225, 142, 89, 60),
        *(97, 268),
        *(117, 270, 271, 272, 438),
        *(217, 218, 219),
        *(280, 241, 282),
        *(425, 426, 427),
        *(105, 106, 273, 104, 294),
        *(264, 265),
        *(428, 429, 430, 431, 432, 433, 442),
        *(116, 171, 170, 112, 266, 161, 162),
    ),
)
_MACHINES: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}


def supported() -> bool:
    """Return whether the system calls of this machine's architecture are known."""
    return platform.machine() in _MACHINES


def program(name: str = "") -> bytes:
    """Return the filter for an architecture, by default this machine's. Raise `KeyError` for an unknown
    architecture.
    """
    machine = _MACHINES[name or platform.machine()]
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),  # a system call of another architecture, such as int 0x80
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER_OR_EQUAL, 0, 1, 0x40000000),  # the x32 calls
        refuse,
    ]
    for number in machine.refused:
        steps += [(_EQUAL, 0, 1, number), refuse]
    # clone3 passes its flags through a pointer, which a filter cannot read. If clone3 appears to be missing,
    # the C library uses clone.
    steps += [(_EQUAL, 0, 1, machine.clone3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    steps += [
        (_EQUAL, 0, 4, machine.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACE_BITS),
        refuse,
        allow,
    ]
    steps += [(_EQUAL, 0, len(_FAMILIES) + 3, machine.socket), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for ahead, family in zip(range(len(_FAMILIES), 0, -1), _FAMILIES, strict=True):
        steps += [(_EQUAL, ahead, 0, family)]
    steps += [(_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT), allow]
    steps += [allow]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


WORKER: Final = Path(__file__).with_name("worker.py")

UIDS: Final = range(60_514, 61_184)
"""User ids that no distribution assigns.

A daemon that runs as root gives each kernel a separate user id. The limit on processes then counts only that kernel,
and root's files are not accessible even if a folder is exposed by mistake.
"""

INSIDE_USER_NUMBER: Final = 65_534
"""User id that a kernel sees as its own if the daemon runs as an ordinary user."""

_TURN_ON: Final = "Code tools are off until then; nothing runs outside a sandbox."


def missing() -> str | None:
    """Return what to do so that the sandbox can work on this machine, or ``None`` if it can. Takes a few
    milliseconds.
    """
    if sys.platform != "linux":
        return f"Running code needs Linux with bubblewrap, but this is {sys.platform}. {_TURN_ON}"
    if not supported():
        return f"Running code needs an x86-64 or arm64 machine, but this is {os.uname().machine}. {_TURN_ON}"
    if shutil.which("bwrap") is None:
        return (
            "Running code needs bubblewrap, which is not installed: 'apt install bubblewrap' on Debian and "
            f"Ubuntu, 'dnf install bubblewrap' on Fedora. {_TURN_ON}"
        )
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return f"Running code as root needs setpriv, which is part of util-linux. {_TURN_ON}"
    return _refusal(_try())


def _try() -> str:
    """Try to create the required namespaces with bubblewrap. Return its error, or an empty string on success."""
    try:
        completed_process = subprocess.run(
            ["bwrap", *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (
        ""
        if completed_process.returncode == 0
        else completed_process.stderr.strip() or f"exit status {completed_process.returncode}"
    )


def _refusal(complaint: str) -> str | None:
    if not complaint:
        return None
    if "Unknown option" in complaint:
        return f"Running code needs bubblewrap 0.8 or newer; the installed version is older. {_TURN_ON}"
    if os.geteuid() == 0:
        hint = (
            "In a container, add the capability SYS_ADMIN ('docker run --cap-add SYS_ADMIN') or leave code "
            "tools off."
        )
    else:
        hint = (
            "User namespaces are off for this user: 'sysctl kernel.unprivileged_userns_clone=1' on Debian, "
            "'sysctl kernel.apparmor_restrict_unprivileged_userns=0' on Ubuntu, or an AppArmor profile for bwrap."
        )
    return f"bubblewrap cannot create a sandbox on this machine ({complaint[:200]}). {hint} {_TURN_ON}"


def _namespaces() -> list[str]:
    """Return the options for namespaces, and for killing processes that outlive their parent."""
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        # A user namespace is not used: in a namespace that root creates, files outside would see the kernel's
        # processes as root. The worker gets its own user id, and loses all capabilities before it starts.
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += [
            "--unshare-user",
            "--disable-userns",
            "--uid",
            str(INSIDE_USER_NUMBER),
            "--gid",
            str(INSIDE_USER_NUMBER),
        ]
    return [*options, "--die-with-parent", "--new-session", "--hostname", "portico"]


def options(environment: Path, skills: Path, limits: SandboxLimits, *, filter_fd: int) -> Sequence[str]:
    """Return the options of bubblewrap, which define what a kernel sees.

    ``environment`` is a virtual environment, ``skills`` a folder that the kernel reads at ``/skills``, ``filter_fd``
    an open file with a seccomp program.
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
        *("--ro-bind", str(skills), "/skills"),
        *("--remount-ro", "/"),
        *("--chdir", "/work"),
        *_variables(),
    ]


def command(number: int, *, options_fd: int) -> Sequence[str]:
    """Return the command that starts a worker. ``number`` is the number of the kernel.

    The open file ``options_fd`` contains the options, each ended by a zero byte. The command line that a kernel sees
    therefore names no folder of this machine.
    """
    bwrap = shutil.which("bwrap") or "bwrap"
    worker = ("/opt/notebook/bin/python", "-I", "-B", "/opt/worker.py")
    return [bwrap, "--args", str(options_fd), "--", *_identity(number), *worker]


def _identity(number: int) -> list[str]:
    """Return the command that gives up root's identity before any of the worker's code runs."""
    if os.geteuid() != 0:
        return []
    uid = str(UIDS[number % len(UIDS)])
    return ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all", "--"]


def _system() -> list[str]:
    """Return options that mount this machine's programs and libraries read-only, and nothing of /etc, /home, /var or
    /sys.
    """
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
    ]  # every user can enter these folders, unlike folders that bubblewrap creates itself
    for system_path in ("/etc/ld.so.cache", "/etc/fonts", "/etc/alternatives"):
        options += ["--ro-bind-try", system_path, system_path]
    base = Path(sys.base_prefix).resolve()
    # Python can be installed anywhere, but its folder must not expose other parts of the machine.
    if not base.is_relative_to("/usr") and len(base.parts) > 2:
        for above in list(base.parents)[-2::-1]:
            options += ["--dir", str(above)]
        options += ["--ro-bind", str(base), str(base)]
    return options


def _variables() -> list[str]:
    """Return options that set the complete environment of a kernel."""
    values = {
        "PATH": "/opt/notebook/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/work",
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108  # inside
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
        "IPYTHONDIR": "/tmp/ipython",  # noqa: S108
        # With their default number of threads, libraries would exhaust the address space and the limit on
        # processes.
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
    }
    options = ["--clearenv"]
    for name, value in values.items():
        options += ["--setenv", name, value]
    return options
