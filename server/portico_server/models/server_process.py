"""A supervised process that serves OpenAI HTTP and ends with the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from portico_server.core.errors import EngineFailed
from portico_server.launchers.protocol import LaunchedProcess, Launcher, LaunchOrder, Resources
from portico_server.models.endpoint import Endpoint
from portico_server.models.exit_reason import MAX_REASON_LINES, ReportStage, exit_reason
from portico_server.models.start_stage import stage_in
from portico_server.subprocesses import run_module

GRACE_S = 3.0
"""Seconds between asking a process to end and killing it."""

EXIT_WAIT_S = 2.0
"""Seconds to wait, after a connection breaks, for the end of the process, which would explain the break."""

REMOTE_EXIT_WAIT_S = 6.0
"""Seconds to wait for the end of a process on another machine, whose node may be lost."""

WatchStart = Callable[[int], Coroutine[Any, Any, None]]
"""A function that watches a process while it starts; its argument is the process id."""


class StartSite(Protocol):
    """The context of a start: a `portico_server.models.protocol.LaunchContext`."""

    @property
    def log(self) -> Path: ...

    @property
    def load_timeout(self) -> float: ...

    @property
    def launcher(self) -> Launcher: ...

    @property
    def report(self) -> ReportStage | None: ...

    @property
    def resources(self) -> Resources: ...

    @property
    def waits(self) -> Callable[[str], None] | None: ...


class ServerProcess:
    """A module in a separate interpreter: its configuration on stdin, its port on stdout, its log on stderr."""

    def __init__(self, process: LaunchedProcess, name: str, report: ReportStage | None) -> None:
        self.name = name
        self._report = report
        self.facts: Mapping[str, Any] = {}
        """The facts that the worker reported about itself when it was ready."""
        self._process = process
        self._printed: list[str] = []
        """Lines on stdout before the worker's first message, which come from libraries that print."""
        self._stopping = False
        process.on_log = self._on_log_line

    @classmethod
    async def start(
        cls,
        module: str,
        config: Mapping[str, Any],
        site: StartSite,
        *,
        name: str,
        watch: WatchStart | None = None,
    ) -> ServerProcess:
        """Start the process with the site's launcher and wait until it responds.

        While a process on this machine starts, ``watch`` runs. Raise `EngineFailed`. On an error or cancellation, the
        process is stopped.
        """
        order = LaunchOrder(
            name,
            run_module(module),
            site.log,
            resources=site.resources,
            fingerprint=hashlib.sha256(orjson.dumps([name, module, config, str(site.log)])).hexdigest(),
            on_wait=site.waits,
        )
        process = await site.launcher.launch(order)
        child = cls(process, name, site.report)
        watching = (
            asyncio.create_task(watch(process.pid), name=f"watch {name} start")
            if watch is not None and process.pid is not None
            else None
        )
        try:
            async with asyncio.timeout(site.load_timeout):
                await child._handshake({**config, "key": process.token, "host": process.host})
        except TimeoutError as error:
            await child.stop()
            raise EngineFailed(
                f"The engine of '{name}' was not ready within {site.load_timeout:g} s and was stopped. If "
                "the model needs more time, raise 'load_timeout'.",
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

    async def _handshake(self, config: Mapping[str, Any]) -> None:
        # A child that ended immediately is detected by its exit below.
        if not self._process.adopted:
            await self._process.send(orjson.dumps(config) + b"\n")
        async for line in self._process.lines():
            try:
                message = orjson.loads(line)
            except orjson.JSONDecodeError:
                if len(self._printed) < MAX_REASON_LINES:
                    self._printed.append(line.decode("utf-8", "replace").rstrip())
                continue
            if "error" in message:
                raise EngineFailed(
                    f"'{self.name}' could not be loaded: {message['error']}", code="load_failed"
                )
            self.facts = message
            return
        await self._process.wait()
        await self._process.wait_for_log()
        words = exit_reason(self.lines(MAX_REASON_LINES))
        raise EngineFailed(
            f"The engine of '{self.name}' {self.exit_description()} while it was loading."
            f"{f' Its last words: {words}' if words else ''}",
            code="load_failed",
        )

    def _on_log_line(self, text: str) -> None:
        """If the log line contains the progress of the start, report it."""
        if self._report is not None and (start_stage := stage_in(text)):
            self._report(*start_stage)

    @property
    def pid(self) -> int | None:
        """Return the id of the working process; ``None`` if it runs on another machine.

        If the process was started through another program, this is not the id of our child.
        """
        return None if self._process.pid is None else int(self.facts.get("pid", self._process.pid))

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def endpoint(self, model: str, *, base: str = "/v1") -> Endpoint:
        """Return the address of the process, with the only key that it accepts."""
        url = f"http://{self._process.host}:{self.facts['port']}{base}"
        return Endpoint(url, model, self._process.token, direct=True)

    @property
    def node(self) -> str:
        """Return the scheduler's name of the process's machine; empty for this machine."""
        return self._process.node

    @property
    def ends_at(self) -> float | None:
        """Return when the scheduler ends the process, in seconds since 1970, or ``None``."""
        return self._process.ends_at

    def lines(self, count: int) -> list[str]:
        """Return the last lines of the process's log, oldest first."""
        return [*self._printed, *self._process.log_lines(count)][-count:]

    def exit_description(self) -> str:
        """Return how the process ended, as the second half of a sentence."""
        return self._process.exit_description()

    async def explain(self, error: BaseException) -> EngineFailed:
        """Return the error for a broken connection to the process."""
        with contextlib.suppress(TimeoutError):
            # The connection breaks shortly before the system reports the end of the process.
            async with asyncio.timeout(REMOTE_EXIT_WAIT_S if self.pid is None else EXIT_WAIT_S):
                await self._process.wait()
        if not self.alive:
            if self._stopping:
                return EngineFailed(
                    f"'{self.name}' was stopped in the middle of the call.", code="engine_stopped"
                )
            return EngineFailed(
                f"The engine of '{self.name}' {self.exit_description()} in the middle of the call. The next "
                "call restarts it.",
                code="engine_crashed",
            )
        return EngineFailed(
            f"The connection to the engine of '{self.name}' was lost: {str(error) or type(error).__name__}."
        )

    async def wait(self) -> None:
        """Wait until the process has ended for any reason."""
        await self._process.wait()

    async def kill(self) -> None:
        """Kill the process immediately, as if it had crashed: it no longer works correctly."""
        await self._process.stop(0)

    async def stop(self) -> None:
        """Ask the process to end, then kill it. Return once it has ended."""
        self._stopping = True
        await self._process.stop(GRACE_S)
