"""The inside of a kernel: an IPython shell that runs cells from standard input. Runs only in the sandbox.

The protocol is JSON lines. The input is ``{"id", "code", "files"}``, with commands or a file instead of code, and
``{"interrupt": id}``. The output is ``{"ready": true}`` and one result for each cell. Code in a cell can do anything
in this process, including forging results, so readers must not trust the output. Imports only the standard library
and, from the kernel's environment, IPython.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

WORK = Path("/work")
FONTS = Path("/opt/notebook/matplotlib")
MAX_INTERRUPT_ATTEMPTS = 5
"""Maximum number of times that a cell is interrupted, once a second, until it ends."""


class Printed:
    """Captures a limited amount of what this process and its children write to the descriptors 1 and 2."""

    def __init__(self, limit: int) -> None:
        self._limit = limit * 4  # in bytes; characters are counted when a cell ends
        self._output = bytearray()
        self._dropped_bytes = 0
        self._lock = threading.Lock()
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        threading.Thread(target=self._pump, daemon=True, name="output").start()

    def take(self) -> tuple[bytes, int]:
        """Return the output since the last call, and the number of dropped bytes."""
        with self._lock:
            self._drain()
            kept_output, dropped_bytes = bytes(self._output), self._dropped_bytes
            self._output.clear()
            self._dropped_bytes = 0
        return kept_output, dropped_bytes

    def add(self, text: str) -> None:
        with self._lock:
            self._drain()
            self._keep(text.encode("utf-8", "replace"))

    def _pump(self) -> None:
        while True:
            select.select([self._read], [], [])
            with self._lock:
                self._drain()

    def _drain(self) -> None:
        for _ in range(64):  # excessive output must not keep the lock forever
            try:
                data = os.read(self._read, 65_536)
            except BlockingIOError:
                return
            if not data:
                return
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        remaining_bytes = max(0, self._limit - len(self._output))
        self._output += data[:remaining_bytes]
        self._dropped_bytes += len(data) - len(data[:remaining_bytes])


class Shell:
    """One IPython shell, and the output that its cells display."""

    def __init__(self, output: Printed) -> None:
        self._printed = output
        self.value: str | None = None
        self.error: str | None = None
        self.pictures: list[bytes] = []
        self._code = ""
        self._shell = self._make()

    def run(self, code: str) -> None:
        """Run a cell to its end. `value`, `error` and `pictures` then contain the result."""
        self._code = code
        result = self._shell.run_cell(code, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            self.fail(f"{type(error).__name__}: {error}")

    def forget(self) -> None:
        """Clear the displayed output for the next cell."""
        self.value = self.error = None
        self.pictures = []

    def fail(self, error: str) -> None:
        """Record an error, unless an error is already recorded."""
        self.error = self.error or error

    def _make(self) -> Any:
        config = import_module("traitlets.config").Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.cache_size = 0
        config.InteractiveShell.colors = "nocolor"
        config.InteractiveShell.xmode = "Context"
        config.InlineBackend.close_figures = True
        shell_class = import_module("IPython.core.interactiveshell").InteractiveShell
        shell = shell_class.instance(
            config=config,
            displayhook_class=_hook_class(self._show_result),
            display_pub_class=_publisher_class(self._displayed),
        )
        shell._showtraceback = self._show_error
        shell.ask_exit = lambda: self._printed.add(
            "The session continues: it ends automatically when it is not used.\n"
        )
        return shell

    def _show_result(self, data: dict[str, Any]) -> None:
        if not self._picture(data) and not self._code.rstrip().endswith(";"):
            self.value = str(data.get("text/plain", ""))

    def _displayed(self, data: dict[str, Any]) -> None:
        if not self._picture(data):
            self._printed.add(str(data.get("text/plain", "")) + "\n")

    def _picture(self, data: dict[str, Any]) -> bool:
        for kind in ("image/png", "image/jpeg"):
            image = data.get(kind)
            if image is not None:
                self.pictures.append(image if isinstance(image, bytes) else base64.b64decode(image))
                return True
        return False

    def _show_error(self, _kind: Any, _error: Any, lines: list[str]) -> None:
        self.error = "\n".join(lines)


def _hook_class(tell: Callable[[dict[str, Any]], None]) -> type[Any]:
    base: type[Any] = import_module("IPython.core.displayhook").DisplayHook

    class DisplayHook(base):  # type: ignore[misc]  # IPython is not installed where types are checked
        def write_output_prompt(self) -> None:
            pass

        def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
            tell(format_dict)

        def finish_displayhook(self) -> None:
            pass

    return DisplayHook


def _publisher_class(tell: Callable[[dict[str, Any]], None]) -> type[Any]:
    base: type[Any] = import_module("IPython.core.displaypub").DisplayPublisher

    class Publisher(base):  # type: ignore[misc]
        def publish(self, data: dict[str, Any], *_: Any, **__: Any) -> None:
            tell(data)

        def clear_output(self, wait: bool = False) -> None:
            pass

    return Publisher


class Folder:
    """The working folder: the files that were added, and those that cells created or changed."""

    def __init__(self, limit: int, count: int) -> None:
        self._limit = limit
        self._count = count
        self._known_files: dict[str, tuple[int, int]] = {}
        self.gone: list[str] = []

    def lay(self, files: dict[str, str]) -> None:
        """Write files, given as base64 by name.

        A link, a pipe or a device with the same name is removed, and so is anything that is not a folder where a
        folder is needed. Raise `OSError` for files that cannot be written, after all other files are written.
        """
        problems = []
        for name, data in files.items():
            path = WORK / name
            try:
                for folder in reversed(path.relative_to(WORK).parents[:-1]):
                    self._make_way(WORK / folder, stat.S_ISDIR)
                self._make_way(path, lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(data))
            except OSError as error:
                problems.append(f"'{name}' could not be written: {error.strerror}.")
        self._known_files = dict(self._look())
        if problems:
            raise OSError(" ".join(problems))

    @staticmethod
    def _make_way(path: Path, stays: Callable[[int], bool]) -> None:
        """Remove an existing entry at ``path``, unless ``stays`` accepts its mode."""
        if os.path.lexists(path) and not stays(path.lstat().st_mode):
            path.unlink()

    def take(self, pictures: list[bytes]) -> tuple[list[dict[str, str]], list[str]]:
        """Return images and changed files within the limits, as base64 with their names, and notes about the files
        left out.

        `gone` then contains the names of deleted files.
        """
        products: list[dict[str, str]] = []
        notes: list[str] = []
        remaining_bytes = self._limit
        now = dict(self._look())
        changed_names = [name for name in sorted(now) if self._known_files.get(name) != now[name]]
        self.gone = [name for name in self._known_files if name not in now and not (WORK / name).exists()]
        self._known_files = now
        for number, data in enumerate(pictures, 1):
            kind = "png" if data.startswith(b"\x89PNG") else "jpg"
            remaining_bytes = self._give(f"figure-{number}.{kind}", data, remaining_bytes, products, notes)
        for name in changed_names:
            size = now[name][1]
            content = self._read(WORK / name) if size <= remaining_bytes else None
            complete_content = content if content is not None and len(content) == size else None
            remaining_bytes = self._give(name, complete_content, remaining_bytes, products, notes)
        return products, notes

    def _read(self, path: Path) -> bytes | None:
        """Read a file. It may have changed or disappeared, because background processes also change the folder."""
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                return file.read(self._limit + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
        except OSError:
            return None

    def fetch(self, name: str) -> list[dict[str, str]]:
        """Return one file, as base64 with its name. Raise `OSError`, and `ValueError` if it is too large or not a
        file.
        """
        with open(os.open(WORK / name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"'{name}' is not a file.")
            data = file.read(self._limit + 1)
        if len(data) > self._limit:
            raise ValueError(f"'{name}' has more than {self._limit} bytes.")
        return [{"name": name, "data": base64.b64encode(data).decode()}]

    def remove(self, name: str) -> None:
        """Delete one file."""
        (WORK / name).unlink()

    def _give(
        self,
        name: str,
        data: bytes | None,
        remaining_bytes: int,
        products: list[dict[str, str]],
        notes: list[str],
    ) -> int:
        if data is None or len(data) > remaining_bytes or len(products) >= self._count:
            notes.append(
                f"'{name}' was left out: a cell can return {self._count} files of {self._limit} bytes."
            )
            return remaining_bytes
        products.append({"name": name, "data": base64.b64encode(data).decode()})
        return remaining_bytes - len(data)

    def _look(self) -> Iterator[tuple[str, tuple[int, int]]]:
        file_count = 0
        for folder, folders, files in os.walk(WORK):
            folders[:] = [name for name in folders if not name.startswith((".", "__"))]
            for name in files:
                file_count += 1
                if file_count > 2_000:
                    return
                path = Path(folder, name)
                try:
                    facts = path.lstat()
                except OSError:
                    continue
                if stat.S_ISREG(facts.st_mode) and not name.startswith("."):
                    yield str(path.relative_to(WORK)), (facts.st_mtime_ns, facts.st_size)


class Commands:
    """Runs shell commands, and keeps up to ``most`` bytes of each output stream."""

    def __init__(self, max_chars: int) -> None:
        self._max_bytes = max_chars

    def run(self, commands: list[str], seconds: float) -> list[dict[str, Any]]:
        """Run the commands one after another. A command that exceeds the time, and all commands after it, have no exit
        status.
        """
        deadline = time.monotonic() + seconds
        return [self._execute(command, deadline) for command in commands]

    def _execute(self, command: str, deadline: float) -> dict[str, Any]:
        outputs = {"stdout": bytearray(), "stderr": bytearray()}
        if time.monotonic() >= deadline:
            return self._to_result(outputs, None)
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        process = subprocess.Popen(
            [shell, "-c", command],
            cwd=WORK,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            code = self._watch(process, outputs, deadline)
        finally:
            with contextlib.suppress(ProcessLookupError):
                # the whole group, including processes that the command left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        return self._to_result(outputs, code)

    def _watch(self, process: Any, outputs: dict[str, bytearray], deadline: float) -> int | None:
        names = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
        while names:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return None
            # Check from time to time whether the shell has ended: processes that it left behind can keep its
            # streams open forever.
            ready, _, _ = select.select(list(names), [], [], min(remaining_s, 0.1))
            for stream in ready:
                data = os.read(stream, 65_536)
                if data:
                    output = outputs[names[stream]]
                    output += data[: max(0, self._max_bytes - len(output))]
                else:
                    del names[stream]
            if not ready and process.poll() is not None:
                break
        try:
            return int(process.wait(max(0.0, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            return None

    @staticmethod
    def _to_result(outputs: dict[str, bytearray], code: int | None) -> dict[str, Any]:
        texts = {name: bytes(data).decode("utf-8", "replace") for name, data in outputs.items()}
        return {**texts, "exit_code": code}


class Voice:
    """The connection to the daemon. Receives cells and sends results."""

    def __init__(self) -> None:
        # Input and output get descriptors that cells do not receive, and that are closed in all child
        # processes of a cell.
        self._in = os.fdopen(os.dup(0), "rb")
        self._out = os.dup(1)
        null_descriptor = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null_descriptor, 0)
        os.close(null_descriptor)
        self._cells: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.unwanted: Any = None
        """The id of the last cell that was interrupted."""
        self.idle = threading.Event()
        """Set while no cell runs."""
        self.first: dict[str, Any] = json.loads(self._in.readline() or b"{}")

    def listen(self) -> None:
        """Read the input in a thread, so that a running cell can be interrupted."""
        main = threading.main_thread().ident
        signal.signal(signal.SIGINT, signal.SIG_IGN)

        def hear() -> None:
            for line in self._in:
                message = json.loads(line)
                if "interrupt" in message:
                    # Record the interrupt before sending the signal: the cell may still be queued, and would
                    # not receive the signal.
                    self.unwanted = message["interrupt"]
                    # Repeat the interrupt while the cell continues: code around a cell can swallow an
                    # interrupt, as IPython's events do.
                    for _ in range(MAX_INTERRUPT_ATTEMPTS):
                        signal.pthread_kill(main or 0, signal.SIGINT)
                        if self.idle.wait(1):
                            break
                else:
                    self.idle.clear()
                    self._cells.put(message)
            os._exit(0)  # the daemon has ended, or no longer needs this process

        threading.Thread(target=hear, daemon=True, name="voice").start()

    def cell(self) -> dict[str, Any]:
        return self._cells.get()

    def say(self, message: dict[str, Any]) -> None:
        # A file name can contain any bytes. Python's text for such a name is not valid in the daemon's JSON.
        data = memoryview(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        while data:
            data = data[os.write(self._out, data) :]


def limit(first: dict[str, Any]) -> None:
    """Set the limits that the system itself enforces, for this process and its children. They cannot be raised
    again.
    """
    Path("/proc/self/oom_score_adj").write_text(
        "1000", encoding="ascii"
    )  # if memory runs out, the system kills this process first
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    held_bytes = pages * resource.getpagesize()
    for resource_kind, maximum in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, int(first["disk"])),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_NPROC, int(first["processes"])),
        (resource.RLIMIT_AS, held_bytes + int(first["memory"])),
    ):
        resource.setrlimit(resource_kind, (maximum, maximum))


def clean(text: str | None, max_chars: int) -> str | None:
    """Return text that is valid in JSON and readable for people."""
    if text is None:
        return None
    if len(text) > max_chars:
        text = f"{text[:max_chars]}\n[truncated: {len(text)} characters in total]"
    return text.encode("utf-8", "replace").decode()


def go_deaf() -> None:
    """Ignore further interrupts.

    An interrupt in progress is raised by the call that disables interrupts, when it is too late to have an effect.
    """
    while True:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            continue
        return


def work(voice: Voice, shell: Shell, output: Printed, folder: Folder, max_chars: int) -> None:
    """Run one cell."""
    cell = voice.cell()
    notes: list[str] = []
    products: list[dict[str, str]] = []
    results: list[dict[str, Any]] = []
    shell.forget()
    folder.gone = []
    try:
        folder.lay(cell.get("files") or {})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            if voice.unwanted == cell["id"]:
                raise KeyboardInterrupt
            if cell.get("commands"):
                results = Commands(max_chars * 4).run(cell["commands"], cell["seconds"])
            elif cell.get("remove"):
                folder.remove(cell["remove"])
            elif not cell.get("fetch"):
                shell.run(cell["code"])
        finally:
            go_deaf()
        if cell.get("fetch"):
            products = folder.fetch(cell["fetch"])
        else:
            products, notes = folder.take(shell.pictures)
    except KeyboardInterrupt:
        shell.fail("KeyboardInterrupt")
    except BaseException as error:  # noqa: BLE001  # out of memory, a full folder: the cell's own fault, and told
        shell.fail(f"{type(error).__name__}: {error}")
    go_deaf()
    voice.idle.set()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            notes.append("Standard output was closed; reset the session to see printed output.")
    kept_output, dropped_bytes = output.take()
    if dropped_bytes:
        notes.append(f"{dropped_bytes} more bytes of output were dropped.")
    voice.say(
        {
            "id": cell.get("id"),
            "output": clean(kept_output.decode("utf-8", "replace"), max_chars),
            "value": clean(shell.value, max_chars),
            "error": clean(shell.error, max_chars),
            "products": products,
            "gone": folder.gone,
            "results": results,
            "notes": notes,
        }
    )


def main() -> None:
    """Serve cells until standard input ends."""
    voice = Voice()
    first = voice.first
    output = Printed(int(first["output"]))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]  # as Python opens them
    if FONTS.is_dir():
        shutil.copytree(FONTS, os.environ["MPLCONFIGDIR"], dirs_exist_ok=True)
    shell = Shell(output)
    folder = Folder(int(first["artifacts"]), int(first["artifact_count"]))
    limit(first)
    voice.listen()
    voice.say({"ready": True})
    while True:
        work(voice, shell, output, folder, int(first["output"]))


if __name__ == "__main__":
    main()
