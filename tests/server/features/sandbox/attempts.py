"""Ways in which code has tried to leave a sandbox or to take its host down, as cells.

A cell prints ``ESCAPED`` if it gets something forbidden. ``{port}``, ``{home}``, ``{socket}`` and ``{canary}`` stand
for a listening port, a folder, a Unix socket and a world-writable file of the host.
"""

from __future__ import annotations

_TRY = """
def attempt(what, act):
    try:
        got = act()
    except BaseException as error:
        print("refused", what, type(error).__name__, error)
    else:
        print("ESCAPED", what, got)
"""

_CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    got = libc.syscall(number, *arguments)
    print("ESCAPED" if got >= 0 else "refused", name, got, os.strerror(ctypes.get_errno()))
"""

REFUSED = {
    "read what belongs to the host": _TRY
    + """
for path in ("/etc/shadow", "/etc/passwd", "/etc/hostname", "/etc/resolv.conf", "/root/.ssh/id_rsa", "/var/log/syslog",
             "/home", "/run/docker.sock", "/proc/1/environ", "/proc/1/mem", "/proc/1/root/etc/passwd", "/proc/kcore",
             "/sys/kernel/notes", "{home}/portico.db", "{canary}"):
    attempt(path, lambda: open(path, "rb").read(64) or 1 / 0)
""",
    "list what belongs to the host": _TRY
    + """
import os
for path in ("{home}", "/home", "/var", "/sys", "/run", "/mnt", "/boot", "/proc/1/root{home}", "/proc/1/cwd/../home"):
    attempt(path, lambda: os.listdir(path))
""",
    "write outside": _TRY
    + """
for path in ("/x", "/usr/x", "/usr/bin/python3", "/opt/x", "/opt/worker.py", "/opt/notebook/x", "/etc/x", "/dev/x",
             "/dev/shm/../x", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
             "/sys/fs/cgroup/x", "/proc/1/root/x", "{canary}"):
    attempt(path, lambda: open(path, "w").write("x"))
""",
    "take another identity": _TRY
    + """
import os
attempt("setuid", lambda: os.setuid(0))
attempt("setgid", lambda: os.setgid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("setresuid", lambda: os.setresuid(0, 0, 0))
attempt("nice", lambda: os.nice(-5))
""",
    "raise its limits": _TRY
    + """
import resource
for name in ("RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NOFILE"):
    what = getattr(resource, name)
    attempt(name, lambda: resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
""",
    "reach the daemon": _TRY
    + """
import socket
for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "1.1.1.1"):
    attempt(host, lambda: socket.create_connection((host, {port}), timeout=1))
attempt("::1", lambda: socket.create_connection(("::1", {port}), timeout=1))
""",
    "resolve a name": _TRY
    + """
import socket
attempt("dns", lambda: socket.getaddrinfo("example.com", 80))
""",
    "fetch a page": _TRY
    + """
import urllib.request
attempt("http", lambda: urllib.request.urlopen("http://127.0.0.1:{port}/health", timeout=2).read())
""",
    "send a datagram": _TRY
    + """
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
attempt("udp", lambda: udp.sendto(b"x", ("1.1.1.1", 53)))
""",
    "reach a Unix socket": _TRY
    + """
import socket
for name in ("{socket}", "\\0portico-canary", "/var/run/docker.sock", "/run/dbus/system_bus_socket"):
    attempt(name, lambda: socket.socket(socket.AF_UNIX).connect(name))
""",
    "open other kinds of sockets": _TRY
    + """
import socket
for family in (17, 16, 40, 38, 29, 31):  # packet, netlink, vsock, alg, can, bluetooth
    attempt(family, lambda: socket.socket(family, socket.SOCK_RAW))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
""",
    "look into other processes": _CALL
    + """
call("ptrace attach", 101, 16, 1, 0, 0)
call("ptrace me", 101, 0, 0, 0, 0)
call("process_vm_readv", 310, 1, 0, 0, 0, 0, 0)
call("pidfd_getfd", 438, 3, 0, 0)
call("kcmp", 312, 1, 1, 0, 0, 0)
""",
    "mount": _CALL
    + """
call("mount", 165, b"none", b"/work", b"tmpfs", 0, 0)
call("bind", 165, b"/proc/1/root", b"/work", 0, 4096, 0)
call("remount", 165, 0, b"/", 0, 32, 0)
call("umount", 166, b"/proc", 2)
call("pivot_root", 155, b"/work", b"/work")
call("open_tree", 428, -100, b"/", 1)
call("fsopen", 430, b"tmpfs", 0)
call("chroot", 161, b"/work")
""",
    "make namespaces": _CALL
    + """
for name, flag in (("user", 0x10000000), ("mount", 0x20000), ("pid", 0x20000000), ("net", 0x40000000)):
    call("unshare " + name, 272, flag)
    call("clone " + name, 56, flag | 17, 0, 0, 0, 0)
call("setns", 308, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)
""",
    "talk to the kernel": _CALL
    + """
call("bpf", 321, 0, 0, 0)
call("perf_event_open", 298, 0, 0, -1, -1, 0)
call("userfaultfd", 323, 0)
call("io_uring_setup", 425, 8, ctypes.create_string_buffer(120))
call("add_key", 248, b"user", b"x", b"x", 1, -3)
call("keyctl", 250, 0, -3, 0)
call("init_module", 175, 0, 0, b"")
call("finit_module", 313, 0, b"", 0)
call("delete_module", 176, b"ext4", 0)
call("kexec_load", 246, 0, 0, 0, 0)
call("reboot", 169, 0xFEE1DEAD, 672274793, 0x1234567, 0)
call("swapoff", 168, b"/x")
call("syslog", 103, 3, 0, 0)
call("iopl", 172, 3)
call("sethostname", 170, b"x", 1)
call("settimeofday", 164, 0, 0)
call("clock_settime", 227, 0, 0)
call("open_by_handle_at", 304, -100, 0, 0)
""",
    "open devices": _TRY
    + """
import glob, os
for path in ("/dev/mem", "/dev/kmem", "/dev/kvm", "/dev/fuse", "/dev/sda", "/dev/vda", "/dev/loop-control"):
    attempt(path, lambda: open(path, "rb"))
attempt("mknod", lambda: os.mknod("/work/disk", 0o60666, os.makedev(8, 0)))
attempt("type into the terminal", lambda: __import__("fcntl").ioctl(open("/dev/tty"), 0x5412, b"x"))
""",
    "run the programs that change rights": _TRY
    + """
import subprocess
for command in (["su", "-c", "id"], ["sudo", "-n", "id"], ["unshare", "-Ur", "id"],
                ["mount", "-t", "tmpfs", "x", "/work"],
                ["bwrap", "--ro-bind", "/", "/", "id"], ["nsenter", "-t", "1", "-a", "id"], ["insmod", "/x"],
                ["setpriv", "--reuid", "0", "id"]):
    attempt(command, lambda: subprocess.run(command, check=True, capture_output=True, timeout=5, stdin=-3))
""",
    "end other processes": _TRY
    + """
import os, signal
attempt("init", lambda: os.kill(1, signal.SIGKILL) or os.kill(1, 0) or open("/proc/1/status").read() and 1 / 0)
""",
    "find what an ancestor left": _TRY
    + """
import os
secrets = [name for name in os.environ if "KEY" in name or "TOKEN" in name or "CANARY" in name or "PORTICO" in name]
attempt("variables", lambda: secrets or 1 / 0)
inherited = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
             and os.readlink(f"/proc/self/fd/{fd}").startswith(("/home", "/root", "/var", "/etc", "{home}", "/memfd"))]
attempt("open files", lambda: inherited or 1 / 0)
attempt("command line", lambda: ("{home}" in open("/proc/1/cmdline").read()) or 1 / 0)
attempt("strangers", lambda: [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 500] or 1 / 0)
""",
}
"""Cells whose every attempt is refused; the kernel continues."""

CONTAINED = {
    "fork without end": "import os\nwhile True: os.fork()",
    "fork politely without end": """
import os, time
children = []
try:
    for _ in range(10_000):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except OSError as error:
    print("refused after", len(children))
assert len(children) < 200
""",
    "threads without end": """
import threading, time
made = 0
try:
    for _ in range(10_000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        made += 1
except RuntimeError:
    print("refused after", made)
assert made < 200
""",
    "take memory": "x = bytearray(8 * 2**30)",
    "take memory in numpy": "import numpy\nx = numpy.ones((2**30,))",
    "take memory piece by piece": "kept = []\nwhile True: kept.append(bytearray(2**24))",
    "take memory in many processes": """
import os, time
for _ in range(12):
    if os.fork() == 0:
        kept = bytearray(100 * 2**20)
        time.sleep(60)
time.sleep(60)
""",
    "fill the working folder": """
while True:
    with open("/work/" + str(id(object())) + str(__import__("time").time_ns()), "wb") as file:
        file.write(bytes(2**24))
""",
    "fill the temporary folder": "with open('/tmp/x', 'wb') as file:\n    while True: file.write(bytes(2**24))",
    "fill shared memory": "with open('/dev/shm/x', 'wb') as file:\n    while True: file.write(bytes(2**24))",
    "make a huge file": "open('/work/x', 'wb').truncate(2**50)",
    "make files without end": "import itertools\nfor n in itertools.count(): open(f'/work/{n}', 'w').close()",
    "nest folders without end": "import os\nwhile True:\n    os.mkdir('x')\n    os.chdir('x')",
    "print without end": "while True: print('x' * 100_000)",
    "let a program print without end": "import subprocess\nsubprocess.run(['yes'])",
    "loop": "while True: pass",
    "loop and hear nothing": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "loop in C": "sum(range(10**13))",
    "ignore signals": """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
time.sleep(60)
""",
    "stop itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "kill itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "kill everybody": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "crash": "import ctypes\nctypes.string_at(0)",
    "leave": "import os\nos._exit(3)",
    "exit": "raise SystemExit(3)",
    "close every file": "import os\nos.closerange(0, 1024)",
    "close the standard files": "import sys\nsys.stdout.close()\nsys.stderr.close()\nsys.stdin.close()",
    "read the daemon's words": "import os\nfor fd in range(3, 20):\n    try: os.read(fd, 10)\n    except OSError: pass",
    "send garbage": """
import os
for fd in range(3, 20):
    try: os.write(fd, b"\\xff{{[" * 1000 + b"\\n")
    except OSError: pass
""",
    "send a line without end": """
import os
while True:
    for fd in range(3, 12):
        try:
            os.set_blocking(fd, False)
            os.write(fd, b"x" * 65536)
        except OSError: pass
""",
    "forge an answer": """
import json, os
for number in range(100):
    for value in ("forged", 7, None, ["x"], {"a": 1}):
        line = {"id": number, "output": value, "value": value, "error": value, "notes": value, "products": value}
        for fd in range(3, 12):
            try: os.write(fd, json.dumps(line).encode() + b"\\n")
            except OSError: pass
""",
    "forge files": """
import json, os
products = [{"name": "../../../../etc/cron.d/x", "data": "eA=="}, {"name": "\\u202egnp.x\\n", "data": "eA=="},
            {"name": "x", "data": "!"}, {"name": 7}, 7, {"name": "", "data": "eA=="}]
for number in range(100):
    for fd in range(3, 12):
        try: os.write(fd, json.dumps({"id": number, "products": products}).encode() + b"\\n")
        except OSError: pass
""",
    "answer with a gigabyte": "'x' * 2**29",
    "answer with what runs when it is read": """
class Bomb:
    def __reduce__(self):
        return (__import__("os").system, ("touch {canary}.pickled",))
import pickle
open("bomb.pkl", "wb").write(pickle.dumps(Bomb()))
Bomb()
""",
    "answer with a trap": """
class Trap:
    def __repr__(self):
        while True: pass
Trap()
""",
    "hand over what it cannot read": """
import os
for name, target in (("a", "/etc/shadow"), ("b", "{canary}"), ("c", "/proc/1/environ"), ("d", "/dev/zero")):
    os.symlink(target, name)
os.symlink("/", "root")
os.mkfifo("pipe")
""",
    "nest data without end": "x = []\nfor _ in range(100_000): x = [x]\nx",
    "raise without end": """
class Endless(Exception):
    def __str__(self): raise Endless()
raise Endless()
""",
    "leave somebody behind": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
""",
}
"""Cells that may end their own kernel. Nothing else ends, and nothing of the cell remains."""
