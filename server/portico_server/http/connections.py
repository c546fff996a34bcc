"""The connections of a server: which of them may stay open, and when they time out.

A connection is a *stranger* until a request on it is authenticated. Strangers may use only a part of all connections
and are closed, oldest first, to make room for new ones. A client that opens many silent connections loses them; a
caller with a key does not.

Deadlines are counted in calls of `Connections.sweep`, which checks all connections once a second, so that requests
need no timers. No deadline applies after a request has arrived completely: a response may stream for hours.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from portico_server.http.forwarded import TrustedProxies
from portico_server.http.limits import ConnectionLimits
from portico_server.http.progress import COMPLETE, WAITING


class Connection(Protocol):
    """The interface of a connection that `Connections` manages."""

    address: str
    """The address of the client, or the group of addresses that counts as one; see `address_group`. It is empty, and
    not limited, until a trusted proxy names its client.
    """

    @property
    def phase(self) -> int:
        """The phase of the newest request (`portico_server.http.progress`)."""

    cycle: RequestResponseCycle
    """The newest request and its response, once its head has arrived."""

    def cut(self) -> None:
        """Close the connection immediately to make room for another."""

    def tick(self, bounds: ConnectionLimits) -> None:
        """Check the deadlines; called once a second."""


class Connections:
    """All connections of a server. Call `sweep` once a second."""

    def __init__(self, bounds: ConnectionLimits, proxies: TrustedProxies) -> None:
        self.bounds = bounds
        self.proxies = proxies
        self.is_closing = False
        """True once the server stops: each connection closes after its next response, which announces this."""
        self._answer = asyncio.Event()
        """Set whenever a connection has sent a response or is closed."""
        self._open_connections: dict[Connection, None] = {}
        self._strangers: dict[Connection, None] = {}  # oldest first, by insertion order
        self._by_address: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._open_connections)

    def enter(self, connection: Connection) -> bool:
        """Return whether a new connection may stay. Another connection may be closed to make room."""
        bounds = self.bounds
        neighbours = self._by_address.setdefault(connection.address, {})
        if connection.address and len(neighbours) >= bounds.per_address:
            next(iter(neighbours)).cut()
        elif len(self._strangers) >= bounds.strangers:
            next(iter(self._strangers)).cut()
        if len(self._open_connections) >= bounds.connections and not self._make_room():
            if not neighbours:
                self._by_address.pop(connection.address, None)
            return False
        # Look up the entry again: closing the last connection of this address has removed the entry.
        self._by_address.setdefault(connection.address, {})[connection] = None
        self._strangers[connection] = None
        self._open_connections[connection] = None
        return True

    def move(self, connection: Connection, address: str) -> None:
        """Count the connection of a proxy for the client that the proxy has named. Another connection of this client
        may be closed.
        """
        if connection.address == address:
            return
        is_counted = connection in self._strangers
        if is_counted:
            self._forget_address(connection)
        connection.address = address
        if not is_counted:
            return
        neighbours = self._by_address.get(address, {})
        if len(neighbours) >= self.bounds.per_address:
            next(iter(neighbours)).cut()
        self._by_address.setdefault(address, {})[connection] = None

    def admit(self, connection: Connection) -> None:
        """Mark a connection as authenticated: it is no longer a stranger."""
        if self._strangers.pop(connection, connection) is None:
            self._forget_address(connection)

    def leave(self, connection: Connection) -> None:
        """Remove a connection that is closed or closing. Has no effect if it was removed before."""
        self._open_connections.pop(connection, None)
        self._answer.set()
        self.admit(connection)

    def note_answer(self) -> None:
        """Record that a connection has sent a response."""
        self._answer.set()

    async def drain(self) -> None:
        """Wait until no request waits for its response to begin."""
        while any(
            connection.phase == COMPLETE and not connection.cycle.response_started
            for connection in self._open_connections
        ):
            self._answer.clear()
            await self._answer.wait()

    def sweep(self) -> None:
        """Close the connections that have timed out."""
        for connection in list(self._open_connections):
            connection.tick(self.bounds)

    def _make_room(self) -> bool:
        """Close the oldest stranger, or the oldest idle connection if there are no strangers. Return whether a
        connection was closed.
        """
        spare = next(iter(self._strangers), None) or next(
            (connection for connection in self._open_connections if connection.phase == WAITING), None
        )
        if spare is None:
            return False
        spare.cut()
        return True

    def _forget_address(self, connection: Connection) -> None:
        neighbours = self._by_address[connection.address]
        del neighbours[connection]
        if not neighbours:
            del self._by_address[connection.address]


def address_group(address: str) -> str:
    """Return the group of addresses that counts as one client: an IPv4 address, or the /64 network of an IPv6 address,
    because one client usually owns a whole /64.
    """
    if ":" not in address:
        return address
    try:
        pv6_address = cast("IPv6Address", ip_address(address.partition("%")[0]))
    except ValueError:
        return address
    if pv6_address.ipv4_mapped:
        return str(pv6_address.ipv4_mapped)
    return pv6_address.exploded[:19]
