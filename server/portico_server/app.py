"""The composition root: the only place that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from portico_server import __version__, logs
from portico_server.api.auth import Auth
from portico_server.api.door import Door
from portico_server.api.parts import Parts
from portico_server.apps.agent.app import Agents
from portico_server.apps.agent.sessions import Sessions
from portico_server.apps.ask import StoreApps
from portico_server.apps.deployed import Apps, Kind
from portico_server.apps.flow.flows import Flows
from portico_server.apps.prompts.library import Library
from portico_server.config import Configuration
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.principal import SYSTEM
from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.engines.models import Models
from portico_server.engines.spec import ModelSpec
from portico_server.finetune.jobs import Jobs
from portico_server.finetune.local import LocalTrainer
from portico_server.finetune.rehearsal import Rehearsal
from portico_server.home import Home
from portico_server.knowledge import filter as filters
from portico_server.knowledge.facts import StoredFacts
from portico_server.knowledge.files import Files
from portico_server.knowledge.stores import Stores
from portico_server.reconcile import Reconciler
from portico_server.runs.artifacts import Artifacts
from portico_server.runs.questions import Questions
from portico_server.runs.retention import Retention
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.telemetry import Telemetry
from portico_server.runs.usage import UsageLog
from portico_server.settings import MB, Loaded, Settings
from portico_server.tools.added.added import AddedTools
from portico_server.tools.added.packages import FunctionPackages
from portico_server.tools.approval import Approval, rule_of
from portico_server.tools.builtin import outward
from portico_server.tools.code import CodeTools
from portico_server.tools.fetch.address import Policy
from portico_server.tools.fetch.fetcher import OutwardFetcher
from portico_server.tools.mcp_host.host import McpHost
from portico_server.tools.served import Served
from portico_server.tools.toolbox import Toolbox

logger = logging.getLogger(__name__)

GRACE = 5
"""Seconds that calls in progress are given when the daemon stops."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks of a start, beyond the settings."""

    docs: tuple[Path, ...] = ()
    model: str = ""
    parent_watch: bool = False
    quiet: bool = False
    configuration: Configuration | None = None
    within: bool = False
    """It runs within another program, which has the signals, the standard output and the collector of garbage."""


def main(loaded: Loaded, wishes: Wishes) -> int:
    """Serve until SIGINT, SIGTERM, `portico down` or the parent's end. Prints one JSON line when it serves.

    Raises `PorticoError` if it cannot start: home in use, port in use, open bind without a key, damaged database.
    """
    settings = loaded.settings
    for folder in wishes.docs:
        if not folder.is_dir():
            raise InvalidRequest(
                f"There is no folder {folder}. Give --docs an existing folder.", param="docs"
            )
    with Home(settings.home) as home, listen(settings) as listener:
        logs.configure(settings.logs, settings.log_level, settings.log_format, quiet=wishes.quiet)
        database = Database(settings.database) if settings.database else Database.at(settings.database_path)
        try:
            database.prepare()
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(Daemon(loaded, wishes, database, listener).serve(home))
        finally:
            database.close()
    return 0


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop that a daemon runs on."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # the wheel exists for this platform alone

    return uvloop.new_event_loop()


@contextlib.contextmanager
def listen(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, bound before anything else is begun."""
    if settings.port > 65535:
        raise InvalidRequest(f"{settings.port} is not a port; ports end at 65535.", param="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"'{settings.host}' is not an address of this machine.", param="host") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except (OSError, OverflowError) as error:
            raise _cannot_bind(settings, error) from error
        yield listener


def _cannot_bind(settings: Settings, error: Exception) -> Conflict | InvalidRequest:
    where = f"{settings.host}:{settings.port}"
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return Conflict(
                f"Port {settings.port} on {settings.host} is in use by another program. Choose another one with "
                "--port or PORTICO_PORT (0 takes any free one).",
                code="port_in_use",
                param="port",
            )
        case errno.EACCES:
            return Conflict(f"This user may not listen on {where}; choose a port above 1023.", param="port")
        case errno.EADDRNOTAVAIL:
            return InvalidRequest(f"{settings.host} is not an address of this machine.", param="host")
    return InvalidRequest(f"Cannot listen on {where}: {error}.", param="port")


class _Server(uvicorn.Server):
    """uvicorn, with its start as an event and the signals left to us."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Daemon:
    """All parts of one daemon, from the first line it prints to the last process it ends."""

    def __init__(self, loaded: Loaded, wishes: Wishes, database: Database, listener: socket.socket) -> None:
        settings = loaded.settings
        self._settings = settings
        self._wishes = wishes
        self._configuration = wishes.configuration or Configuration()
        self._database = database
        self._listener = listener
        self._stopping = asyncio.Event()
        self.serving = threading.Event()
        """Set once requests are answered; for who started it from another thread."""
        self.registry = Registry()
        self.usage = UsageLog(database)
        self.questions = Questions(database, approvers="admin" if settings.approvals == "admin" else "owner")
        self.runner = Runner(
            self.registry, self.usage, timeout=settings.request_timeout, questions=self.questions
        )
        if settings.otel_endpoint:
            self.runner.telemetry = Telemetry(settings.otel_endpoint)
        self.scheduler = Scheduler(database, self.runner)
        self.models = Models(database, self.registry, self.runner, self.scheduler, settings)
        self.files = Files(database, settings.blobs, max_bytes=settings.max_file_mb * MB)
        self.stores = Stores(
            database,
            self.registry,
            self.runner,
            self.scheduler,
            self.files,
            OutwardFetcher(Policy.of(settings.tool_hosts)),
            settings,
        )
        self.auth = Auth(database, settings, self.runner.quotas)
        self.registry.add_source(self.stores)
        self.registry.add_source(StoreApps(self.registry))
        self.artifacts = Artifacts(database, settings.artifacts)
        self.toolbox = Toolbox(
            self.registry,
            self.artifacts,
            Approval(rule_of(settings.tool_approval, "settings"), settings.approval_timeout),
        )
        self.toolbox.register()
        self.retention = Retention(
            database,
            self.artifacts,
            self.files,
            runs_days=settings.keep_runs_days,
            usage_days=settings.keep_usage_days,
            sessions_days=settings.keep_sessions_days,
        )
        self.code = CodeTools(settings, self.artifacts)
        for tool in (*outward(settings), *self.code.tools):
            self.toolbox.add(tool)
        self.mcp = McpHost(self.toolbox, database, self.artifacts, settings.logs)
        self.served = Served(self.toolbox)
        packages = FunctionPackages(
            settings.environments, index=settings.pypi_index, offline=settings.offline
        )
        self.added = AddedTools(self.toolbox, database, Policy.of(settings.tool_hosts), packages)
        self.prompts = Library(database)
        self.flows = Flows(
            database, self.registry, self.runner, self.scheduler, self.code.light, filters.parse
        )
        self.apps = Apps(database, self.registry, self.runner.app_quotas)
        self.apps.kind("flow", Kind(self.flows.check, self.flows.build))
        self.agents = Agents(
            *(self.registry, self.runner, self.code.light, Sessions(database)),
            StoredFacts(self.stores, self.files),
        )
        self.apps.kind("agent", Kind(self.agents.check, self.agents.build))
        trainer = LocalTrainer(
            self.models.workshop, self.code.light, settings.logs, nice=settings.finetune_nice
        )
        self.tuning = Jobs(
            database,
            self.registry,
            self.runner,
            self.scheduler,
            self.models.bases,
            self.files,
            lambda base: Rehearsal() if base.format == "script" else trainer,
            settings.home / "finetune",
        )
        self.reconciler = Reconciler(self.models, self.stores, self.added, self.mcp, self.prompts, self.apps)
        self.scheduler.principals = self.auth.principal
        host, port = listener.getsockname()[:2]
        anywhere = host in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
        shown = "127.0.0.1" if anywhere else host
        self.parts = Parts(
            loaded=loaded,
            database=database,
            registry=self.registry,
            runner=self.runner,
            scheduler=self.scheduler,
            questions=self.questions,
            models=self.models,
            files=self.files,
            stores=self.stores,
            artifacts=self.artifacts,
            flows=self.flows,
            apps=self.apps,
            reconciler=self.reconciler,
            agents=self.agents,
            tuning=self.tuning,
            retention=self.retention,
            mcp=self.mcp,
            added=self.added,
            served=self.served,
            prompts=self.prompts,
            startup=[],
            url=f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}",
            started_at=time.time(),
            stop=self._stopping.set,
        )
        self.door = Door(self.parts, self.auth)

    async def serve(self, home: Home) -> None:
        """Everything from the open door to the closed one."""
        loop = asyncio.get_running_loop()
        for number in () if self._wishes.within else (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        if self._wishes.parent_watch:
            await loop.connect_read_pipe(lambda: _UntilEnd(self._stopping), sys.stdin)
        server = _Server(
            uvicorn.Config(
                self.door,
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(server.serve([self._listener]), name="uvicorn")
                await server.serving.wait()
                home.serving(self.parts.url)
                if not self._wishes.within:
                    _say({"ready": True, "url": self.parts.url, "home": str(home.path), "pid": os.getpid()})
                self.serving.set()
                background = [
                    tasks.create_task(self.usage.run(), name="usage"),
                    tasks.create_task(
                        self.scheduler.run(alone=not self._settings.database), name="scheduler"
                    ),
                    tasks.create_task(
                        self.questions.run(alone=not self._settings.database), name="questions"
                    ),
                    tasks.create_task(self.door.run(), name="door"),
                    tasks.create_task(self._warm(), name="warm"),
                    tasks.create_task(self.mcp.run(), name="mcp servers"),
                    tasks.create_task(self.retention.run(), name="retention"),
                    tasks.create_task(self.added.run(), name="added tools"),
                    tasks.create_task(self.served.run(), name="served functions"),
                    tasks.create_task(self.apps.run(), name="apps that wait"),
                ]
                await self._stopping.wait()
                server.should_exit = True
                for task in background:
                    task.cancel()
                await self.runner.close()
                await serving
        finally:
            await self._close()

    def stop(self) -> None:
        """End it, on its own event loop."""
        self._stopping.set()

    async def _warm(self) -> None:
        """Import what the first call needs, then take all that stays out of the garbage collector's sight.

        The modules are some hundred thousand objects: walking them would hold up every request for 0.1 s, once a
        second under load.
        """
        await self.models.warm()
        await self.door.furnished.wait()
        if not self._wishes.within:
            gc.collect()
            gc.freeze()

    async def _prepare(self) -> None:
        """What must stand before the first request: keys, names, stores, and what the start was asked for."""
        await self.auth.start(self._configuration.keys)
        await self.questions.start(alone=not self._settings.database)
        await self.models.start()
        for spec in self._configuration.models:
            await self.models.add(spec, keep=False)
        await self.mcp.start(self._configuration.mcp)
        await self.added.start(self._configuration.tools)
        await self.prompts.start(self._configuration.prompts)
        await self._choose_model()
        await self.files.start()
        self._begun(*await self.stores.start())
        await self._apply_stores()
        await self.apps.start()
        await self.apps.given(self._configuration.apps)
        await self.tuning.start()
        await self._fetch_default()

    async def _choose_model(self) -> None:
        source = self._wishes.model
        if source == "auto":
            better = await self.models.better()
            source = better.source if better else ""
        if source:
            name = source.partition("://")[2].rstrip("/").rpartition("/")[2].partition("@")[0]
            name = name.rpartition("#")[2] or source
            await self.models.add(ModelSpec(name=name, source=source, aliases=("default",)), keep=False)

    async def _apply_stores(self) -> None:
        """The stores of the configuration, and a store for each folder of documents."""
        for spec in self._configuration.stores:
            self._begun(*await self.reconciler.store(spec))
        for given in self._wishes.docs:
            folder = given.resolve()
            name = await self._name_for(folder)
            self._begun(await self.stores.sync(await self.stores.follow(name, folder, SYSTEM)))

    async def _name_for(self, folder: Path) -> str:
        """A folder's own name, or its parent's before it if that store mirrors another folder which still exists."""
        name = folder.name or "root"
        for row in await self.stores.list(SYSTEM):
            if row.name == name and _is_another(row.folder, folder):
                return f"{folder.parent.name}-{name}"
        return name

    def _begun(self, *runs: str) -> None:
        self.parts.startup.extend(run for run in runs if run not in self.parts.startup)

    async def _fetch_default(self) -> None:
        """Fetch the file of the default chat model in the background, if it is not here yet."""
        missing = self.models.missing("default")
        if missing and not self._settings.offline:
            self._begun(await self.models.pull(missing, SYSTEM))

    async def _close(self) -> None:
        closing = [self.code.close, self.stores.close, self.models.close, self.usage.flush]
        if self.runner.telemetry is not None:
            closing.append(self.runner.telemetry.close)
        for close in closing:
            try:
                await close()
            except Exception:
                logger.exception("an orderly end failed; going on with the rest")


class _UntilEnd(asyncio.Protocol):
    """Sets an event when standard input closes: the parent is gone."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


def _is_another(known: str | None, folder: Path) -> bool:
    """Whether a store's folder is there and is not this one."""
    return bool(known) and known != str(folder) and Path(str(known)).is_dir()


def _say(line: dict[str, object]) -> None:
    """One JSON line for whoever started us."""
    print(json.dumps({**line, "version": __version__}, ensure_ascii=False), flush=True)
