"""Which Host and which Origin may come in: a web page elsewhere must not reach a daemon on this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from portico_server.core.errors import Forbidden
from portico_server.settings import Settings, comma_separated

MAX_REMEMBERED_HEADERS = 256
"""Header values that passed and need not be looked at again."""


class OriginGuard:
    """Host is checked against DNS rebinding, Origin against other sites. Pure but for a small memory."""

    def __init__(self, settings: Settings) -> None:
        self._open = not settings.loopback
        self._hosts = {"localhost", settings.host.lower(), *comma_separated(settings.allowed_hosts.lower())}
        if self._open:
            self._hosts.add(socket.gethostname().lower())
        self._origins = frozenset(
            word.rstrip("/") for word in comma_separated(settings.allowed_origins.lower())
        )
        self._passed: set[bytes] = set()

    def check_host(self, raw: bytes | None) -> None:
        """Raise `Forbidden` unless the Host header names us: loopback, our address, or an allowed name.

        A page that has rebound its own name to our address still sends that name. An address cannot be
        rebound, so a daemon that listens for other machines takes any; it has a key then.
        """
        if raw in self._passed:
            return
        host = _host(raw)
        if host not in self._hosts and "*" not in self._hosts and not self._is_ours(host):
            raise Forbidden(
                f"The Host '{host}' is not one that this daemon answers to. If it is yours, name it in the "
                "setting allowed_hosts (PORTICO_ALLOWED_HOSTS).",
                code="host_not_allowed",
            )
        if raw is not None and len(self._passed) < MAX_REMEMBERED_HEADERS:
            self._passed.add(raw)

    def check_origin(self, raw: bytes, host: bytes | None) -> bool:
        """Whether the page at the Origin needs CORS headers; raises `Forbidden` if it may not call at all."""
        origin = raw.decode("latin-1").lower().rstrip("/")
        _scheme, _, site = origin.partition("://")
        if site and host is not None and site == host.decode("latin-1").lower():
            return False
        if origin in self._origins or "*" in self._origins:
            return True
        raise Forbidden(
            f"Pages from '{origin}' may not call this daemon. If the page is yours, name its origin in the "
            "setting allowed_origins (PORTICO_ALLOWED_ORIGINS).",
            code="origin_not_allowed",
        )

    def _is_ours(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or self._open


def _host(raw: bytes | None) -> str:
    """The name in a Host header, without the port and the brackets of an IPv6 address."""
    text = (raw or b"").decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text
