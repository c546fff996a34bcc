"""The daemon, from its first line of output to the end of its last process."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from portico import _build
from portico.schemas.configuration import Problem
from portico_server import __version__, changed_files, logs
from portico_server.api.gateway import Gateway
from portico_server.config import Configuration
from portico_server.configuration_file import hold_lock
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, PorticoError
from portico_server.core.principal import SYSTEM
from portico_server.db.database import Database
from portico_server.db.schema import HEAD
from portico_server.home import PRIVATE_UMASK_BITS, Home
from portico_server.http.limits import raise_descriptor_limit
from portico_server.http.server import HttpServer, listen, new_loop, reach
from portico_server.models.known_models import recommendation_for
from portico_server.models.sources import MISSING_FILE_CODE
from portico_server.models.spec import ModelSpec
from portico_server.services import Services
from portico_server.settings import LoadedSettings

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 5
"""Seconds within which calls in progress must finish when the daemon stops."""

END_REPORT_S = 15.0
"""Interval, in seconds, at which a pending shutdown logs what it is waiting for."""

GC_OBJECTS_THRESHOLD = 10_000
"""Number of new objects after which the garbage collector runs."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """Command-line options for starting the daemon, in addition to the settings."""

    docs: tuple[Path, ...] = ()
    model: str = ""
    parent_watch: bool = False
    quiet: bool = False
    file: Path | None = None
    configuration: Configuration | None = None
    """The contents of ``file``."""
    within: bool = False
    """True if the daemon runs inside another program. That program owns the signals, the standard output and the
    garbage collector.
    """


def main(loaded_settings: LoadedSettings, options: StartOptions) -> int:
    """Serve until SIGINT, SIGTERM, `portico down` or the parent's end. Print one JSON line once the daemon serves.

    Raise `PorticoError` if the daemon cannot start: the home folder or the port is in use, the daemon would listen
    beyond loopback without a key, or the database is damaged.
    """
    settings = loaded_settings.settings
    raise_descriptor_limit()
    os.umask(PRIVATE_UMASK_BITS)
    if options.parent_watch and not _is_pipe(sys.stdin.fileno()):
        raise InvalidRequest(
            "--parent-watch requires a pipe as standard input, because it waits for the end of the pipe."
        )
    for folder in options.docs:
        if not folder.is_dir():
            problem = f"{folder} is a file" if folder.exists() else f"The folder {folder} does not exist"
            raise InvalidRequest(f"{problem}. Pass an existing folder to --docs.", param="docs")
    with Home(settings.home) as home, listen(settings) as listener:
        logs.configure(settings.logs, settings.log_level, settings.log_format, quiet=options.quiet)
        threading.Thread(target=_log_version, name="version", daemon=True).start()
        database = Database(settings.database) if settings.database else Database.at(settings.database_path)
        try:
            database.prepare()
            if not options.within:
                changed_files.watch()
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(Daemon(loaded_settings, options, database, listener).serve(home))
        finally:
            database.close()
    return 0


class Daemon:
    """All parts of one daemon, from its first line of output to the last process that it stops."""

    def __init__(
        self, settings: LoadedSettings, options: StartOptions, database: Database, listener: socket.socket
    ) -> None:
        self._settings = settings.settings
        self._options = options
        self._configuration = options.configuration or Configuration()
        self._listener = listener
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Event()
        self.serving = threading.Event()
        """Set once the daemon answers requests. Code that started the daemon from another thread waits for this
        event.
        """
        self.services = Services(settings, database, reach(listener), self._stopping.set)
        self.services.docs = options.docs
        # Includes objects that are unavailable now: nothing else may take their names before they become
        # available.
        self.services.registry.claims.reserve(self._configuration.names())
        self.services.features.set_entries(self._configuration.entries)
        self.services.configuration_file.start(options.file, self._configuration)
        self.gateway = Gateway(self.services, self.services.auth)

    async def serve(self, home: Home) -> None:
        """Serve until the last connection is closed."""
        loop = asyncio.get_running_loop()
        for number in () if self._options.within else (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        if not self._options.within and not _is_terminal():
            loop.add_signal_handler(signal.SIGHUP, self._reloading.set)
        if self._options.parent_watch:
            await loop.connect_read_pipe(lambda: _UntilEnd(self._stopping), sys.stdin)
        server = HttpServer(self.gateway, self._settings, grace=SHUTDOWN_TIMEOUT_S)
        background: dict[str, asyncio.Task[None]] = {}
        insisting: asyncio.Task[None] | None = None
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(server.serve([self._listener]), name="uvicorn")
                await server.serving.wait()
                home.serving(self.services.url)
                if not self._options.within:
                    start_line = {
                        "ready": True,
                        "url": self.services.url,
                        "home": str(home.path),
                        "pid": os.getpid(),
                    }
                    upgrade = self.services.database.upgrade
                    _print_line(start_line if upgrade is None else {**start_line, "upgrade": upgrade})
                self.serving.set()
                work = {
                    **self.services.background(),
                    "gateway": self.gateway.run(),
                    "warm": self._import_and_freeze(),
                    "better model": self._fetch_better(),
                    "configuration": self._reload(),
                }
                background |= {name: tasks.create_task(part, name=name) for name, part in work.items()}
                await self._stopping.wait()
                home.leaving()
                server.should_exit = True
                for name in self.services.claiming_tasks():
                    background[name].cancel()
                await server.stopped_accepting.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                        await server.connections.drain()
                        await self.services.runner.drain()
                for task in background.values():
                    task.cancel()
                insisting = asyncio.create_task(_insist_on_end(background.values()), name="end")
                if not self._options.within:  # threads are awaited after the last asyncio task
                    # standard error may not exist
                    with contextlib.suppress(OSError, ValueError, RuntimeError):
                        faulthandler.dump_traceback_later(2 * END_REPORT_S)
                await self.services.runner.close()
                await serving
        finally:
            await self.services.close()
            if insisting is not None:
                insisting.cancel()

    def stop(self) -> None:
        """Stop the daemon. Must be called on the daemon's event loop."""
        self._stopping.set()

    async def _import_and_freeze(self) -> None:
        """Import the modules that the first call needs, then exclude all permanent objects from garbage collection.

        The modules consist of some hundred thousand objects. Scanning them would delay requests by 0.1 s, about once
        per second under load.
        """
        if await self.services.store_apps.cards(SYSTEM, self.services.store_apps.kinds):
            await self.services.store_apps.load()
        await self.services.models.factory.load_transport()
        await self.gateway.adapters.furnished.wait()
        self._freeze()
        await self.gateway.adapters.has_mcp.wait()
        self._freeze()

    def _freeze(self) -> None:
        if not self._options.within:
            gc.unfreeze()  # so that garbage from the first imports is collected once
            gc.collect()
            gc.freeze()
            # Concurrent calls allocate thousands of objects. With Python's default threshold of 700 new
            # objects, garbage collection would take a tenth of the time of each call.
            gc.set_threshold(GC_OBJECTS_THRESHOLD, *gc.get_threshold()[1:])

    async def _fetch_better(self) -> None:
        """Start to fetch the best model for this machine, if the start options request it."""
        if self._options.model == "auto" and self.services.models.better.tiny_answers:
            try:
                await self.services.models.better.accept(SYSTEM)
            except Conflict as error:
                logger.info("%s", error.message)

    async def _reload(self) -> None:
        """Apply the configuration file again after each SIGHUP, until cancelled."""
        while True:
            await self._reloading.wait()
            self._reloading.clear()
            await self.services.configuration_file.apply_and_log(SYSTEM)

    async def _prepare(self) -> None:
        """Set up what the first request needs: keys, names and stores, and apply the start options."""
        await self.services.auth.start(self._configuration.keys, self._configuration.roles)
        await self.services.questions.start(is_alone=not self._settings.database)
        await self.services.models.start()
        await self._add_models()
        await self.services.prompts.start()
        await self._choose_model()
        await self.services.files.start()
        await self.services.artifacts.start()
        self._report_runs(*await self.services.stores.start())
        # Daemons on the same database may start at the same time with the same configuration.
        advice = "Stop the other daemon, or start this daemon after the other daemon serves."
        async with hold_lock(self.services.database, advice):
            await self.services.features.begin(self._configuration.entries)
            await self.services.refresh_canaries()
        await self.services.features.clean_up()
        await self._fetch_default()

    async def _add_models(self) -> None:
        """Add the models of the configuration. If a model fails, the status lists it and the other models are
        served.
        """
        wrong: list[tuple[ModelSpec, str, PorticoError]] = []
        for spec in self._configuration.models:
            try:
                await self.services.models.add(spec, keep=False)
            except PorticoError as error:
                if error.status >= 500:
                    raise
                at = self._configuration.places.get(spec.name, "models")
                place = f"{at}.{error.param}" if error.param else at
                # the file may still appear: until then, each call reports the error
                if error.code == MISSING_FILE_CODE:
                    await self.services.models.add(spec, keep=False, is_here=False)
                wrong.append((spec, place, error))
        aliases = self.services.registry.aliases
        for spec, place, reason in wrong:
            alias_meanings = [f"'{name}' means '{aliases[name]}'" for name in spec.aliases if name in aliases]
            meanwhile = (
                f" Until it is fixed, {' and '.join(alias_meanings)}."
                if alias_meanings and self.services.models.spec(spec.name) is None
                else ""
            )
            self._note_failed_model(
                Problem(spec.name, place, reason.message + meanwhile),
                file=reason.code == MISSING_FILE_CODE,
            )
        for problem in self._configuration.problems:
            self._note_failed_model(problem)

    def _note_failed_model(self, problem: Problem, *, file: bool = False) -> None:
        """Record a failed model until it is added or removed. If its ``file`` is missing, record it only until the
        file appears.
        """
        models = self.services.models
        model_spec = models.spec(problem.name)

        async def holds() -> bool:
            if models.spec(problem.name) is not model_spec:
                return False
            return not file or model_spec is None or await models.lacks_file(model_spec)

        self.services.problems.add(problem, holds)

    async def _choose_model(self) -> None:
        source = self._options.model
        if source == "auto":
            return  # the tiny model answers until the better model is ready
        if source == "tiny":
            await self.services.models.add(self.services.models.better.tiny, keep=False)
            return
        if source:
            source = recommendation_for(source) or source
            name = source.partition("://")[2].rstrip("/").rpartition("/")[2].partition("@")[0]
            name = name.rpartition("#")[2] or source
            await self.services.models.add(
                ModelSpec(name=name, source=source, aliases=("default",)), keep=False
            )

    def _report_runs(self, *runs: str) -> None:
        self.services.startup.extend(run for run in runs if run not in self.services.startup)

    async def _fetch_default(self) -> None:
        """Fetch the file of the default chat model in the background if it is missing."""
        missing = self.services.models.downloads.missing("default")
        if missing and not self._settings.offline:
            self._report_runs(await self.services.models.downloads.pull(missing, SYSTEM))


class _UntilEnd(asyncio.Protocol):
    """Sets an event when standard input closes, which means that the parent has exited."""

    def __init__(self, event: asyncio.Event) -> None:
        self._end_event = event

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_event.set()


def _is_pipe(handle: int) -> bool:
    """Return whether libuv can wait for the end of standard input; it aborts the process for anything but a pipe."""
    mode = os.fstat(handle).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _is_terminal() -> bool:
    """Return whether standard input is a terminal, which sends SIGHUP when it closes."""
    return sys.stdin is not None and sys.stdin.isatty()


def _log_version() -> None:
    """Log which build starts. In a checkout this runs git, so it has its own thread."""
    logger.info("Portico %s, schema %s", _build.version(), HEAD)


def _print_line(line: dict[str, object]) -> None:
    """Print one JSON line for the process that started the daemon."""
    print(json.dumps({**line, "version": __version__}, ensure_ascii=False), flush=True)


async def _insist_on_end(background: Collection[asyncio.Task[None]]) -> None:
    """Repeatedly log what the shutdown is waiting for, and cancel ``background`` again, in case a task swallowed its
    cancellation.
    """
    while True:
        await asyncio.sleep(END_REPORT_S)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            logger.warning("shutdown is waiting for '%s' at %s", task.get_name(), _place(task))
        for task in background:
            task.cancel()


def _place(task: asyncio.Task[Any]) -> str:
    """Return the file and line at which a task waits."""
    awaitable: Any = task.get_coro()
    while (further := getattr(awaitable, "cr_await", None)) is not None and hasattr(further, "cr_frame"):
        awaitable = further
    frame = getattr(awaitable, "cr_frame", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else repr(awaitable)
