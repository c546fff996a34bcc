"""Checks of the Host and Origin headers: a foreign web page must not reach a daemon on this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from portico_server.core.errors import Forbidden
from portico_server.settings import Settings, comma_separated

MAX_REMEMBERED_HEADERS = 256
"""Maximum number of header values that are cached after they passed the check."""


class OriginGuard:
    """Checks the Host header against DNS rebinding, and the Origin header against foreign sites. Pure except for a
    small cache.
    """

    def __init__(self, settings: Settings) -> None:
        self._open = not settings.loopback
        self._hosts = {"localhost", settings.host.lower(), *comma_separated(settings.allowed_hosts.lower())}
        if self._open:
            self._hosts.add(socket.gethostname().lower())
        self._origins = frozenset(
            word.rstrip("/") for word in comma_separated(settings.allowed_origins.lower())
        )
        public = urlsplit(settings.public_url.lower())
        self._secure_host = public.netloc if public.scheme == "https" else ""
        self._accepted_headers: set[bytes] = set()

    def check_host(self, raw: bytes | None) -> None:
        """Raise `Forbidden` unless the Host header names this daemon: loopback, the daemon's address, or an allowed
        name.

        If a page rebinds its own host name to the daemon's address, the Host header still contains that host name. An
        IP address cannot be rebound, so a daemon that listens for other machines accepts any IP address; such a daemon
        requires a key.
        """
        if raw in self._accepted_headers:
            return
        host = _host(raw)
        if host not in self._hosts and "*" not in self._hosts and not self._is_ours(host):
            raise Forbidden(
                f"The Host '{host}' is not a name of this daemon. If the name is yours, add it to the "
                "setting allowed_hosts (PORTICO_ALLOWED_HOSTS).",
                code="host_not_allowed",
            )
        if raw is not None and len(self._accepted_headers) < MAX_REMEMBERED_HEADERS:
            self._accepted_headers.add(raw)

    def check_origin(self, raw: bytes, host: bytes | None, scheme: str) -> bool:
        """Return whether a page at this origin needs CORS headers. Raise `Forbidden` if the page must not call the
        daemon. ``scheme`` is that of the request.
        """
        origin = raw.decode("latin-1").lower().rstrip("/")
        own_host = (host or b"").decode("latin-1").lower()
        secure = scheme in ("https", "wss") or (own_host != "" and own_host == self._secure_host)
        if is_own_origin(origin, own_host, secure=secure):
            return False
        if origin in self._origins or "*" in self._origins:
            return True
        raise Forbidden(
            f"Pages from '{origin}' cannot call this daemon. If the page is yours, add its origin to the "
            "setting allowed_origins (PORTICO_ALLOWED_ORIGINS).",
            code="origin_not_allowed",
        )

    def _is_ours(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or self._open


def is_own_origin(origin: str, host: str, *, secure: bool) -> bool:
    """Return whether an origin is that of the daemon's own page, both in lower case. A page over http is foreign to a
    daemon that is reached over https.

    Behind a proxy, a request arrives over http although the page came over https.
    """
    scheme, _, site = origin.partition("://")
    return site == host != "" and scheme in (("https",) if secure else ("http", "https"))


def _host(raw: bytes | None) -> str:
    """Return the host name in a Host header, without the port and without the brackets of an IPv6 address."""
    text = (raw or b"").decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text
