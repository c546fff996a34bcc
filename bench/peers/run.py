"""Ten tasks in Portico and in other frameworks, with each program run unchanged, alternately.

For each program: its lines and concepts, seconds and processor time, memory, calls of the model and the tokens sent to
it, the work repeated after ``kill -9`` in the middle, and its message about a wrong key. The model is scripted
(``model.py``), each framework has its own environment (``requirements/``), and each result is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import psutil
from catalogue import CONFIGURATION, HERE, OURS, PEERS, TASKS, Task, effects_in, result_of
from harness import call, daemon, end
from model import KEY
from reading import concepts, count_lines

ROUNDS = 3
MARKS = ("<!-- tables -->", "<!-- end of tables -->")
"""Markers that enclose the tables of a page."""
LIMIT_S = 120.0
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Unauthenticated)\b")
SETTLE_S = 1.0
"""Seconds between the interrupted call and the kill: time to record what happened before."""


class Unavailable(Exception):
    """A peer that cannot run on this machine, with the reason."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended process; ``peak_mb`` is the largest resident size of the process or of a child that it waited for."""

    code: int
    output: str
    error: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    killed: bool = False


@dataclass
class Row:
    """The measurements of one program."""

    program: str
    lines: int
    concepts: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0
    daemon_mb: float = 0
    calls: int = 0
    prompt_tokens: int = 0
    wrong_results: int = 0
    load: list[float] = field(default_factory=list)
    killed: dict[str, Any] = field(default_factory=dict)
    wrong_key: dict[str, Any] = field(default_factory=dict)
    failed: str = ""


class Model:
    """The scripted model, in its own process."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "model.py")]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self.url = f"http://127.0.0.1:{self._child.stdout.readline().strip()}"

    def reset(self, hold: int | None = None) -> None:
        """Reset the counters, and withhold answers from call number ``hold`` on."""
        call(f"{self.url}/reset", {"hold": hold})

    def counts(self) -> dict[str, int]:
        """Return the counts."""
        found: dict[str, Any] = call(f"{self.url}/counts")
        return {name: value for name, value in found.items() if name != "bodies"}

    def environment(self, key: str) -> dict[str, str]:
        """Return the environment variables with which programs find the model."""
        address = f"{self.url}/v1"
        return {"OPENAI_BASE_URL": address, "OPENAI_API_BASE": address, "OPENAI_API_KEY": key}

    def close(self) -> None:
        """Stop the process."""
        end(self._child)
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextlib.contextmanager
def stage(task: Task, name: str, model: Model, key: str = KEY) -> Iterator[Stage]:
    """Yield a folder with the program of a task, and the daemon if the program is ours."""
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as place:
        folder = Path(place) / "work"
        folder.mkdir()
        task.lay_out(name, folder)
        made = Stage(task, name, folder, model, key)
        try:
            if name == OURS:
                made.start_daemon()
            yield made
        finally:
            made.close()


class Stage:
    """One running program."""

    def __init__(self, task: Task, name: str, folder: Path, model: Model, key: str) -> None:
        self.task = task
        self.name = name
        self.folder = folder
        self._variables = {**os.environ, **model.environment(key), "PYTHONDONTWRITEBYTECODE": "1"}
        self._stack = contextlib.ExitStack()
        self._daemon: psutil.Process | None = None

    def start_daemon(self) -> None:
        """Start the daemon with this stage's home, as the last daemon left it."""
        os.environ.update({name: self._variables[name] for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY")})
        home = self.folder.parent / "home"
        served = self._stack.enter_context(daemon(home, "--file", str(CONFIGURATION)))
        self._variables["PORTICO_URL"] = served.url
        self._daemon = psutil.Process(served.pid)

    def kill_daemon(self) -> None:
        """Send ``kill -9`` to the daemon and all its children, as in a power failure."""
        if self._daemon is None:
            return
        for process in [self._daemon, *self._daemon.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._stack.close()
        self._stack = contextlib.ExitStack()

    def processes(self) -> Sequence[psutil.Process]:
        """Return the daemon and its children."""
        return [] if self._daemon is None else [self._daemon, *self._daemon.children(recursive=True)]

    def cpu(self) -> float:
        """Return the processor seconds of the daemon and its children, including ended processes."""
        return sum(sum(process.cpu_times()[:4]) for process in self.processes()[:1]) + sum(
            sum(process.cpu_times()[:2]) for process in self.processes()[1:]
        )

    def peak(self) -> float:
        """Return the peak MB of the daemon and its running children, added up."""
        return sum(_peak_mb(process.pid) for process in self.processes())

    def start(self, python: str, arguments: Sequence[str], model: Model | None = None) -> Ended:
        """Run the program once. With ``model``, kill it as soon as the model withholds an answer."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
            begun = time.perf_counter()
            child = subprocess.Popen(
                [python, "main.py", *arguments],
                cwd=self.folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                start_new_session=True,
            )
            killed = False
            try:
                while not (waited := os.wait4(child.pid, os.WNOHANG))[0]:
                    killed = model is not None and model.counts()["held"] > 0
                    if killed:
                        time.sleep(SETTLE_S)
                    if killed or time.perf_counter() - begun > LIMIT_S:
                        break
                    time.sleep(0.01)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # including the processes that it left behind
            if killed:
                self.kill_daemon()
            _pid, status, used = waited if waited[0] else os.wait4(child.pid, 0)
            seconds = time.perf_counter() - begun
            child.returncode = os.waitstatus_to_exitcode(status)
            texts = []
            for file in (output, error):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
        cpu = used.ru_utime + used.ru_stime
        return Ended(child.returncode, texts[0], texts[1], seconds, cpu, used.ru_maxrss / 1024, killed)

    def close(self) -> None:
        """Stop the daemon."""
        self._stack.close()


def _peak_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def is_right(task: Task, ended: Ended) -> bool:
    """Return whether a program ended well with the right result."""
    try:
        return ended.code == 0 and task.right(result_of(ended.output))
    except (LookupError, TypeError, AttributeError):
        return False


def measure(task: Task, name: str, python: str, model: Model, row: Row) -> None:
    """Measure one round: all starts of the program. Seconds and processor time are totals over the starts."""
    with stage(task, name, model) as work:
        row.load.append(os.getloadavg()[0])
        model.reset()
        before = work.cpu()
        ended = [work.start(python, arguments) for arguments in task.starts]
        counts = model.counts()
        row.seconds.append(sum(one.seconds for one in ended))
        row.cpu_seconds.append(sum(one.cpu_seconds for one in ended) + work.cpu() - before)
        row.peak_mb = max(row.peak_mb, *(one.peak_mb for one in ended))
        row.daemon_mb = max(row.daemon_mb, work.peak())
        row.calls, row.prompt_tokens = counts["chat"], counts["prompt_tokens"]
        if not is_right(task, ended[-1]) or effects_in(work.folder) != task.effects:
            row.wrong_results += 1
            row.failed = last_line(ended[-1]) or "a wrong result"


def kill(task: Task, name: str, python: str, model: Model, row: Row) -> None:
    """Kill the program (and our daemon) while it waits for an answer, restart it, and record repeated work."""
    with stage(task, name, model) as work:
        model.reset(hold=task.kill_after + 1)
        before: dict[str, int] = {}
        for arguments in task.starts:
            ended = work.start(python, arguments, None if before else model)
            if ended.killed:
                before = model.counts()
                model.reset()
                if name == OURS:
                    work.start_daemon()
                ended = work.start(python, arguments)
        calls = before.get("chat", 0) + model.counts()["chat"]
        row.killed = {
            "answers_before": before.get("chat", 0),
            "calls_repeated": calls - row.calls,
            "effects_repeated": effects_in(work.folder) - task.effects,
            "right": is_right(task, ended),
            "error": "" if is_right(task, ended) else last_line(ended),
        }


def refuse(task: Task, name: str, python: str, model: Model, row: Row) -> None:
    """Run the program with a wrong key."""
    with stage(task, name, model, key="wrong") as work:
        model.reset()
        ended = work.start(python, task.starts[0])
        row.wrong_key = {
            "exit": ended.code,
            "seconds": ended.seconds,
            "attempts": model.counts()["refused"],
            "says": last_line(ended),
        }


def last_line(ended: Ended) -> str:
    """Return the last line that names an error, or else the last non-empty line."""
    for said in (ended.error, ended.output):
        lines = [line.strip() for line in said.splitlines() if any(letter.isalpha() for letter in line)]
        errors = [line for line in lines if _ERROR.match(line)]
        if lines:
            return (errors or lines)[-1][:300]
    return ""


# --- environments ---


def environment_of(name: str) -> str:
    """Return the interpreter of a peer's environment; create a missing one. Raise `Unavailable` if that fails."""
    pins = HERE / "requirements" / f"{name}.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "portico-bench-peers"
    place = cache / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    python = place / "bin" / "python"
    if (place / "complete").exists():
        return str(python)
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", version, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(pins)],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["no reason given"]
            raise Unavailable(f"not installed: {lines[-1]}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"not installed: {error}") from error
    (place / "complete").touch()
    return str(python)


def interpreters(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the interpreters by name, including ours, and the reasons why others are missing."""
    found, missing = {OURS: sys.executable}, {}
    for name in PEERS:
        try:
            found[name] = given.get(name) or environment_of(name)
        except Unavailable as error:
            missing[name] = str(error)
    return found, missing


# --- tables ---

COLUMNS = (
    "program",
    "lines",
    "concepts",
    "seconds",
    "processor s",
    "MB",
    "calls",
    "prompt tokens",
    "after kill -9",
    "wrong key",
)


def cells(row: Row) -> list[str]:
    """Return a row of the table as texts."""
    head = [row.program, str(row.lines), str(row.concepts)]
    if row.failed and not row.killed:
        return [*head, *["–"] * (len(COLUMNS) - 4), f"does not run here: {row.failed[:160]}"]
    seconds = f"{statistics.median(row.seconds):.2f}"
    if len(row.seconds) > 1:
        seconds += f" ({min(row.seconds):.2f}–{max(row.seconds):.2f})"
    memory = f"{row.peak_mb:.0f}" + (f" + {row.daemon_mb:.0f}" if row.daemon_mb else "")
    cpu = f"{statistics.median(row.cpu_seconds):.2f}"
    return [*head, seconds, cpu, memory, str(row.calls), str(row.prompt_tokens), after(row), said(row)]


def after(row: Row) -> str:
    """Return the result of the kill, in words."""
    found = row.killed
    if not found["answers_before"] and found["right"]:
        return "begins again; nothing was done yet"
    parts = [f"{max(found['calls_repeated'], 0)} of {found['answers_before']} calls again"]
    if found["effects_repeated"]:
        parts.append(f"{found['effects_repeated']:+d} effects")
    if not found["right"]:
        parts.append(f"no result: {found['error'][:80]}" if found["error"] else "no right result")
    return ", ".join(parts)


def said(row: Row) -> str:
    """Return the result of a wrong key, in words."""
    found = row.wrong_key
    return f"exit {found['exit']}, {found['seconds']:.1f} s, {found['attempts']} asked: {found['says'][:110]}"


def printed(rows: Mapping[str, Sequence[Row]], markdown: bool) -> str:
    """Return all tables as text or as Markdown."""
    pieces = []
    for task, those in rows.items():
        table = [list(COLUMNS), *[cells(row) for row in those]]
        if markdown:
            lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]
            lines.insert(1, "|" + " --- |" * len(COLUMNS))
            pieces.append(f"### {TASKS[task].title}\n\n" + "\n".join(lines))
        else:
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines = [
                "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)) for line in table
            ]
            pieces.append(f"{task}: {TASKS[task].title}\n" + "\n".join(line.rstrip() for line in lines))
    return "\n\n".join(pieces) + "\n"


def write_tables(page: Path, rows: Mapping[str, Sequence[Row]], machine: str, rounds: int) -> None:
    """Write the tables as Markdown: between the marks of a page that has them, or as a new page."""
    loads = [load for those in rows.values() for row in those for load in row.load]
    shown = "one round" if rounds == 1 else f"the middle of {rounds} rounds (the quickest and the slowest)"
    told = f"{machine}; {shown}; load of the machine meanwhile {min(loads):.1f} to {max(loads):.1f}."
    text = f"{told}\n\n{printed(rows, markdown=True)}"
    if page.exists() and all(mark in page.read_text(encoding="utf-8") for mark in MARKS):
        before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
        text = f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument(
        "--peers", nargs="*", default=[], metavar="NAME=PYTHON", help="environments that there are already"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="a page whose tables are replaced, or a new one")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an error, so that the cleanup runs
    pythons, missing = interpreters(dict(one.split("=", 1) for one in options.peers))
    rows: dict[str, list[Row]] = {}
    model = Model()
    try:
        for task in (TASKS[name] for name in options.only):
            rows[task.name] = compare(task, pythons, model, options.rounds)
            print(printed({task.name: rows[task.name]}, markdown=False), flush=True)
    finally:
        model.close()
    for name, reason in missing.items():
        print(f"{name}: {reason}")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    print(machine)
    if options.json:
        kept = {name: [asdict(row) for row in those] for name, those in rows.items()}
        kept |= {"machine": machine, "missing": missing}
        options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown:
        write_tables(options.markdown, rows, machine, options.rounds)


def compare(task: Task, pythons: Mapping[str, str], model: Model, rounds: int) -> list[Row]:
    """Measure one task: all programs alternately, round by round; then with a kill, then with a wrong key."""
    rows = []
    for name in task.names():
        if name in pythons:
            source = task.program(name).read_text(encoding="utf-8")
            rows.append(Row(name, count_lines(source), len(concepts(source))))
    for _ in range(rounds):
        for row in rows:
            if not row.failed:
                measure(task, row.program, pythons[row.program], model, row)
    for row in rows:
        if not row.failed:
            kill(task, row.program, pythons[row.program], model, row)
            refuse(task, row.program, pythons[row.program], model, row)
    return rows


if __name__ == "__main__":
    main()
