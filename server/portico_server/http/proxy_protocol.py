"""The PROXY protocol, versions 1 and 2: what a proxy sends before the first byte of its client.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from portico_server.core.dataclass import dataclass

TEXT_START: Final = b"PROXY "
BINARY_START: Final = b"\r\n\r\n\x00\r\nQUIT\n"

MAX_TEXT_BYTES: Final = 107
MAX_BINARY_BYTES: Final = 4_096

_HEAD_BYTES: Final = len(BINARY_START) + 4
_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}
"""Sizes of the addresses of TCP over IPv4 and over IPv6."""

_TLS_TYPE_CODE: Final = 0x20
_TLS_FLAG_BITS: Final = 0x01


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The header of a connection: its ``size`` in bytes, and the address of the client, which is empty if the proxy
    opened the connection for itself or does not know it. ``is_tls``: the client connected to the proxy with TLS.
    """

    size: int
    client: str = ""
    is_tls: bool = False


NO_HEADER: Final = ProxyHeader(0)


def read_header(data: bytes) -> ProxyHeader | None:
    """Return the header with which the data of a connection begins, `NO_HEADER` if it begins with none, or ``None`` if
    more data must arrive first. Raises `ValueError` for a malformed header.
    """
    if data.startswith(TEXT_START):
        return _read_text(data)
    if data.startswith(BINARY_START):
        return _read_binary(data)
    return None if TEXT_START.startswith(data) or BINARY_START.startswith(data) else NO_HEADER


def _read_text(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:MAX_TEXT_BYTES].partition(b"\r\n")
    if not end:
        if len(data) >= MAX_TEXT_BYTES:
            raise ValueError("the PROXY header has no end")
        return None
    size = len(line) + 2
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size)
    kinds = {"TCP4": IPv4Address, "TCP6": IPv6Address}
    if len(words) != 6 or words[1] not in kinds:
        raise ValueError("the PROXY header is malformed")
    return ProxyHeader(size, str(kinds[words[1]](words[2])))


def _read_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEAD_BYTES:
        return None
    command, family = data[12], data[13]
    size = _HEAD_BYTES + int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21) or size > MAX_BINARY_BYTES:
        raise ValueError("the PROXY header is malformed or too long")
    if len(data) < size:
        return None
    address_size = _ADDRESS_BYTES.get(family)
    if command == 0x20 or address_size is None:  # a check of the proxy itself, or no address of the internet
        return ProxyHeader(size)
    fields_at = _HEAD_BYTES + 2 * address_size + 4
    if fields_at > size:
        raise ValueError("the PROXY header is too short for its addresses")
    client = ip_address(data[_HEAD_BYTES : _HEAD_BYTES + address_size])
    return ProxyHeader(size, str(client), is_tls=_says_tls(data[fields_at:size]))


def _says_tls(fields: bytes) -> bool:
    """Return whether one of the fields behind the addresses says that the client connected with TLS."""
    while len(fields) > 3:
        end = 3 + int.from_bytes(fields[1:3], "big")
        if fields[0] == _TLS_TYPE_CODE:
            return bool(fields[3] & _TLS_FLAG_BITS) and end > 3
        fields = fields[end:]
    return False
