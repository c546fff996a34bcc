"""The gateway and every protocol adapter, served over HTTP in this process, with scripted models."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from portico.wire import Usage
from portico_server.api.auth.service import Auth
from portico_server.api.gateway import Gateway
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import Request, Result
from portico_server.core.roles import Role
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.features.training.fake_trainer import FakeTrainer
from portico_server.http.server import HttpServer
from portico_server.services import Overrides, Services
from portico_server.settings import load

ALL = frozenset({"chat", "completions", "embeddings"})


class RelayModel:
    """A model on the hot path that answers with ``chunks`` and fails with ``error``, either first or after the chunks.

    With ``hold`` it waits for that event after its chunks. ``left`` is set when the answer is closed.
    """

    def __init__(
        self,
        name: str,
        *chunks: bytes,
        error: PorticoError | None = None,
        hold: asyncio.Event | None = None,
        capabilities: frozenset[str] = ALL,
        **card: Any,
    ) -> None:
        self.card = Card(name, "model", capabilities=capabilities, **card)
        self.asked: list[Relay] = []
        self.began = asyncio.Event()
        self.left = asyncio.Event()
        self._chunks = chunks
        self._error = error
        self._hold = hold

    async def call(self, request: Request, context: Context) -> Result:
        raise AssertionError("the face should have relayed")

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        self.asked.append(request)
        if self._error is not None and not self._chunks:
            raise self._error
        kind = "text/event-stream" if request.stream else "application/json"
        return RelayResponse(kind, self._answer(), Usage(3, 2))

    async def _answer(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self._chunks:
                yield chunk
            self.began.set()
            if self._hold is not None:
                await self._hold.wait()
            if self._error is not None:
                yield b'data: {"error":{"message":"%s"}}\n\n' % self._error.message.encode()
                raise self._error
        finally:
            self.left.set()


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server: its address, its parts and a client that points at it."""

    url: str
    services: Services
    auth: Auth
    client: httpx.AsyncClient
    server: HttpServer
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, *servables: Any) -> None:
        for servable in servables:
            self.services.registry.add(servable)


def listening(port: int = 0) -> socket.socket:
    """Return a listener that already accepts connections, so callers need not wait.

    The socket names its protocol, because asyncio sends small writes immediately only on such sockets. On others each
    answer is delayed by 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


@asynccontextmanager
async def api_server(
    folder: Path,
    *,
    given: Sequence[Any] = (),
    roles: Sequence[Role] = (),
    wrap: Callable[[Any], Any] = lambda app: app,
    **settings: Any,
) -> AsyncIterator[ApiServer]:
    """Serve for the duration of a ``with`` block.

    ``settings`` are passed as flags. ``given`` (keys) and ``roles`` are passed as if read from a file.
    """
    configuration = load(flags={"home": str(folder), **settings}, environment={})
    database = Database.at(configuration.settings.database_path)
    database.prepare()
    listener = listening()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop_event = asyncio.Event()
    services = Services(
        configuration, database, url, stop_event.set, Overrides(trainer=lambda _base: FakeTrainer())
    )
    gateway = Gateway(services, services.auth)
    server = HttpServer(wrap(gateway), configuration.settings, grace=1)
    try:
        await services.auth.start(given, roles)
        tasks = [
            asyncio.create_task(work)
            for work in (server.serve([listener]), gateway.run(), *services.background().values())
        ]

        def ended_by_itself(task: asyncio.Task[None]) -> None:
            """Stop the server if a part has failed, so that callers waiting for that part fail now."""
            if not task.cancelled() and task.exception() is not None:
                server.should_exit = True

        for task in tasks:
            task.add_done_callback(ended_by_itself)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                yield ApiServer(url, services, services.auth, client, server, stop_event)
        finally:
            server.should_exit = True
            for task in tasks[1:]:
                task.cancel()
            completed_tasks, _ = await asyncio.wait(tasks)
            await services.runner.close()
            await services.close()
            if errors := [
                error for task in completed_tasks if not task.cancelled() and (error := task.exception())
            ]:
                raise BaseExceptionGroup("parts of the daemon ended by themselves", errors)
    finally:
        listener.close()
        database.close()
