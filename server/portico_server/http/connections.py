"""All connections of a server: which may stay, and when their time is up.

A connection is a *stranger* until one request on it was authenticated. Strangers share a part of all connections and
make way for new ones, the oldest first: whoever holds many and says nothing loses them, a caller with a key does not.
Deadlines are counted in rounds of `Connections.sweep`, once a second over all connections: a request costs no timer.
They end where a request is complete: an answer may stream for hours.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast

from portico_server.http.limits import ConnectionLimits


class Connection(Protocol):
    """What is asked of one connection."""

    address: str
    """What counts as one address; see `address_group`."""

    @property
    def idle(self) -> bool:
        """Whether no request is on its way or being answered."""

    def cut(self) -> None:
        """Close it at once: another one needs its place."""

    def tick(self, bounds: ConnectionLimits) -> None:
        """A second has passed."""


class Connections:
    """All connections of a server. `sweep` is to be called once a second."""

    def __init__(self, bounds: ConnectionLimits) -> None:
        self.bounds = bounds
        self._all: dict[Connection, None] = {}
        self._strangers: dict[Connection, None] = {}  # oldest first, as all dictionaries here
        self._by_address: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: Connection) -> bool:
        """Whether a new connection may stay. Another one may have been closed for it."""
        bounds = self.bounds
        neighbours = self._by_address.setdefault(connection.address, {})
        if len(neighbours) >= bounds.per_address:
            next(iter(neighbours)).cut()
        elif len(self._strangers) >= bounds.strangers:
            next(iter(self._strangers)).cut()
        if len(self._all) >= bounds.connections and not self._make_room():
            if not neighbours:
                self._by_address.pop(connection.address, None)
            return False
        # A connection that was cut takes its address's entry along if it was the last.
        self._by_address.setdefault(connection.address, {})[connection] = None
        self._strangers[connection] = None
        self._all[connection] = None
        return True

    def admit(self, connection: Connection) -> None:
        """A request on it was authenticated: it is not a stranger from now on."""
        if self._strangers.pop(connection, connection) is None:
            self._forget_address(connection)

    def leave(self, connection: Connection) -> None:
        """It is closed, or about to be. Harmless if it has left."""
        self._all.pop(connection, None)
        self.admit(connection)

    def sweep(self) -> None:
        """Close those whose time is up."""
        for connection in list(self._all):
            connection.tick(self.bounds)

    def _make_room(self) -> bool:
        """Close the oldest stranger, or else a connection on which nothing happens; whether there was one."""
        spare = next(iter(self._strangers), None) or next(
            (connection for connection in self._all if connection.idle), None
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
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which one client has whole."""
    if ":" not in address:
        return address
    try:
        pv6_address = cast("IPv6Address", ip_address(address.partition("%")[0]))
    except ValueError:
        return address
    if pv6_address.ipv4_mapped:
        return str(pv6_address.ipv4_mapped)
    return pv6_address.exploded[:19]
