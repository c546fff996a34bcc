"""The context of agent calls: the daemon that runs them, the session to continue, and the listener for their events."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from portico._transport import Address
from portico.client import AsyncClient, Client
from portico.wire import Event, StepFinished, StepStarted

T = TypeVar("T")


class Heard(NamedTuple):
    """An event, and the path of its agent in the tree (``agent``; empty for the agent that was called).

    Example::

        from portico.agent import Agent

        for item in Agent("default", name="clerk").stream("Good morning"):
            print(item.agent, item.event)
    """

    agent: str
    event: Event


class DaemonClients:
    """The clients for a daemon: one for blocking code, and one for each event loop that requests it.

    The blocking client is closed when the process exits, and each asyncio client when its loop ends.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._blocking: Client | None = None
        self._loops: dict[
            asyncio.AbstractEventLoop, tuple[AsyncGenerator[AsyncClient, None], AsyncClient]
        ] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, client: Client | AsyncClient | None) -> DaemonClients:
        """Return the clients for the daemon that ``client`` uses. If ``client`` is ``None``, use the daemon that
        `Client` uses by default.
        """
        address = Address.of() if client is None else client._transport.address
        with _DAEMONS_LOCK:
            daemon = _DAEMONS.setdefault(address, cls(address))
        return daemon if client is None else _GivenClient(daemon, client)

    @property
    def client(self) -> Client:
        """The client for blocking code; it is thread-safe."""
        with self._lock:
            if self._blocking is None:
                self._blocking = Client(self._address.url, self._address.key)
                atexit.register(self._blocking.close)
            return self._blocking

    async def loop_client(self) -> AsyncClient:
        """Return the client for the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._loops = {
                known_loop: loop_entry
                for known_loop, loop_entry in self._loops.items()
                if not known_loop.is_closed()
            }
            if loop in self._loops:
                return self._loops[loop][1]
        keeper = self._open_client()
        client = await anext(
            keeper
        )  # this does not yield to the event loop, so no other task can run in between
        with self._lock:
            self._loops[loop] = keeper, client
        return client

    async def _open_client(self) -> AsyncGenerator[AsyncClient, None]:
        """Yield a client, and close it when the loop ends: `asyncio.run` closes generators that are still open."""
        async with AsyncClient(self._address.url, self._address.key) as client:
            while True:
                yield client


class _GivenClient(DaemonClients):
    """The clients for a daemon when the caller has provided one. For the other kind (blocking or asyncio), the shared
    client is used.
    """

    def __init__(self, daemon: DaemonClients, client: Client | AsyncClient) -> None:
        super().__init__(daemon._address)
        self._daemon = daemon
        self._client = client

    @property
    def client(self) -> Client:
        return self._client if isinstance(self._client, Client) else self._daemon.client

    async def loop_client(self) -> AsyncClient:
        return self._client if isinstance(self._client, AsyncClient) else await self._daemon.loop_client()


_DAEMONS: dict[Address, DaemonClients] = {}
_DAEMONS_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class CallScope:
    """The scope of an agent call: the app, the ``session``, and the path of each agent in the tree, keyed by object
    id.

    ``loop`` is set while an asynchronous ``forward`` runs in this scope.
    """

    app: str
    session: str
    daemon: DaemonClients
    paths: Mapping[int, str]
    loop: asyncio.AbstractEventLoop | None = None

    def path(self, agent: object) -> str:
        """Return the path of an agent in the tree, empty for the root."""
        return self.paths[id(agent)]


CALL_SCOPE: ContextVar[CallScope | None] = ContextVar("portico_call_scope", default=None)
"""The enclosing call."""

LISTENER: ContextVar[Callable[[Heard], None] | None] = ContextVar("portico_listener", default=None)
"""The listener that receives the events of all agents called in this context."""


def notify(agent: str, event: Event) -> None:
    """Pass an event to the listener."""
    listener = LISTENER.get()
    if listener is not None:
        listener(Heard(agent, event))


@contextmanager
def reporting_step(path: str) -> Iterator[None]:
    """Notify the listener when the call of the agent at ``path`` starts and ends. The root agent's call (an empty
    path) is not reported.
    """
    if not path:
        yield
        return
    notify(path, StepStarted(path))
    start_time, error = time.perf_counter(), None
    try:
        yield
    except Exception as step_error:
        error = str(step_error)
        raise
    finally:
        notify(path, StepFinished(path, (time.perf_counter() - start_time) * 1e3, error))


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop of this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to completion and return its result. If this thread already runs a loop, as in a notebook, use
    another thread.
    """
    if running_loop() is None:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, "portico-agent") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()
