"""Where a request comes from if trusted proxies stand between its client and the daemon.

A trusted proxy reports the client, and the address that the client used, in the headers ``X-Forwarded-*`` or
``Forwarded`` (RFC 7239), or before the first request in the PROXY protocol. What other clients send in these headers
is ignored.

Each proxy appends the address of its client to a list, and anyone can send the beginning of the list. The client is
therefore the last address that is not of a trusted proxy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.settings import comma_separated

Address: TypeAlias = IPv4Address | IPv6Address
Headers: TypeAlias = list[tuple[bytes, bytes]]

UNIX: Final = "unix"
"""The word in the setting ``trusted_proxies`` for clients that connect through a Unix socket."""

MAX_HOPS: Final = 32
"""Maximum number of addresses that are read of a list, from its end."""

_PREFIX = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]{1,64}){1,8}")
_HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_PAIR = re.compile(r'[ \t]*(?:([A-Za-z0-9-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?[ \t]*(?:([;,])|$)')
_SCHEMES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy reports about the request that it received; a field is empty if the proxy does not report it."""

    client: str = ""
    scheme: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """Where a request comes from: the address of the client, and the scheme, host and path prefix that the client used.

    An empty field is not reported by the proxies.
    """

    client: str
    scheme: str = ""
    host: str = ""
    prefix: str = ""


class TrustedProxies:
    """The proxies that the setting ``trusted_proxies`` names: addresses, networks and `UNIX`, separated by commas.

    Raises `InvalidRequest` for another entry.
    """

    def __init__(self, entries: str = "") -> None:
        words = comma_separated(entries)
        self._trusts_unix = UNIX in words
        self._networks: Sequence[IPv4Network | IPv6Network] = [
            _network(word) for word in words if word != UNIX
        ]

    def trusts(self, client: str | None) -> bool:
        """Return whether a client is a trusted proxy. The client of a Unix socket is ``None``."""
        if client is None:
            return self._trusts_unix
        if not self._networks:
            return False
        address = read_address(client)
        return address is not None and any(address in network for network in self._networks)

    def origin(self, headers: Headers, peer: str) -> RequestOrigin | None:
        """Return where a request comes from that the trusted proxy ``peer`` sends, or ``None`` if the headers do not
        say it. Names of headers are in lower case.
        """
        fields = {name: _join_values(headers, name) for name in _names(headers)}
        if not fields:
            return None
        common = self._origin_of(_common_hops(fields), peer)
        standard = self._origin_of(_standard_hops(fields.get(b"forwarded", "")), peer)
        prefix = fields.get(b"x-forwarded-prefix", "").rpartition(",")[2].strip().rstrip("/")
        prefix = prefix if is_path_prefix(prefix) else ""
        if common is None or standard is None:
            return _with_prefix(common or standard or RequestOrigin(peer), prefix)
        # Most proxies write one of the two and pass the other on as the client sent it, so that nothing is known if
        # they disagree.
        return RequestOrigin(
            _agreed(common.client, standard.client) or peer,
            _agreed(common.scheme, standard.scheme),
            _agreed(common.host, standard.host),
            prefix,
        )

    def _origin_of(self, hops: Sequence[Hop], peer: str) -> RequestOrigin | None:
        """Return the origin of a request from the hops before ``peer``, of which the last is the nearest."""
        client, first = peer, None
        for hop in reversed(hops):
            first = hop
            address = read_address(hop.client)
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return None if first is None else RequestOrigin(client, first.scheme, first.host)


def read_address(text: str) -> Address | None:
    """Return the address in an entry of a list, which may have a port, brackets or a zone; ``None`` for anything
    else. An IPv4 address that is mapped to IPv6 is returned as IPv4.
    """
    word = text.strip()
    if word.startswith("["):
        word = word[1:].partition("]")[0]
    elif word.count(":") == 1:
        word = word.partition(":")[0]
    try:
        address = ip_address(word.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def is_path_prefix(path: str) -> bool:
    """Return whether a path is plain: absolute, without a trailing slash, an encoded character or a step upwards."""
    return _PREFIX.fullmatch(path) is not None


def apply(origin: RequestOrigin, scope: Any) -> None:
    """Make the scope of a request say where it comes from. A Host header that occurs twice is left for the gateway to
    refuse.
    """
    scope["client"] = (origin.client, 0)
    scope["portico.prefix"] = origin.prefix
    if origin.scheme:
        scope["scheme"] = origin.scheme
    headers: Headers = scope["headers"]
    if origin.host and sum(name == b"host" for name, _ in headers) <= 1:
        headers[:] = [
            (b"host", origin.host.encode()),
            *((name, value) for name, value in headers if name != b"host"),
        ]


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        raise InvalidRequest(
            f"'{word[:80]}' in trusted_proxies is no address, no network such as 10.0.0.0/8 and not '{UNIX}'.",
            param="trusted_proxies",
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network


def _names(headers: Headers) -> set[bytes]:
    return {name for name, _ in headers if name.startswith((b"x-forwarded-", b"forwarded"))}


def _join_values(headers: Headers, name: bytes) -> str:
    """Return all values of a header as one list (RFC 9110, section 5.3)."""
    return ",".join(value.decode("latin-1") for header_name, value in headers if header_name == name)


def _common_hops(fields: dict[bytes, str]) -> list[Hop]:
    """Return the hops in ``X-Forwarded-For``, ``X-Forwarded-Proto`` and ``X-Forwarded-Host``.

    Some proxies append to all three and others replace the last two: a list of another length than that of the
    addresses has only its last value, which the nearest proxy wrote.
    """
    clients, schemes, hosts = (
        [word.strip() for word in fields[name].split(",")][-MAX_HOPS:] if fields.get(name) else []
        for name in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
    )
    count = max(len(clients), 1) if clients or schemes or hosts else 0

    def of_hop(values: list[str], number: int) -> str:
        return "" if not values else values[number] if len(values) == count else values[-1]

    return [
        Hop(
            clients[number] if clients else "",
            _scheme(of_hop(schemes, number)),
            _host(of_hop(hosts, number)),
        )
        for number in range(count)
    ]


def _standard_hops(value: str) -> list[Hop]:
    """Return the hops in ``Forwarded``; none if the header is malformed."""
    hops: list[Hop] = []
    pairs: dict[str, str] = {}
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None:
            return []
        name, quoted_text, token, end = match.groups()
        if name is not None:
            text = re.sub(r"\\(.)", r"\1", quoted_text) if quoted_text is not None else token
            if pairs.setdefault(name.lower(), text) != text:
                return []
        if (end == "," or match.end() == len(value)) and pairs:
            hops.append(
                Hop(pairs.get("for", ""), _scheme(pairs.get("proto", "")), _host(pairs.get("host", "")))
            )
            pairs = {}
        at = match.end()
    return hops[-MAX_HOPS:]


def _scheme(value: str) -> str:
    return _SCHEMES.get(value.lower(), "")


def _host(value: str) -> str:
    return value if _HOST.fullmatch(value) else ""


def _agreed(common: str, standard: str) -> str:
    """Return the value that both headers have, or that of the only header that has one."""
    return common if common == standard or not standard else standard if not common else ""


def _with_prefix(origin: RequestOrigin, prefix: str) -> RequestOrigin:
    return RequestOrigin(origin.client, origin.scheme, origin.host, prefix)
