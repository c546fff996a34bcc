"""Processes on other machines: a scheduler places them, an agent beside each speaks to the daemon. Imports aiohttp."""

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
from portico_server.subprocesses import own, run_script

logger = logging.getLogger(__name__)

AGENT_SCRIPT: Final = Path(__file__).with_name("agent.py")

NEWS_WAIT_S: Final = 2.0
"""Seconds that an agent waits for news before it answers: a node that is silent for longer is asked about."""

REQUEST_TIMEOUT_S: Final = 3.0
"""Seconds beyond that in which an agent answers."""

MIN_LEASE_S: Final = 3.0
"""Seconds between two requests to an agent, and some more."""

LOST_S: Final = 3.0
"""Seconds without an answer after which a node counts as lost."""

AVOID_S: Final = 120.0
"""Seconds in which nothing is started on a node that was lost."""

RETRY_INTERVAL_S: Final = 0.3
"""Seconds between two attempts to reach an agent."""

LOOK_INTERVAL_S: Final = 0.5
"""Seconds between two looks at a job that waits in a queue, at first."""

MAX_LOOK_INTERVAL_S: Final = 5.0
"""Seconds between two looks at a job that has waited for long."""

MAX_LOG_LINES: Final = 1_000
MAX_LINE_CHARS: Final = 65_536
"""Characters of one of them: what has no end of a line is not collected for ever."""

SILENT_S: Final = 60.0
"""Seconds for which a scheduler may be out of reach while a job waits: its controller is restarted now and then."""

STOP_WAIT_S: Final = 5.0
"""Seconds beyond the grace in which a job ends before its scheduler is asked to end it."""

MAX_REASON_CHARS: Final = 500

RECORD: Final = "job.json"
ORDER: Final = "order.json"
ADDRESS: Final = "address.json"
LOG: Final = "job.log"
"""The files in a job's folder: what a later daemon needs, what the agent is to do, where it serves, and what it and
its scheduler print.
"""

CONNECTION_ERRORS: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class JobLook:
    """What a scheduler says of a job. ``reason``: why it waits or has ended, in the scheduler's words. ``host`` and
    ``port`` are its agent's, once that runs; ``node`` is the scheduler's name of its machine. ``ends_at`` is when its
    time is over, in seconds since 1970.
    """

    state: Literal["queued", "running", "ended"]
    reason: str = ""
    host: str = ""
    port: int = 0
    node: str = ""
    ends_at: float | None = None


def agent_command(folder: Path) -> list[str]:
    """What a scheduler is to run for a job."""
    return run_script(AGENT_SCRIPT, str(folder / ORDER), python=own())


def read_address(folder: Path) -> JobLook:
    """A job that runs, with the address that its agent has written. Blocks."""
    try:
        place = orjson.loads((folder / ADDRESS).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return JobLook("running", "it starts")
    return JobLook("running", host=place["host"], port=place["port"], node=place["node"])


def last_words(log: Path) -> str:
    """The end of a log, as one line. Blocks."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join(text.split())[-MAX_REASON_CHARS:]


class JobBackend(Protocol):
    """A scheduler. Jobs are named by us; all of its methods raise `PorticoError` with the scheduler's own words."""

    name: str
    title: str
    """As messages call it."""

    async def submit(self, job: str, order: LaunchOrder, folder: Path, avoid: Sequence[str]) -> None:
        """Have ``order.json`` of ``folder`` carried out by an agent, some time, on a node that is not to be avoided."""

    async def look(self, job: str, folder: Path) -> JobLook: ...

    async def cancel(self, job: str) -> None:
        """End it, wherever it is. Nothing happens if there is none."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is remembered on disk, for a daemon that is started again."""

    job: str
    launcher: str
    name: str
    token: str
    fingerprint: str
    log: str


class RemoteProcess:
    """See `LaunchedProcess`. It is followed until it has ended."""

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
        self._ended = asyncio.Event()
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
        self._output.put_nowait(None)  # for who asks again

    def log_lines(self, count: int) -> list[str]:
        """See `LaunchedProcess`."""
        return [*self._lines, *filter(None, [self._rest])][-count:]

    def exit_description(self) -> str:
        """See `LaunchedProcess`."""
        return self._reason or describe_exit(self._code)

    def signal(self, number: signal.Signals) -> None:
        """See `LaunchedProcess`. What runs elsewhere makes room for nobody here: it is not suspended."""

    async def wait(self) -> None:
        """See `LaunchedProcess`."""
        await self._ended.wait()

    async def wait_for_log(self) -> None:
        """See `LaunchedProcess`."""

    async def stop(self, grace_s: float) -> None:
        """See `LaunchedProcess`."""
        try:
            if self._code is None:
                with contextlib.suppress(TimeoutError, *CONNECTION_ERRORS):
                    async with asyncio.timeout(grace_s + STOP_WAIT_S):
                        await self._post(f"stop?grace={grace_s:g}", b"", grace_s)
                        await self._ended.wait()
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
        """Until it has ended; then nothing of its job is left."""
        try:
            await self._take_news()
        finally:
            if self._code is None:
                self._end(-signal.SIGKILL, "was stopped")
            await self._launcher.discard(self.record)

    async def _take_news(self) -> None:
        """Take what it writes until it has ended; find out what became of it when it does not answer."""
        line = log = 0
        broken: float | None = None
        while self._code is None:
            try:
                news = await self._news(line, log)
            except (*CONNECTION_ERRORS, orjson.JSONDecodeError) as error:
                now = asyncio.get_running_loop().time()
                broken = broken or now
                if not await self._examine(now - broken, error):
                    await asyncio.sleep(RETRY_INTERVAL_S)  # nothing announces that a node is back
                continue
            broken = None
            line, log = news["next"], news["log_next"]
            for one in news["lines"]:
                self._output.put_nowait(one.encode())
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
                raise ConnectionError(f"its agent answered with status {response.status}")
            return orjson.loads(data)

    async def _examine(self, silent_s: float, error: Exception) -> bool:
        """Whether its scheduler says that it has ended, or it has been silent for too long."""
        try:
            look = await self._launcher.look(self.record)
        except PorticoError as trouble:
            look = JobLook("running", trouble.message)
        if look.state != "running":
            self._end(-signal.SIGKILL, self._launcher.describe_end(look))
        elif silent_s >= LOST_S:
            words = str(error) or type(error).__name__
            self._launcher.avoid(self.node)
            self._end(-signal.SIGKILL, f"was lost: its node does not answer any more ({words})")
        return self._code is not None

    def _take_log(self, text: str) -> None:
        *complete_lines, self._rest = split_log(self._rest, text)
        self._lines.extend(complete_lines)
        if self.on_log is not None:
            self.on_log(text)

    def _end(self, code: int, reason: str) -> None:
        self._code, self._reason = code, reason
        self._output.put_nowait(None)
        self._ended.set()


def split_log(remainder: str, text: str) -> list[str]:
    """The lines of a log with what came behind ``remainder``, the last of which may not have ended; of each its end."""
    return [line[-MAX_LINE_CHARS:] for line in (remainder + text).split("\n")]


def _append(path: Path, text: str) -> None:
    """A full disk ends no engine. Blocks."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        full = path.exists() and path.stat().st_size > LOG_BYTES
        with path.open("wb" if full else "ab") as file:
            file.write(text.encode())


class RemoteLauncher:
    """Starts processes through a scheduler. ``place`` is a folder that all nodes see; ``lease_s`` is how long a process
    survives its daemon, at least `MIN_LEASE_S`; ``queue_s`` is how long a job may wait in a queue. See `Launcher`.
    """

    here = False

    def __init__(self, backend: JobBackend, place: Path, *, lease_s: float, queue_s: float) -> None:
        self.backend = backend
        self.name = backend.name
        self._place = place
        self._lease_s = max(lease_s, MIN_LEASE_S)
        self._queue_s = queue_s
        self._left: list[RemoteProcess] = []
        self._lost: dict[str, float] = {}
        self._jobs: dict[str, ClusterJob] = {}
        self._followed: set[asyncio.Task[None]] = set()
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def look(self, record: JobRecord) -> JobLook:
        """What its scheduler says of a job. Raises `PorticoError`."""
        return await self.backend.look(record.job, self.folder(record))

    def jobs(self) -> Sequence[ClusterJob]:
        """See `Launcher`."""
        return list(self._jobs.values())

    def _note(self, record: JobRecord, look: JobLook) -> None:
        """Keep what is known of a job for `jobs`."""
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
        """As the second half of a sentence."""
        return f"was ended by {self.backend.title} ({look.reason or 'without a reason'})"

    def folder(self, record: JobRecord) -> Path:
        """Where the job's files are."""
        return self._place / record.job

    def follow(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that `close` waits for."""
        task = asyncio.create_task(work, name=name)
        self._followed.add(task)
        task.add_done_callback(self._followed.discard)
        return task

    def avoid(self, node: str) -> None:
        """Start nothing on a node that was just lost: its scheduler may not know that yet."""
        self._lost[node] = time.monotonic() + AVOID_S

    def _avoided(self) -> Sequence[str]:
        now = time.monotonic()
        self._lost = {node: until for node, until in self._lost.items() if node and until > now}
        return sorted(self._lost)

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """See `Launcher`. One of an earlier daemon that does the same is taken over."""
        for remote_process in self._left:
            if (
                order.fingerprint
                and remote_process.record.fingerprint == order.fingerprint
                and remote_process.returncode is None
            ):
                self._left.remove(remote_process)
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
        """The record first: from then on a later daemon knows of the job."""
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
        """Until its agent runs. Raises `Unavailable` with the scheduler's reason."""
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
                    f"The job of '{order.name}' at {title} ended before it began to work: "
                    f"{look.reason or 'without a reason'}.",
                    code="launch_failed",
                )
            if look.reason != reason and order.on_wait is not None:
                reason = look.reason
                order.on_wait(f"waits at {title}{f' ({reason})' if reason else ''}")
            if loop.time() - start_time > self._queue_s:
                raise Unavailable(
                    f"The job of '{order.name}' was withdrawn: it waited at {title} for {self._queue_s:g} s "
                    f"({look.reason or look.state}). 'launcher_queue_timeout' says how long it may wait.",
                    code="queue_timeout",
                )
            await asyncio.sleep(pause)  # a scheduler announces nothing
            pause = min(MAX_LOOK_INTERVAL_S, pause * 1.2)

    async def discard(self, record: JobRecord) -> None:
        """End the job and forget it."""
        self._jobs.pop(record.job, None)
        try:
            await self.backend.cancel(record.job)
        except PorticoError as error:  # what is left ends by itself once nobody asks for it
            logger.warning("a job of %s could not be ended: %s", record.name, error.message)
        await pools.MODELS.run(shutil.rmtree, self.folder(record), ignore_errors=True)

    async def adopt(self) -> Sequence[str]:
        """Follow what an earlier daemon left running, so that a launch of the same takes it over; the names. What
        cannot be taken over is ended.
        """
        for record in await pools.MODELS.run(self._records):
            try:
                look = await self.look(record)
            except PorticoError as error:
                logger.warning("a job of %s is not known: %s", record.name, error.message)
                look = JobLook("ended")
            if record.fingerprint and look.state == "running" and look.port:
                self._note(record, look)
                self._left.append(RemoteProcess(self, record, look, is_adopted=True))
            else:
                await self.discard(record)
        return [remote_process.record.name for remote_process in self._left]

    async def end_leftovers(self) -> None:
        """End those that nobody has taken over."""
        remote_processes, self._left = self._left, []
        for process in remote_processes:
            logger.info("a process of '%s' that an earlier daemon left is ended", process.record.name)
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
        """End what nobody has taken over, and the connections."""
        await self.end_leftovers()
        if self._followed:
            await asyncio.wait(self._followed, timeout=STOP_WAIT_S)  # those that ended by themselves
        for task in set(self._followed):
            task.cancel()
            await asyncio.wait([task])
        await self.session.close()
        await self.backend.close()
