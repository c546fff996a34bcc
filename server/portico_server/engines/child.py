"""A supervised child process that serves OpenAI HTTP on a loopback port and dies with the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.errors import EngineFailed
from portico_server.engines.endpoint import Endpoint
from portico_server.engines.last_words import last_words
from portico_server.engines.stages import stage_in
from portico_server.subprocesses import inherited, run_module, transcribe

KEPT_LINES = 1_000
GRACE = 3.0
"""Seconds between asking a child to end and making it."""

BURIAL = 2.0
"""Seconds that a broken connection waits for the end of the process which would explain it."""

Watch = Callable[[int], Coroutine[Any, Any, None]]
"""Looks at the process of this number while it starts."""


class Child:
    """A module in an interpreter of its own: its configuration on stdin, its port on stdout, its log on stderr."""

    def __init__(
        self,
        process: Process,
        name: str,
        key: str,
        log: Path,
        report: Callable[[str, int | None], None] | None,
    ) -> None:
        self.name = name
        self._report = report
        self.facts: Mapping[str, Any] = {}
        """What the worker said about itself when it was ready."""
        self._process = process
        self._key = key
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        assert process.stderr is not None
        self._pump = asyncio.create_task(
            transcribe(process.stderr, log, self._lines, self._heard), name=f"log of {name}"
        )
        self._burial = asyncio.create_task(self._bury(), name=f"end of {name}")
        self._stopping = False

    @classmethod
    async def start(
        cls,
        module: str,
        config: Mapping[str, Any],
        *,
        name: str,
        log: Path,
        timeout: float,
        report: Callable[[str, int | None], None] | None = None,
        watch: Watch | None = None,
    ) -> Child:
        """Start and wait until it answers. ``report`` hears of stages and percentages that its log tells of; ``watch``
        runs until then.

        Raises `EngineFailed`; no process is left behind then or when cancelled.
        """
        key = secrets.token_hex(32)  # as an argument of an engine it must not begin with a dash
        log.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *run_module(module),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=inherited(),
            start_new_session=True,  # Ctrl-C is for the daemon, which then ends its children in order
        )
        child = cls(process, name, key, log, report)
        watching = asyncio.create_task(watch(process.pid), name=f"watch {name} start") if watch else None
        try:
            async with asyncio.timeout(timeout):
                await child._introduce({**config, "key": key})
        except TimeoutError as error:
            await child.stop()
            raise EngineFailed(
                f"The engine of '{name}' was not ready within {timeout:g} s and was stopped. A larger model "
                "may need more: set 'load_timeout'.",
                code="load_timeout",
            ) from error
        except BaseException:
            await child.stop()
            raise
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])
        child._report = None
        return child

    async def _introduce(self, config: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A child that died at once is told from its exit below.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(orjson.dumps(config) + b"\n")
            await self._process.stdin.drain()
        async for line in self._process.stdout:
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                self._lines.append(line.decode("utf-8", "replace").rstrip())  # a library that prints
                continue
            if "error" in said:
                raise EngineFailed(f"'{self.name}' could not be loaded: {said['error']}", code="load_failed")
            self.facts = said
            return
        await self._process.wait()
        await asyncio.wait([self._pump], timeout=1)
        words = last_words(self._lines)
        raise EngineFailed(
            f"The engine of '{self.name}' {self.fate()} while it was loading."
            f"{f' Its last words: {words}' if words else ''}",
            code="load_failed",
        )

    async def _bury(self) -> None:
        """Once it has ended, end what it started and left behind: it leads a process group of its own."""
        await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _heard(self, text: str) -> None:
        """Tell whoever waits for the start how far it has come, where the log says that."""
        if self._report is not None and (told := stage_in(text)):
            self._report(*told)

    @property
    def pid(self) -> int:
        """Of the process that works, which is not ours where we started it through another one."""
        return int(self.facts.get("pid", self._process.pid))

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def endpoint(self, model: str, *, base: str = "/v1") -> Endpoint:
        """Where it answers, with the key that it alone accepts."""
        return Endpoint(f"http://127.0.0.1:{self.facts['port']}{base}", model, self._key)

    def lines(self, count: int) -> list[str]:
        """The last lines of its log, oldest first."""
        return list(self._lines)[-count:]

    def fate(self) -> str:
        """How it ended, as the second half of a sentence."""
        code = self._process.returncode
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    async def explain(self, error: BaseException) -> EngineFailed:
        """What a broken connection to it means."""
        with contextlib.suppress(TimeoutError):
            # The connection breaks a moment before the system tells us of the process.
            async with asyncio.timeout(BURIAL):
                await self._process.wait()
        if not self.alive:
            if self._stopping:
                return EngineFailed(
                    f"'{self.name}' was stopped in the middle of the call.", code="engine_stopped"
                )
            return EngineFailed(
                f"The engine of '{self.name}' {self.fate()} in the middle of the call. The next call starts "
                f"it again.",
                code="engine_crashed",
            )
        return EngineFailed(
            f"The connection to the engine of '{self.name}' broke: {str(error) or type(error).__name__}."
        )

    async def wait(self) -> None:
        """Until it has ended, for whatever reason."""
        await self._process.wait()

    async def kill(self) -> None:
        """End it at once, as a crash would: it does not work any more."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._burial)

    async def stop(self) -> None:
        """End it: first politely, then not. Returns when it is gone."""
        self._stopping = True
        try:
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GRACE):
                        await self._process.wait()
        finally:
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await asyncio.shield(self._process.wait())
            await asyncio.shield(self._burial)
            if self._process.stdin is not None:
                self._process.stdin.close()
            if not self._pump.done():
                # A grandchild that holds the pipe must not hold us.
                await asyncio.wait([self._pump], timeout=1)
                self._pump.cancel()
