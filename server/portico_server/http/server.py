"""The daemon's socket, event loop and HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import uvicorn

from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.http.connection import HttpConnection
from portico_server.http.connections import Connections
from portico_server.http.forwarded import TrustedProxies
from portico_server.http.limits import ConnectionLimits
from portico_server.settings import MB_BYTES, Settings

TICKS_PER_SWEEP_COUNT = 10
"""Number of ticks of uvicorn's main loop per sweep; the loop ticks every tenth of a second."""


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop for the daemon."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # uvloop provides wheels only for certain platforms

    return uvloop.new_event_loop()


LINGER_S = 0.2
"""Seconds for which idle connections stay open after the server has stopped accepting connections. A client may have
sent a request that the server has not received yet.
"""

NEIGHBOUR_TIMEOUT_S = 2.0
"""Seconds that the program listening on the configured port has to respond when it is asked whether it is Portico."""

MAX_ANSWER_BYTES = 4_000_000


@contextlib.contextmanager
def listen(settings: Settings) -> Iterator[socket.socket]:
    """Bind the listening socket before anything else starts, and yield it.

    If systemd passes a socket, yield that socket. Its queue keeps the connections that arrive while no daemon serves.
    """
    if settings.port > 65535:
        raise InvalidRequest(f"{settings.port} is not a valid port; the highest port is 65535.", param="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"'{settings.host}' is not an address of this machine.", param="host") from error
    passed_socket = _passed_socket()
    if passed_socket is not None:
        with passed_socket:
            host, port = passed_socket.getsockname()[:2]
            if (passed_socket.family, host, port) != (family, *address[:2]):
                raise InvalidRequest(
                    f"systemd passes a socket that listens on {host}:{port}, but the settings name "
                    f"{settings.host}:{settings.port}. Set 'host' and 'port' to the address of the socket.",
                    param="port",
                )
            yield passed_socket
        return
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except (OSError, OverflowError) as error:
            raise _cannot_bind(settings, error) from error
        yield listener


def _passed_socket() -> socket.socket | None:
    """Return the listening socket that systemd passes to this process, or ``None``."""
    process_id, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if process_id != str(os.getpid()):
        return None
    if count != "1":
        raise InvalidRequest(
            f"systemd passes {count} sockets, but the daemon listens on one. Keep one 'ListenStream' in the "
            "socket unit.",
            param="port",
        )
    passed_socket = socket.socket(fileno=3)  # the first descriptor that systemd passes: sd_listen_fds(3)
    passed_socket.set_inheritable(False)
    return passed_socket


def _cannot_bind(settings: Settings, error: Exception) -> Conflict | InvalidRequest:
    address = f"{settings.host}:{settings.port}"
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return Conflict(
                f"Port {settings.port} on {settings.host} is in use by {_port_owner(settings)}. Choose "
                "another port with --port or PORTICO_PORT (0 selects any free port).",
                code="port_in_use",
                param="port",
            )
        case errno.EACCES:
            return Conflict(
                f"This user is not allowed to listen on {address}; choose a port above 1023.", param="port"
            )
        case errno.EADDRNOTAVAIL:
            return InvalidRequest(f"{settings.host} is not an address of this machine.", param="host")
    return InvalidRequest(f"Cannot listen on {address}: {error}.", param="port")


def _port_owner(settings: Settings) -> str:
    """Describe the program that listens on the port: a Portico daemon with its home folder and URL, or another
    program.
    """
    host = _local_address(settings.host)
    url = f"http://{_bracketed(host)}:{settings.port}"
    health = _request_json(host, settings.port, "/health")
    if not {"status", "version"} <= health.keys():
        return "another program"
    # The request contains no API key, because any program may be listening.
    home = _request_json(host, settings.port, "/api/status").get("home")
    known_home = isinstance(home, str) and home.isprintable() and home
    identity = f"with the home folder {home}" if known_home else "that requires a key"
    return (
        f"a Portico daemon {identity}. Check it with 'portico --url {url} status', stop it with 'portico "
        f"--url {url} down'"
    )


def _request_json(host: str, port: int, path: str) -> dict[str, object]:
    """Request a JSON object from the program that listens on the port. Return an empty object if it does not respond
    in time.
    """
    # urllib would use the proxies of the environment.
    connection = http.client.HTTPConnection(host, port, timeout=NEIGHBOUR_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        document = json.loads(answer.read(MAX_ANSWER_BYTES)) if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return document if isinstance(document, dict) else {}


class HttpServer(uvicorn.Server):
    """uvicorn with an event that reports when it serves, without its own signal handling, and with limits for clients.

    ``grace`` is the number of seconds that requests in progress have to finish when the server stops.
    """

    def __init__(self, app: Any, settings: Settings, *, grace: int) -> None:
        self.serving = asyncio.Event()
        self.stopped_accepting = asyncio.Event()
        """Set once the server has closed its listening socket and its idle connections."""
        self.connections = Connections(
            ConnectionLimits.of(settings), TrustedProxies(settings.trusted_proxies)
        )
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", partial(HttpConnection, connections=self.connections)),
                ws="none",  # connections create their own WebSocket protocol, see `HttpConnection`
                ws_max_size=settings.max_body_mb * MB_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=grace,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listening socket, answer the requests that are on their way, then close the idle connections."""
        for server in self.servers:
            server.close()
        self.connections.is_closing = True
        if len(self.connections):
            await asyncio.sleep(LINGER_S)
        # The waiting tasks resume when uvicorn first waits: it has then closed the idle connections.
        self.stopped_accepting.set()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Handle a tick of uvicorn's main loop, which ticks ten times a second."""
        if counter % TICKS_PER_SWEEP_COUNT == 0:
            self.connections.sweep()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def reach(listener: socket.socket) -> str:
    """Return the base URL at which programs on this machine can reach a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{_bracketed(_local_address(host))}:{port}"


def _local_address(host: str) -> str:
    """Return the address at which programs on this machine can reach a server that listens on ``host``."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  # compared, not bound


def _bracketed(host: str) -> str:
    """Return a host in the form used in URLs."""
    return f"[{host}]" if ":" in host else host
