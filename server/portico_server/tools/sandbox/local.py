"""Kernels on this machine: a worker behind bubblewrap, spoken to in lines of JSON and watched from outside."""

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
from portico_server.tools.sandbox import namespace
from portico_server.tools.sandbox.census import end, take
from portico_server.tools.sandbox.environment import Environment
from portico_server.tools.sandbox.protocol import (
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
"""Seconds that a kernel may take to be ready."""

INTERRUPT_TIMEOUT_S: Final = 3.0
"""Seconds that a cell may take to stop when it is interrupted, before its kernel is ended."""

COMMANDS_GRACE_S: Final = 5.0
"""Seconds by which the end of commands may be late."""

MAX_GONE_FILES: Final = 2_000
"""Files of a cell that are said to be no more."""

WATCH_INTERVAL_S: Final = 0.2
"""Seconds between two looks at what a kernel holds."""

MAX_SKILLS_BYTES: Final = 64 * MB
"""Bytes of all skills that one kernel sees."""

_SPARE: Final = 256 * MB
"""What the interpreter and its packages hold before a cell has done anything."""


class LocalSandbox:
    """Opens kernels with the packages of ``environment``."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        # From anywhere: another daemon of root's counts through the same user ids.
        self._numbers = itertools.count(secrets.randbelow(len(namespace.UIDS)))

    def missing(self) -> str | None:
        """See `Sandbox`; takes some milliseconds."""
        return namespace.missing()

    async def prepare(self, report: Report) -> None:
        """See `Sandbox`."""
        await self._environment.ensure(report)

    async def open(self, limits: SandboxLimits) -> LocalKernel:
        """See `Sandbox`. No process is left behind when it fails or is cancelled."""
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
                # From the loop's own thread, which lives as long as the daemon: bubblewrap dies with the thread it
                # has for a parent.
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
                        start_new_session=True,  # Ctrl-C in the terminal is for the daemon
                    )
                )
                # Not cancelled half-way: bubblewrap must be ended as `census.end` does.
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
    """A folder of the daemon's that one kernel reads as ``/skills``: what is laid into it appears there."""

    def __init__(self) -> None:
        self._home = tempfile.mkdtemp(prefix="portico-skills-")  # nobody else on this machine gets in
        self.path = Path(self._home, "skills")
        self.path.mkdir()
        self.path.chmod(0o755)  # whatever the umask: a kernel has a user id of its own
        self._laid: dict[str, tuple[str, int]] = {}
        """Digest and bytes of each skill, by its name."""

    def lay(self, skills: Mapping[str, Mapping[str, bytes]]) -> None:
        """Put folders there; one that is there already with other files is replaced. Raises `TooLarge`."""
        for name, files in skills.items():
            size = sum(map(len, files.values()))
            digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
            if self._laid.get(name) == (digest, size):
                continue
            kept_bytes = sum(bytes for at, (_digest, bytes) in self._laid.items() if at != name)
            if kept_bytes + size > MAX_SKILLS_BYTES:
                raise TooLarge(
                    f"The skills of one notebook may have {MAX_SKILLS_BYTES // MB} MB. Use fewer, or another session.",
                    code="skills_too_large",
                    param="skills",
                )
            shutil.rmtree(self.path / name, ignore_errors=True)
            for at, data in files.items():
                path = self.path / name / at
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                path.chmod(0o555)  # whoever a kernel runs as reads it
            for folder in (self.path / name, *filter(Path.is_dir, (self.path / name).rglob("*"))):
                folder.chmod(0o755)
            self._laid[name] = (digest, size)

    def remove(self) -> None:
        """Take all of it away."""
        shutil.rmtree(self._home, ignore_errors=True)


class LocalKernel:
    """One worker. What it says is taken for nothing more than what some code has written."""

    def __init__(self, process: Process, limits: SandboxLimits, skills: SkillShelf) -> None:
        self._process = process
        self._skills = skills
        self._limits = limits
        self._cells = itertools.count(1)
        self._broken = ""
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {process.pid}")

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._broken

    async def greet(self) -> None:
        """Tell the worker its limits and wait until it is ready. Raises `Unavailable`."""
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
            limit += COMMANDS_GRACE_S  # they are ended by the worker, one by one
        for field_name, name in (("fetch", cell.fetch), ("remove", cell.remove)):
            if name:
                request[field_name] = name
        try:
            async with asyncio.timeout(limit):
                await self._send(request)
                return await self._answer(number)
        except TimeoutError:
            return await self._interrupt(number, f"stopped after {limit:g} s, the most a cell may take")
        except asyncio.CancelledError:
            # The caller has left: the cell ends, what it has defined so far stays.
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

    async def _interrupt(self, number: int, why: str) -> CellOutcome:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
                await self._send({"interrupt": number})
                outcome = await self._answer(number)
                if not self.alive:
                    return outcome
                note = f"The cell was {why}; what it had defined by then is still there."
                return replace(
                    outcome, error=outcome.error or "KeyboardInterrupt", notes=(*outcome.notes, note)
                )
        self._break(f"was {why} and did not obey")
        await self._process.wait()
        return CellOutcome(error=self._fate())

    async def _answer(self, number: int) -> CellOutcome:
        """The answer to a cell, or what ended the kernel before it came."""
        assert self._process.stdout is not None
        while not self._broken:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than anything that the worker would say
                self._break("answered with more than can be taken")
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
        """End the kernel as soon as all its processes together hold more than it may."""
        task = asyncio.ensure_future(self._process.wait())  # once: each wait leaves a trace until the end
        try:
            while not (await asyncio.wait([task], timeout=WATCH_INTERVAL_S))[0]:
                await self._look()
        finally:
            task.cancel()

    async def _look(self) -> None:
        limits = self._limits
        census = await pools.FILES.run(take, self._process.pid)
        if census.memory > limits.memory + _SPARE:
            self._break(f"held more than {limits.memory // MB} MB of memory")
        elif census.processes > limits.processes + 8:  # ours are among them
            self._break(f"had more than {limits.processes} processes")
        elif census.inodes > limits.inodes:
            self._break(f"made more than {limits.inodes} files")

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        if self._process.returncode is None:
            end(self._process.pid)

    def _fate(self) -> str:
        return f"The session {self._broken} and is over: its variables and files are gone. The next call starts again."

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended: reading says how
            self._process.stdin.write(orjson.dumps(message) + b"\n")
            await self._process.stdin.drain()

    async def _exit_reason(self) -> str:
        exit_status, why = self._process.returncode, self._broken
        self._break("did not start")
        assert self._process.stderr is not None
        words = (await self._process.stderr.read(64 * 1024)).decode("utf-8", "replace").strip()
        if message := words.rpartition("\n")[2][:500]:
            return message
        return f"it {why}" if why else f"it ended without a word (status {exit_status})"


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[int]:
    """An open file that is nowhere in a folder."""
    handle = os.memfd_create("portico")
    try:
        os.write(handle, content)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _longest(limits: SandboxLimits) -> int:
    """Bytes of the longest line that an honest worker says: files in base64, and text in escapes."""
    return limits.artifacts * 3 // 2 + 64 * limits.output


def _parse(line: bytes) -> dict[str, Any]:
    """A line of JSON, or nothing if it is none."""
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def _outcome(message: Mapping[str, Any], limits: SandboxLimits) -> CellOutcome:
    """An answer whose every part is what it should be, or is left out."""

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
    """A file name without a folder, in characters that mislead nobody."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean_name = "".join(character for character in last if character.isprintable())[:150].strip(". ")
    return clean_name or "file"
