"""Processes on other machines. A scheduler places each process, and an agent on the same machine communicates with the
daemon. Imports aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import aiohttp
import orjson

from portico.schemas.cluster import ClusterJob
from portico_server.child_output import LOG_BYTES
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.launchers.protocol import LaunchedProcess, LaunchOrder, describe_exit
from portico_server.subprocesses import own_interpreter, run_script

logger = logging.getLogger(__name__)

AGENT_SCRIPT: Final = Path(__file__).with_name("agent.py")

NEWS_WAIT_S: Final = 2.0
"""Seconds that an agent waits for new output before it responds."""

REQUEST_TIMEOUT_S: Final = 3.0
"""Seconds for an agent's response, in addition to `NEWS_WAIT_S`."""

MIN_LEASE_S: Final = 3.0
"""Minimum lease in seconds, longer than the interval between two requests to an agent."""

LOST_S: Final = 3.0
"""Seconds without a response of an agent after which its node counts as lost."""

AVOID_S: Final = 120.0
"""Seconds for which no process is started on a lost node."""

RETRY_INTERVAL_S: Final = 0.3
"""Interval between attempts to reach an agent, in seconds."""

LOOK_INTERVAL_S: Final = 0.5
"""Initial interval between two checks of a queued job, in seconds."""

MAX_LOOK_INTERVAL_S: Final = 5.0
"""Maximum interval between two checks of a queued job, in seconds."""

MAX_LOG_LINES: Final = 1_000
MAX_LINE_CHARS: Final = 65_536
"""Maximum length of a log line, in characters, so that a line without an end does not grow indefinitely."""

SILENT_S: Final = 60.0
"""Seconds for which a scheduler may be unavailable while a job waits, for example because its controller restarts."""

STOP_WAIT_S: Final = 5.0
"""Seconds, in addition to the grace period, that a job has to end before the scheduler is asked to end it."""

MAX_REASON_CHARS: Final = 500

RECORD: Final = "job.json"
ORDER: Final = "order.json"
ADDRESS: Final = "address.json"
LOG: Final = "job.log"
"""Files in a job's folder: the record for a later daemon, the agent's order and address, and the output of the agent
and the scheduler.
"""

CONNECTION_ERRORS: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class JobLook:
    """The state of a job that a scheduler has reported.

    ``reason`` explains, in the scheduler's words, why the job waits or has ended. ``host`` and ``port`` are the
    address of the agent once it runs. ``node`` is the scheduler's name of the machine. ``ends_at`` is the end of the
    time limit, in seconds since 1970.
    """

    state: Literal["queued", "running", "ended"]
    reason: str = ""
    host: str = ""
    port: int = 0
    node: str = ""
    ends_at: float | None = None


def agent_command(folder: Path) -> list[str]:
    """Return the command that a scheduler must run for a job."""
    return run_script(AGENT_SCRIPT, str(folder / ORDER), python=own_interpreter())


def read_address(folder: Path) -> JobLook:
    """Return the state of a running job, with the address that its agent has written to ``folder``. Blocks."""
    try:
        place = orjson.loads((folder / ADDRESS).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return JobLook("running", "it starts")
    return JobLook("running", host=place["host"], port=place["port"], node=place["node"])


def last_words(log: Path) -> str:
    """Return the last lines of a log as one line. Blocks."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join(text.split())[-MAX_REASON_CHARS:]


class JobBackend(Protocol):
    """A scheduler. Portico chooses the names of the jobs. All methods raise `PorticoError` with the scheduler's own
    message.
    """

    name: str
    title: str
    """Name of the scheduler in messages."""

    async def submit(self, job: str, order: LaunchOrder, folder: Path, avoid: Sequence[str]) -> None:
        """Submit a job in which an agent runs the order ``order.json`` in ``folder``, on a node that is not in
        ``avoid``.
        """

    async def look(self, job: str, folder: Path) -> JobLook: ...

    async def cancel(self, job: str) -> None:
        """End a job, wherever it runs. Has no effect if the job does not exist."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The record of a job, stored on disk for a restarted daemon."""

    job: str
    launcher: str
    name: str
    token: str
    fingerprint: str
    log: str


class RemoteProcess:
    """A process on another machine; see `LaunchedProcess`. A task follows the process until it has ended."""

    pid = None

    def __init__(
        self, launcher: RemoteLauncher, record: JobRecord, look: JobLook, *, is_adopted: bool = False
    ) -> None:
        self.host = look.host
        self.token = record.token
        self.ends_at = look.ends_at
        self.adopted = is_adopted
        self.on_log: Callable[[str], None] | None = None
        self.record = record
        self._launcher = launcher
        self._agent = f"http://{look.host}:{look.port}"
        self.node = look.node
        self._output: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)
        self._rest = ""
        self._code: int | None = None
        self._reason = ""
        self._end_event = asyncio.Event()
        self._following = launcher.follow(self._follow(), f"follow {record.name}")

    @property
    def returncode(self) -> int | None:
        return self._code

    async def send(self, line: bytes) -> None:
        """See `LaunchedProcess`."""
        with contextlib.suppress(*CONNECTION_ERRORS):
            await self._post("input", line)

    async def lines(self) -> AsyncIterator[bytes]:
        """See `LaunchedProcess`."""
        while (line := await self._output.get()) is not None:
            yield line
        self._output.put_nowait(None)  # for later readers

    def log_lines(self, count: int) -> list[str]:
        """See `LaunchedProcess`."""
        return [*self._lines, *filter(None, [self._rest])][-count:]

    def exit_description(self) -> str:
        """See `LaunchedProcess`."""
        return self._reason or describe_exit(self._code)

    def signal(self, number: signal.Signals) -> None:
        """See `LaunchedProcess`. Signals that suspend a process are ignored, because that would free no resources on
        this machine.
        """

    async def wait(self) -> None:
        """See `LaunchedProcess`."""
        await self._end_event.wait()

    async def wait_for_log(self) -> None:
        """See `LaunchedProcess`."""

    async def stop(self, grace_s: float) -> None:
        """See `LaunchedProcess`."""
        try:
            if self._code is None:
                with contextlib.suppress(TimeoutError, *CONNECTION_ERRORS):
                    async with asyncio.timeout(grace_s + STOP_WAIT_S):
                        await self._post(f"stop?grace={grace_s:g}", b"", grace_s)
                        await self._end_event.wait()
        finally:
            if self._code is None:
                self._following.cancel()
            await asyncio.wait([self._following])

    async def _post(self, path: str, body: bytes, more_s: float = 0.0) -> None:
        async with (
            asyncio.timeout(REQUEST_TIMEOUT_S + more_s),
            self._launcher.session.post(
                f"{self._agent}/{path}", data=body, headers=self._headers
            ) as response,
        ):
            await response.read()

    @property
    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def _follow(self) -> None:
        """Follow the process until it has ended, then remove its job."""
        try:
            await self._take_news()
        finally:
            if self._code is None:
                self._end(-signal.SIGKILL, "was stopped")
            await self._launcher.discard(self.record)

    async def _take_news(self) -> None:
        """Read the output of the process until it has ended. If the agent does not respond, ask the scheduler for the
        job's state.
        """
        line = log = 0
        failing_since: float | None = None
        while self._code is None:
            try:
                news = await self._news(line, log)
            except (*CONNECTION_ERRORS, orjson.JSONDecodeError) as error:
                now = asyncio.get_running_loop().time()
                failing_since = failing_since or now
                if not await self._examine(now - failing_since, error):
                    # retry at intervals, because nothing reports that a node is back
                    await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            failing_since = None
            line, log = news["next"], news["log_next"]
            for entry in news["lines"]:
                self._output.put_nowait(entry.encode())
            if news["log"]:
                await pools.MODELS.run(_append, Path(self.record.log), news["log"])
                self._take_log(news["log"])
            if news["status"] is not None:
                self._end(int(news["status"]), await self._why_cancelled() if news["cancelled"] else "")

    async def _why_cancelled(self) -> str:
        try:
            look = await self._launcher.look(self.record)
        except PorticoError:
            look = JobLook("ended")
        return self._launcher.describe_end(look)

    async def _news(self, line: int, log: int) -> Any:
        url = f"{self._agent}/news?line={line}&log={log}&wait={NEWS_WAIT_S:g}"
        async with (
            asyncio.timeout(NEWS_WAIT_S + REQUEST_TIMEOUT_S),
            self._launcher.session.get(url, headers=self._headers) as response,
        ):
            data = await response.read()
            if response.status != 200:
                raise ConnectionError(f"its agent responded with status {response.status}")
            return orjson.loads(data)

    async def _examine(self, silent_s: float, error: Exception) -> bool:
        """Return whether the scheduler reports that the process has ended, or its agent has been silent for too
        long.
        """
        try:
            look = await self._launcher.look(self.record)
        except PorticoError as trouble:
            look = JobLook("running", trouble.message)
        if look.state != "running":
            self._end(-signal.SIGKILL, self._launcher.describe_end(look))
        elif silent_s >= LOST_S:
            words = str(error) or type(error).__name__
            self._launcher.avoid(self.node)
            self._end(-signal.SIGKILL, f"was lost: its node no longer responds ({words})")
        return self._code is not None

    def _take_log(self, text: str) -> None:
        *complete_lines, self._rest = split_log(self._rest, text)
        self._lines.extend(complete_lines)
        if self.on_log is not None:
            self.on_log(text)

    def _end(self, code: int, reason: str) -> None:
        self._code, self._reason = code, reason
        self._output.put_nowait(None)
        self._end_event.set()


def split_log(remainder: str, text: str) -> list[str]:
    """Split ``remainder`` and ``text`` into lines, keeping only the end of each long line. The last line may be
    incomplete.
    """
    return [line[-MAX_LINE_CHARS:] for line in (remainder + text).split("\n")]


def _append(path: Path, text: str) -> None:
    """Append to a log. A full disk is ignored, because it must not end an engine. Blocks."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        full = path.exists() and path.stat().st_size > LOG_BYTES
        with path.open("wb" if full else "ab") as file:
            file.write(text.encode())


class RemoteLauncher:
    """Starts processes through a scheduler. See `Launcher`.

    ``place`` is a folder that all nodes can access. ``lease_s`` is the time that a process survives without its
    daemon, at least `MIN_LEASE_S`. ``queue_s`` is the maximum time that a job may wait in the scheduler's queue.
    """

    here = False

    def __init__(self, backend: JobBackend, place: Path, *, lease_s: float, queue_s: float) -> None:
        self.backend = backend
        self.name = backend.name
        self._place = place
        self._lease_s = max(lease_s, MIN_LEASE_S)
        self._queue_s = queue_s
        self._detached_processes: list[RemoteProcess] = []
        self._avoided_nodes: dict[str, float] = {}
        self._jobs: dict[str, ClusterJob] = {}
        self._end_tasks: set[asyncio.Task[None]] = set()
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def look(self, record: JobRecord) -> JobLook:
        """Return the state of a job that its scheduler reports. Raises `PorticoError`."""
        return await self.backend.look(record.job, self.folder(record))

    def jobs(self) -> Sequence[ClusterJob]:
        """See `Launcher`."""
        return list(self._jobs.values())

    def _note(self, record: JobRecord, look: JobLook) -> None:
        """Record the state of a job, which `jobs` returns."""
        state: Literal["queued", "starting", "running"] = "running"
        if not look.port:
            state = "starting" if look.state == "running" else "queued"
        self._jobs[record.job] = ClusterJob(
            record.name,
            self.name,
            record.job,
            state,
            look.node,
            "" if state == "running" else look.reason,
            look.ends_at,
        )

    def describe_end(self, look: JobLook) -> str:
        """Describe why a job ended, in words that complete a sentence about it."""
        return f"was ended by {self.backend.title} ({look.reason or 'without a reason'})"

    def folder(self, record: JobRecord) -> Path:
        """Return the folder with the job's files."""
        return self._place / record.job

    def follow(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task for which `close` waits."""
        task = asyncio.create_task(work, name=name)
        self._end_tasks.add(task)
        task.add_done_callback(self._end_tasks.discard)
        return task

    def avoid(self, node: str) -> None:
        """Avoid a lost node for `AVOID_S` seconds, because its scheduler may not know yet that the node is lost."""
        self._avoided_nodes[node] = time.monotonic() + AVOID_S

    def _avoided(self) -> Sequence[str]:
        now = time.monotonic()
        self._avoided_nodes = {
            node: until for node, until in self._avoided_nodes.items() if node and until > now
        }
        return sorted(self._avoided_nodes)

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """See `Launcher`. If an earlier daemon left an equivalent process, it is taken over."""
        for remote_process in self._detached_processes:
            if (
                order.fingerprint
                and remote_process.record.fingerprint == order.fingerprint
                and remote_process.returncode is None
            ):
                self._detached_processes.remove(remote_process)
                logger.info("%s continues on %s", order.name, self.backend.title)
                return remote_process
        job = f"portico-{secrets.token_hex(6)}"
        record = JobRecord(
            job, self.name, order.name, secrets.token_hex(32), order.fingerprint, str(order.log)
        )
        process: RemoteProcess | None = None
        try:
            await pools.MODELS.run(self._write, record, order)
            self._note(record, JobLook("queued"))
            await self.backend.submit(job, order, self.folder(record), self._avoided())
            look = await self._wait_for_start(record, order)
            process = RemoteProcess(self, record, look)
        finally:
            if process is None:
                await asyncio.shield(self.discard(record))
        return process

    def _write(self, record: JobRecord, order: LaunchOrder) -> None:
        """Write the files of a job, with the record first, so that a later daemon knows about the job."""
        folder = self.folder(record)
        folder.mkdir(parents=True, mode=0o700)
        documents = {
            "command": list(order.command),
            "environment": dict(order.environment),
            "without": ["PORTICO_", *order.without],
            "token": record.token,
            "lease_s": self._lease_s,
            "address": str(folder / ADDRESS),
        }
        for name, value in ((RECORD, asdict(record)), (ORDER, documents)):
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(orjson.dumps(value))

    async def _wait_for_start(self, record: JobRecord, order: LaunchOrder) -> JobLook:
        """Wait until the agent of a job runs. If it does not start, raise `Unavailable` with the scheduler's reason."""
        title = self.backend.title
        loop = asyncio.get_running_loop()
        pause, reason = LOOK_INTERVAL_S, ""
        start_time = answered_at = loop.time()
        while True:
            try:
                look = await self.look(record)
                answered_at = loop.time()
            except PorticoError as error:
                if loop.time() - answered_at > SILENT_S:
                    raise
                look = JobLook("queued", error.message)
            self._note(record, look)
            if look.port:
                return look
            if look.state == "ended":
                raise Unavailable(
                    f"The job of '{order.name}' on {title} ended before it started to work: "
                    f"{look.reason or 'without a reason'}.",
                    code="launch_failed",
                )
            if look.reason != reason and order.on_wait is not None:
                reason = look.reason
                order.on_wait(f"waits for {title}{f' ({reason})' if reason else ''}")
            if loop.time() - start_time > self._queue_s:
                raise Unavailable(
                    f"The job of '{order.name}' was cancelled after waiting for {title} for "
                    f"{self._queue_s:g} s ({look.reason or look.state}). Raise 'launcher_queue_timeout' to "
                    "wait longer.",
                    code="queue_timeout",
                )
            await asyncio.sleep(pause)  # schedulers send no notifications
            pause = min(MAX_LOOK_INTERVAL_S, pause * 1.2)

    async def discard(self, record: JobRecord) -> None:
        """End a job, and delete its record."""
        self._jobs.pop(record.job, None)
        try:
            await self.backend.cancel(record.job)
        except PorticoError as error:  # the process ends by itself when its lease expires
            logger.warning("failed to end a job of %s: %s", record.name, error.message)
        await pools.MODELS.run(shutil.rmtree, self.folder(record), ignore_errors=True)

    async def adopt(self) -> Sequence[str]:
        """Follow the processes that an earlier daemon left, so that equivalent launches can take them over. Return
        their names.

        Processes that cannot be taken over are ended.
        """
        for record in await pools.MODELS.run(self._records):
            try:
                look = await self.look(record)
            except PorticoError as error:
                logger.warning("unknown job of %s: %s", record.name, error.message)
                look = JobLook("ended")
            if record.fingerprint and look.state == "running" and look.port:
                self._note(record, look)
                self._detached_processes.append(RemoteProcess(self, record, look, is_adopted=True))
            else:
                await self.discard(record)
        return [remote_process.record.name for remote_process in self._detached_processes]

    async def end_leftovers(self) -> None:
        """End the processes of an earlier daemon that were not taken over."""
        remote_processes, self._detached_processes = self._detached_processes, []
        for process in remote_processes:
            logger.info("ending a process of '%s' left by an earlier daemon", process.record.name)
            await process.stop(0)

    def _records(self) -> list[JobRecord]:
        job_records = []
        for path in self._place.glob(f"*/{RECORD}"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                record = JobRecord(**orjson.loads(path.read_bytes()))
                if record.launcher == self.name and record.job == path.parent.name:
                    job_records.append(replace(record))
        return job_records

    async def close(self) -> None:
        """End the processes of an earlier daemon that were not taken over, and close the connections."""
        await self.end_leftovers()
        if self._end_tasks:
            # wait for the cleanup after processes that have ended by themselves
            await asyncio.wait(self._end_tasks, timeout=STOP_WAIT_S)
        for task in set(self._end_tasks):
            task.cancel()
            await asyncio.wait([task])
        await self.session.close()
        await self.backend.close()
