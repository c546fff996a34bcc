"""Ray: each process belongs to a detached actor. A separate process, the driver, runs in an environment with Ray and
communicates with the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from portico.schemas.cluster import ClusterNode
from portico_server.child_environment import inherited
from portico_server.core import pools
from portico_server.core.errors import Conflict, Unavailable
from portico_server.launchers.protocol import LaunchOrder
from portico_server.launchers.remote import (
    LOG,
    MAX_REASON_CHARS,
    JobLook,
    agent_command,
    last_words,
    read_address,
)
from portico_server.settings import Settings
from portico_server.subprocesses import run_script

DRIVER_SCRIPT: Final = Path(__file__).with_name("ray_driver.py")

REACH_TIMEOUT_S: Final = 5.0
"""Maximum time for the head node to accept a connection, in seconds. Without it, Ray would retry for minutes."""

JOIN_TIMEOUT_S: Final = 20.0
"""Maximum time for the driver to join the cluster after importing Ray, in seconds."""

START_TIMEOUT_S: Final = JOIN_TIMEOUT_S + 60.0
"""Maximum time for the driver to import Ray and join the cluster, in seconds. Imports from a shared file system
are slow.
"""

ANSWER_TIMEOUT_S: Final = 30.0
"""Maximum time for later responses of the driver, in seconds."""

RETRY_INTERVAL_S: Final = 5.0
"""Seconds for which a cluster that could not be joined is not tried again. Callers receive the same error
immediately.
"""

LOCAL_CLUSTER: Final = "auto"
"""The address that means the cluster to which this machine belongs."""


def backend(settings: Settings) -> RayBackend:
    """Return the backend configured by the settings."""
    return RayBackend(
        settings.ray_python, settings.ray_address, settings.ray_token, settings.logs / "ray.log"
    )


class RayBackend:
    """Runs jobs on Ray; see `portico_server.launchers.remote.JobBackend`.

    ``python`` is an interpreter with the same version of Ray as the cluster, and ``log`` the file for Ray's output.
    """

    name = "ray"
    title = "Ray"

    def __init__(self, python: str, address: str, token: str, log: Path) -> None:
        self._python = python
        self._address = address
        self._token = token
        self._log = log
        self._driver: _Driver | None = None
        self._connecting = asyncio.Lock()
        self._failure: Unavailable | None = None
        self._failed_at = 0.0

    async def submit(self, job: str, order: LaunchOrder, folder: Path, avoid: Sequence[str]) -> None:
        """See `JobBackend`. If only nodes in ``avoid`` can run the job, it runs on one of them."""
        reply = await self._call(
            "submit",
            job=job,
            command=agent_command(folder),
            log=str(folder / LOG),
            resources=asdict(order.resources),
            avoid=list(avoid),
        )
        if reply["refused"]:
            raise Unavailable(
                f"Ray rejected the job of '{order.name}': {reply['refused']}.", code="launch_refused"
            )

    async def look(self, job: str, folder: Path) -> JobLook:
        """See `JobBackend`."""
        reply = await self._call("look", job=job)
        if reply["ended"]:
            words = await pools.MODELS.run(last_words, folder / LOG)
            return JobLook("ended", words or reply["reason"] or "Ray no longer knows the job")
        look = await pools.MODELS.run(read_address, folder)
        return look if look.port else JobLook("queued", reply["reason"])

    async def cancel(self, job: str) -> None:
        """See `JobBackend`."""
        await self._call("cancel", job=job)

    async def nodes(self) -> Sequence[ClusterNode]:
        """See `ListsNodes`."""
        node_list = (await self._call("nodes"))["nodes"]
        return [ClusterNode(**{**node, "gpu_types": tuple(node["gpu_types"])}) for node in node_list]

    async def drain(self, node: str, reason: str) -> None:
        """See `DrainsNodes`. The node leaves the cluster once it is idle."""
        reply = await self._call("drain", node=node, reason=reason)
        if reply["refused"]:
            raise Conflict(f"Ray did not drain the node '{node}': {reply['refused']}.", code="drain_refused")

    async def resume(self, node: str) -> None:
        """See `DrainsNodes`."""
        raise Conflict(
            f"Ray cannot resume the node '{node}': a drained node leaves the cluster once it is idle. Start "
            "Ray on the node again ('ray start --address=HEAD:PORT').",
            code="resume_unsupported",
        )

    async def close(self) -> None:
        """Stop the driver."""
        if self._driver is not None:
            await self._driver.stop()

    async def _call(self, method: str, **arguments: Any) -> Mapping[str, Any]:
        """Call a method of the driver. Raises `Unavailable`."""
        driver = await self._connected()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reply = await driver.call(method, arguments)
        except TimeoutError as error:
            raise Unavailable(
                f"Ray did not respond within {ANSWER_TIMEOUT_S:g} s.", code="launcher_silent"
            ) from error
        except ConnectionError as error:
            raise Unavailable(
                "The connection to the Ray cluster was lost.", code="launcher_failed"
            ) from error
        if "error" in reply:
            raise Unavailable(f"Ray failed: {reply['error'][:MAX_REASON_CHARS]}", code="launcher_failed")
        return reply

    async def _connected(self) -> _Driver:
        async with self._connecting:
            if self._driver is None or not self._driver.alive:
                if self._failure is not None and time.monotonic() < self._failed_at + RETRY_INTERVAL_S:
                    raise Unavailable(self._failure.message, code=self._failure.code)
                try:
                    self._driver = await self._connect()
                except Unavailable as error:
                    self._failure, self._failed_at = error, time.monotonic()
                    raise
            return self._driver

    async def _connect(self) -> _Driver:
        if not self._python or not await pools.MODELS.run(Path(self._python).is_file):
            raise Unavailable(
                "The launcher 'ray' needs the setting 'ray_python': an interpreter with the same version of "
                f"Ray as the cluster{f', which {self._python} is not' if self._python else ''}.",
                code="launcher_missing",
            )
        try:
            await self._reach()
            token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token} if self._token else {}
            return await _Driver.start(self._python, self._address, token, self._log)
        except (OSError, TimeoutError) as error:
            words = str(error)[:MAX_REASON_CHARS] or "it did not respond in time"
            raise Unavailable(
                f"The Ray cluster at '{self._address}' cannot be joined: {words}. Check 'ray_address', "
                "'ray_python' and 'ray_token'.",
                code="launcher_silent",
            ) from error

    async def _reach(self) -> None:
        """Raise `OSError` or `TimeoutError` unless the address of the head node accepts connections."""
        if self._address == LOCAL_CLUSTER:
            return
        try:
            place = urlsplit(f"//{self._address}")
            host, port = place.hostname, place.port
        except ValueError:
            host = port = None
        if not host or not port or place.netloc != self._address:
            raise Unavailable(
                f"'{self._address}' in 'ray_address' must be HOST:PORT or '{LOCAL_CLUSTER}'.",
                code="setting_invalid",
            )
        async with asyncio.timeout(REACH_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()


class _Driver:
    """The driver: a process that has joined the cluster and communicates with it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read(), name="answers of Ray")

    @classmethod
    async def start(cls, python: str, address: str, token: Mapping[str, str], log: Path) -> _Driver:
        """Start the driver, and return once it has joined the cluster. Raises `OSError` or `TimeoutError`."""
        await pools.MODELS.run(log.parent.mkdir, parents=True, exist_ok=True)
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *run_script(DRIVER_SCRIPT, address, f"{JOIN_TIMEOUT_S:g}", python=python),
                stdin=PIPE,
                stdout=PIPE,
                stderr=file,
                env={**inherited("RAY_", "PYTHON", "VIRTUAL_ENV"), **token},
                start_new_session=True,
            )
        driver: _Driver | None = None
        try:
            assert process.stdout is not None
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.stdout.readline()
            response = (
                orjson.loads(line)
                if line
                else {"error": f"the driver ended; see its last output in {log.name}"}
            )
            if "error" in response:
                # With an invalid token, Ray retries indefinitely and reports the reason only in its log.
                warning = (await pools.MODELS.run(last_words, log)).rpartition("] ")[2].partition(": ")[2]
                raise ConnectionError("; ".join(filter(None, [response["error"], warning])))
            driver = cls(process)
        finally:
            if driver is None:
                await asyncio.shield(_end(process))
        return driver

    @property
    def alive(self) -> bool:
        return not self._reading.done()

    async def call(self, method: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a method of the driver and return its response. Raise `ConnectionError` if the driver has ended."""
        number = next(self._numbers)
        reply: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        request = {"id": number, "method": method, "arguments": arguments}
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(orjson.dumps(request) + b"\n")
            await self._process.stdin.drain()
            return await reply
        finally:
            self._replies.pop(number, None)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                message = orjson.loads(line)
                reply = self._replies.get(message["id"])
                if reply is not None and not reply.done():
                    reply.set_result(message)
        finally:
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(ConnectionError())

    async def stop(self) -> None:
        """Stop the driver. Returns once it has ended."""
        await _end(self._process)
        await asyncio.wait([self._reading])


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
