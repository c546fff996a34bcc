"""Kernels on this machine: a worker in bubblewrap, controlled with lines of JSON and monitored from outside."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.core.errors import TooLarge, Unavailable
from portico_server.core.filenames import to_filename
from portico_server.features.sandbox import namespace
from portico_server.features.sandbox.census import end, take
from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.protocol import (
    MAX_COMMANDS,
    MB,
    Cell,
    CellOutcome,
    CommandResult,
    Product,
    Report,
    SandboxLimits,
    is_path,
)

START_TIMEOUT_S: Final = 30.0
"""Timeout for the start of a kernel, in seconds."""

INTERRUPT_TIMEOUT_S: Final = 3.0
"""Seconds in which an interrupted cell must stop; otherwise, its kernel is killed."""

COMMANDS_GRACE_S: Final = 5.0
"""Seconds, beyond the limit of a cell, in which its commands must end."""

MAX_GONE_FILES: Final = 2_000
"""Maximum number of deleted files that are reported for a cell."""

WATCH_INTERVAL_S: Final = 0.2
"""Seconds between checks of a kernel's resources."""

MAX_SKILLS_BYTES: Final = 64 * MB
"""Maximum size of all skills that one kernel sees, in bytes."""

_SPARE: Final = 256 * MB
"""Memory that the interpreter and its packages use before the first cell, in bytes."""


class LocalSandbox:
    """Opens kernels with the packages of ``environment``."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        # Start at a random number, because another daemon running as root uses the same range of user ids.
        self._numbers = itertools.count(secrets.randbelow(len(namespace.UIDS)))

    def missing(self) -> str | None:
        """See `Sandbox`; takes a few milliseconds."""
        return namespace.missing()

    async def prepare(self, report: Report) -> None:
        """See `Sandbox`."""
        await self._environment.ensure(report)

    async def open(self, limits: SandboxLimits) -> LocalKernel:
        """See `Sandbox`. No process is left behind on an error or cancellation."""
        skills = await pools.FILES.run(SkillShelf)
        try:
            return await self._open(limits, skills)
        except BaseException:
            await pools.FILES.run(skills.remove)
            raise

    async def _open(self, limits: SandboxLimits, skills: SkillShelf) -> LocalKernel:
        with _file(namespace.program()) as handle:
            arguments = namespace.options(self._environment.path, skills.path, limits, filter_fd=handle)
            with _file(b"".join(os.fsencode(option) + b"\0" for option in arguments)) as options:
                # Start the process from the event loop's thread, which exists as long as the daemon:
                # bubblewrap ends with its parent thread.
                starting = asyncio.ensure_future(
                    asyncio.create_subprocess_exec(
                        *namespace.command(next(self._numbers), options_fd=options),
                        stdin=PIPE,
                        stdout=PIPE,
                        stderr=PIPE,
                        limit=_longest(limits),
                        pass_fds=(handle, options),
                        env={},
                        cwd="/",
                        start_new_session=True,  # Ctrl-C in the terminal is meant for the daemon
                    )
                )
                # If the start is cancelled, wait for it: `census.end` must end bubblewrap.
                try:
                    process = await asyncio.shield(starting)
                except asyncio.CancelledError:
                    await LocalKernel(await starting, limits, skills).stop()
                    raise
        kernel = LocalKernel(process, limits, skills)
        try:
            await kernel.greet()
        except BaseException:
            await kernel.stop()
            raise
        return kernel


class SkillShelf:
    """A folder of the daemon that one kernel reads as ``/skills``. Files added to the folder appear in the kernel."""

    def __init__(self) -> None:
        self._home = tempfile.mkdtemp(prefix="portico-skills-")  # only this user has access to it
        self.path = Path(self._home, "skills")
        self.path.mkdir()
        self.path.chmod(0o755)  # set the mode regardless of the umask: a kernel has its own user id
        self._laid: dict[str, tuple[str, int]] = {}
        """Digest and size in bytes of each skill, by name."""

    def lay(self, skills: Mapping[str, Mapping[str, bytes]]) -> None:
        """Add a folder for each skill, and replace folders whose files differ. Raise `TooLarge`."""
        for name, files in skills.items():
            size = sum(map(len, files.values()))
            digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
            if self._laid.get(name) == (digest, size):
                continue
            kept_bytes = sum(bytes for at, (_digest, bytes) in self._laid.items() if at != name)
            if kept_bytes + size > MAX_SKILLS_BYTES:
                raise TooLarge(
                    f"The skills of one notebook can have at most {MAX_SKILLS_BYTES // MB} MB. Use fewer "
                    "skills, or another session.",
                    code="skills_too_large",
                    param="skills",
                )
            shutil.rmtree(self.path / name, ignore_errors=True)
            for at, data in files.items():
                path = self.path / name / at
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                path.chmod(0o555)  # readable for every user id of a kernel
            for folder in (self.path / name, *filter(Path.is_dir, (self.path / name).rglob("*"))):
                folder.chmod(0o755)
            self._laid[name] = (digest, size)

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._home, ignore_errors=True)


class LocalKernel:
    """A kernel with one worker process. The worker's output is untrusted, because any code in it can write there."""

    def __init__(self, process: Process, limits: SandboxLimits, skills: SkillShelf) -> None:
        self._process = process
        self._skills = skills
        self._limits = limits
        self._cells = itertools.count(1)
        self._failure = ""
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {process.pid}")

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._failure

    async def greet(self) -> None:
        """Send the worker its limits and wait until it is ready. Raise `Unavailable`."""
        limits = self._limits
        first = {
            "memory": limits.memory,
            "processes": limits.processes,
            "disk": limits.disk,
            "output": limits.output,
            "artifacts": limits.artifacts,
            "artifact_count": limits.artifact_count,
        }
        line = b""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._send(first)
                assert self._process.stdout is not None
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise Unavailable(
                f"A kernel was not ready within {START_TIMEOUT_S:g} s. The machine may be too busy; try again.",
                code="kernel_slow",
            ) from error
        if _parse(line) != {"ready": True}:
            raise Unavailable(f"A kernel could not start: {await self._exit_reason()}", code="kernel_failed")

    async def run(self, cell: Cell) -> CellOutcome:
        """See `Kernel`."""
        if cell.skills:
            await pools.FILES.run(self._skills.lay, cell.skills)
        number = next(self._cells)
        files = {name: base64.b64encode(data).decode() for name, data in cell.files.items()}
        request: dict[str, Any] = {"id": number, "code": cell.code, "files": files}
        limit = self._limits.seconds
        if cell.commands:
            seconds = limit if cell.seconds is None else min(cell.seconds, limit)
            request |= {"commands": cell.commands, "seconds": seconds}
            limit += COMMANDS_GRACE_S  # the worker ends commands one by one
        for field_name, name in (("fetch", cell.fetch), ("remove", cell.remove)):
            if name:
                request[field_name] = name
        try:
            async with asyncio.timeout(limit):
                await self._send(request)
                return await self._answer(number)
        except TimeoutError:
            return await self._interrupt(number, f"stopped after {limit:g} s, the maximum for a cell")
        except asyncio.CancelledError:
            # The caller has left. The cell is stopped, and its definitions up to that point remain.
            try:
                await self._interrupt(number, "cancelled")
            except asyncio.CancelledError:
                self._break("was cancelled")
            raise

    async def stop(self) -> None:
        """See `Kernel`."""
        self._break("was stopped")
        self._watcher.cancel()
        await asyncio.wait([self._watcher])
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()
        await pools.FILES.run(self._skills.remove)

    async def _interrupt(self, number: int, reason: str) -> CellOutcome:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
                await self._send({"interrupt": number})
                outcome = await self._answer(number)
                if not self.alive:
                    return outcome
                note = f"The cell was {reason}; its definitions up to that point remain."
                return replace(
                    outcome, error=outcome.error or "KeyboardInterrupt", notes=(*outcome.notes, note)
                )
        self._break(f"was {reason} and did not stop")
        await self._process.wait()
        return CellOutcome(error=self._fate())

    async def _answer(self, number: int) -> CellOutcome:
        """Return the result of a cell, or the reason why the kernel ended before the cell."""
        assert self._process.stdout is not None
        while not self._failure:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # the line is longer than any message of the worker
                self._break("sent a result that is too large")
                break
            if not line.endswith(b"\n"):
                break
            message = _parse(line)
            if message.get("id") == number:
                return _outcome(message, self._limits)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._process.wait()
        self._break("ended itself")
        await self._process.wait()
        return CellOutcome(error=self._fate())

    async def _watch(self) -> None:
        """End the kernel as soon as all its processes together exceed the kernel's limits."""
        # wait in a single task, because each wait uses memory until the process ends
        task = asyncio.ensure_future(self._process.wait())
        try:
            while not (await asyncio.wait([task], timeout=WATCH_INTERVAL_S))[0]:
                await self._look()
        finally:
            task.cancel()

    async def _look(self) -> None:
        limits = self._limits
        census = await pools.FILES.run(take, self._process.pid)
        if census.memory > limits.memory + _SPARE:
            self._break(f"used more than {limits.memory // MB} MB of memory")
        elif census.processes > limits.processes + 8:  # the count includes bubblewrap and the worker itself
            self._break(f"had more than {limits.processes} processes")
        elif census.inodes > limits.inodes:
            self._break(f"created more than {limits.inodes} files")

    def _break(self, reason: str) -> None:
        self._failure = self._failure or reason
        if self._process.returncode is None:
            end(self._process.pid)

    def _fate(self) -> str:
        return (
            f"The session {self._failure} and has ended: its variables and files are lost. The next call "
            "starts a new one."
        )

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the process has ended; reading its output shows how
            self._process.stdin.write(orjson.dumps(message) + b"\n")
            await self._process.stdin.drain()

    async def _exit_reason(self) -> str:
        exit_status, reason = self._process.returncode, self._failure
        self._break("did not start")
        assert self._process.stderr is not None
        words = (await self._process.stderr.read(64 * 1024)).decode("utf-8", "replace").strip()
        if message := words.rpartition("\n")[2][:500]:
            return message
        return f"it {reason}" if reason else f"it ended without a message (status {exit_status})"


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[int]:
    """Yield the descriptor of an open file that is in no folder."""
    handle = os.memfd_create("portico")
    try:
        os.write(handle, content)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _longest(limits: SandboxLimits) -> int:
    """Return the maximum bytes of a line from a well-behaved worker: files in base64, and text with escapes."""
    return limits.artifacts * 3 // 2 + 64 * limits.output


def _parse(line: bytes) -> dict[str, Any]:
    """Parse a line of JSON; return an empty object if it is invalid."""
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def _outcome(message: Mapping[str, Any], limits: SandboxLimits) -> CellOutcome:
    """Convert a worker's message to an outcome that contains only the message's valid parts."""

    def text(name: str) -> str | None:
        field_value = message.get(name)
        return field_value[: limits.output + 100] if isinstance(field_value, str) else None

    notes = message.get("notes")
    return CellOutcome(
        output=text("output") or "",
        value=text("value"),
        error=text("error"),
        products=tuple(_products(message.get("products"), limits)),
        gone=tuple(_paths(message.get("gone"))),
        results=tuple(_results(message.get("results"), limits)),
        notes=tuple(str(note)[:500] for note in notes[:50]) if isinstance(notes, list) else (),
    )


def _results(items: Any, limits: SandboxLimits) -> Iterator[CommandResult]:
    for item in items[:MAX_COMMANDS] if isinstance(items, list) else ():
        fields = item if isinstance(item, dict) else {}
        out, errors, code = (fields.get(name) for name in ("stdout", "stderr", "exit_code"))
        yield CommandResult(
            out[: limits.output] if isinstance(out, str) else "",
            errors[: limits.output] if isinstance(errors, str) else "",
            code if isinstance(code, int) else None,
        )


def _products(items: Any, limits: SandboxLimits) -> Sequence[Product]:
    products: list[Product] = []
    remaining_bytes = limits.artifacts
    for item in items[: limits.artifact_count] if isinstance(items, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            continue
        try:
            data = base64.b64decode(item.get("data", ""), validate=True)
        except (TypeError, ValueError, binascii.Error):
            continue
        remaining_bytes -= len(data)
        if remaining_bytes >= 0:
            products.append(Product(_plain(item["name"]), data, next(_paths([item["name"]]), "")))
    return products


def _paths(items: Any) -> Iterator[str]:
    for item in items[:MAX_GONE_FILES] if isinstance(items, list) else ():
        if isinstance(item, str) and is_path(item.encode("utf-8", "replace").decode()):
            yield item


def _plain(name: str) -> str:
    """Return a valid file name without a folder, and without ambiguous characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean_name = "".join(character for character in last if character.isprintable())[:150].strip(". ")
    return to_filename(clean_name) or "file"
