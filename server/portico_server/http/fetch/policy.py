"""The addresses that a tool can reach: public addresses, and hosts that the operator has named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from portico_server.core.addresses import host_of
from portico_server.core.dataclass import dataclass
from portico_server.settings import comma_separated

_REFUSED: Final = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host service, whose address looks public but is not
        "192.0.0.0/24",  # protocol assignments, including the metadata service of one cloud
        "192.88.99.0/24",  # 6to4 relays
        "100.64.0.0/10",  # carrier NAT, including the metadata service of one cloud
        "240.0.0.0/4",
        "64:ff9b:1::/48",  # NAT64 into private networks
        "fec0::/10",  # deprecated site-local addresses
        "5f00::/16",  # segment routing
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ip_network("::/96")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The addresses and limits of fetches.

    ``hosts`` (``NAME`` or ``NAME:PORT`` in lower case) can always be fetched from. ``timeout`` is in seconds and
    covers name resolution, redirects, headers and body. ``max_bytes`` applies to a body after decompression.
    """

    hosts: frozenset[str] = field(default_factory=frozenset)
    max_bytes: int = 5 * 1024 * 1024
    timeout: float = 30.0
    redirects: int = 5

    @classmethod
    def of(cls, hosts: str) -> AddressPolicy:
        """Parse the setting ``tool_hosts``: names separated by commas."""
        return cls(frozenset(comma_separated(hosts.lower())))

    def trusts(self, host: str, port: int) -> bool:
        """Return whether the operator has named this host."""
        host = host.lower().rstrip(".")
        return host in self.hosts or f"{host}:{port}" in self.hosts

    def trusts_address(self, address: str) -> bool:
        """Return whether the operator has named the host of an address without scheme."""
        host = host_of(address)
        return host in self.hosts or host.rpartition(":")[0] in self.hosts


def is_public(address: str) -> bool:
    """Return whether an IP address, and any IPv4 address embedded in it, is on the public internet."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(_is_public(ip_version) for ip_version in _unwrapped(ip))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address.version == network.version and address in network for network in _REFUSED)
    )


def _unwrapped(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """Yield the address itself, or the IPv4 addresses that are embedded in an IPv6 address."""
    if isinstance(address, IPv4Address):
        yield address
        return
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64 or address in _COMPATIBLE:
        yield low
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    else:
        yield address
