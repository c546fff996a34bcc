"""The system calls that a notebook may not make, as a filter for bubblewrap.

The namespaces already keep these from doing harm; without them the kernel offers less to attack. A classic BPF program
over ``struct seccomp_data`` (see seccomp(2)): a refused call gets EPERM.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass
from typing import Final

_LOAD, _EQUAL, _GREATER_OR_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

_NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEW*: user, pid, net, ipc, uts, cgroup, mount."""

_FAMILIES: Final = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6: of these there is only what is inside. Others, such as AF_VSOCK, know no namespaces."""


@dataclass(frozen=True, slots=True)
class _Machine:
    """One architecture: its audit number, and the numbers of its calls."""

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
    """Whether this machine's calls are known."""
    return platform.machine() in _MACHINES


def program(name: str = "") -> bytes:
    """The filter for an architecture (this machine's unless it is named). Raises `KeyError` for an unknown one."""
    machine = _MACHINES[name or platform.machine()]
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),  # a call of another architecture, such as int 0x80
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER_OR_EQUAL, 0, 1, 0x40000000),  # the x32 calls
        refuse,
    ]
    for number in machine.refused:
        steps += [(_EQUAL, 0, 1, number), refuse]
    # clone3 hides its flags behind a pointer: told that there is none, the C library takes clone.
    steps += [(_EQUAL, 0, 1, machine.clone3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    steps += [
        (_EQUAL, 0, 4, machine.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        refuse,
        allow,
    ]
    steps += [(_EQUAL, 0, len(_FAMILIES) + 3, machine.socket), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for ahead, family in zip(range(len(_FAMILIES), 0, -1), _FAMILIES, strict=True):
        steps += [(_EQUAL, ahead, 0, family)]
    steps += [(_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT), allow]
    steps += [allow]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
