"""A complete daemon inside another program, for the duration of a ``with`` block, so that the program can test what it
deploys.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portico_server import config
from portico_server.app import Daemon, StartOptions
from portico_server.core.errors import Unavailable
from portico_server.db.database import Database
from portico_server.home import Home
from portico_server.http.server import listen, new_loop
from portico_server.settings import load

START_TIMEOUT_S = 60.0
"""Maximum seconds until the daemon serves, and maximum seconds until it has stopped."""


@contextmanager
def embedded(configuration: Mapping[str, Any], home: Path | None = None) -> Iterator[str]:
    """Yield the URL of a daemon that runs on a free local port, in a thread of this process.

    ``configuration`` is what a configuration file contains. ``home`` is the folder of the daemon's data; the default
    is a temporary folder. Portico's environment variables have no effect. Raises `PorticoError` if the daemon cannot
    start.
    """
    with tempfile.TemporaryDirectory(prefix="portico-", ignore_cleanup_errors=True) as folder:
        given_configuration = config.parse(dict(configuration), Path.cwd(), None)
        flags = {"home": str(home or folder), "port": 0, "offline": True}
        settings = load(flags=flags, environment={}, file=given_configuration.settings)
        with Home(settings.settings.home) as held_home, listen(settings.settings) as listener:
            database = Database.at(settings.settings.database_path)
            try:
                database.prepare()
                daemon = Daemon(
                    settings,
                    StartOptions(quiet=True, configuration=given_configuration, within=True),
                    database,
                    listener,
                )
                with _serving(daemon, held_home):
                    yield daemon.services.url
            finally:
                database.close()


@contextmanager
def _serving(daemon: Daemon, home: Home) -> Iterator[None]:
    """Run the daemon in a thread with its own event loop."""
    errors: list[BaseException | None] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await daemon.serve(home)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            errors.append(error)
        finally:
            daemon.serving.set()

    thread = threading.Thread(target=work, name="portico")
    thread.start()
    try:
        if not daemon.serving.wait(START_TIMEOUT_S):
            raise Unavailable(f"The daemon did not start serving within {START_TIMEOUT_S:g} s.")
        if errors and errors[0] is not None:
            raise errors[0]
        yield
    finally:
        if loops and thread.is_alive():
            loops[0].call_soon_threadsafe(daemon.stop)
        thread.join(START_TIMEOUT_S)
