"""Checks of where a request comes from: a foreign web page must not reach a daemon on this machine, and a request
through a proxy needs a key.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from portico_server.core.errors import Forbidden, Unauthenticated
from portico_server.settings import Settings, comma_separated

MAX_REMEMBERED_HEADERS = 256
"""Maximum number of header values that are cached after they passed the check, and of cached names and hosts."""


PROXY_HEADERS: Final = frozenset(
    b"forwarded via x-real-ip x-client-ip x-cluster-client-ip x-proxyuser-ip x-rewrite-url x-scheme true-client-ip "
    b"cdn-loop proxy-connection".split()
)
PROXY_PREFIXES: Final = tuple(
    b"x-forwarded x-original- x-envoy- x-azure- x-arr- x-appengine- x-nf- cf- fastly- fly- ngrok- tailscale-".split()
)
"""Headers, and prefixes of headers, that reverse proxies, tunnels and content delivery networks add to a request."""

UNCHECKED: Final = "was not checked for signs of a proxy"
"""The sign of a proxy in a request that `OriginGuard.proxy_sign` has not seen, so that such a request needs a key."""


class OriginGuard:
    """Checks the Host header against DNS rebinding, the Origin header against foreign sites, and all headers for signs
    of a proxy. Pure except for a small cache.
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
        if public.hostname:
            self._hosts.add(public.hostname)
        self._public_origin = origin_of(settings.public_url)
        self._secure_host = public.netloc if public.scheme == "https" else ""
        self._accepted_headers: set[bytes] = set()
        self._trusts_proxy = settings.trust_local_proxy

    def proxy_sign(
        self, http_version: str, headers: Mapping[bytes, bytes], *, is_proxied: bool = False
    ) -> str:
        """Return what shows that a request did not come straight from a program on this machine, as the predicate of a
        sentence; an empty string if nothing does, or if the proxy is trusted.

        A proxy on this machine connects from a loopback address, as every local program does. ``headers`` are keyed by
        lower-case name. ``is_proxied``: the connection began with a header of the PROXY protocol.
        """
        if self._trusts_proxy:
            return ""
        if is_proxied:
            return "came in the PROXY protocol"
        if http_version != "1.1":  # nginx sends HTTP/1.0 to its upstream unless it is configured otherwise
            return f"uses HTTP/{http_version}, as nginx and a few old clients do"
        for name in headers:
            if _is_of_proxy(name):
                return f"has the header '{name.decode('latin-1')[:80]}'"
        host = _host(headers.get(b"host"))
        if not _is_loopback(host):
            return f"has the Host '{host[:80]}'"
        raw_origin = headers.get(b"origin")
        if raw_origin is None:
            return ""
        origin = raw_origin.decode("latin-1").lower()
        # An application or an extension has a scheme of its own, and its origin is not the address of a proxy.
        scheme, _, site = origin.partition("://")
        if origin == "null" or (
            scheme in ("http", "https") and not _is_loopback(_host(site.encode("latin-1")))
        ):
            return f"has the Origin '{origin[:80]}'"
        return ""

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
        if origin == self._public_origin != "" or is_own_origin(origin, own_host, secure=secure):
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


def refuse_proxied(sign: str) -> None:
    """Raise `Unauthenticated` for a request without a key that has a sign of a proxy (`OriginGuard.proxy_sign`)."""
    if sign:
        raise Unauthenticated(
            "Without a key, this daemon serves only HTTP/1.1 requests that come straight from this machine, but "
            f"this request {sign}: send a key that 'portico keys create' made on this machine, or set "
            "trust_local_proxy (PORTICO_TRUST_LOCAL_PROXY) if a proxy in front of the daemon authenticates its "
            "users.",
            code="missing_api_key",
        )


def origin_of(url: str) -> str:
    """Return the origin of a page at an address, as browsers send it; an empty string for an empty address."""
    parts = urlsplit(url.lower())
    default_port = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.removesuffix(default_port)}" if parts.netloc else ""


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


@lru_cache(MAX_REMEMBERED_HEADERS)
def _is_of_proxy(name: bytes) -> bool:
    """Return whether proxies add a header of this name, in lower case."""
    return name in PROXY_HEADERS or name.startswith(PROXY_PREFIXES)


@lru_cache(MAX_REMEMBERED_HEADERS)
def _is_loopback(host: str) -> bool:
    """Return whether a host name or address always means this machine (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
