"""One HTTP request over a socket of its own, in the exact form that a test names."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
"""The headers of a request that opens a WebSocket."""


@dataclass(frozen=True)
class Form:
    """The form of a request. ``host`` is the address in the URL unless it is set."""

    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    version: str = "1.1"


PLAIN = Form()


def ask(url: str, method: str, path: str, form: Form = PLAIN, body: bytes = b"{}") -> tuple[int, str]:
    """Send one request. Return the status and the body of the answer.

    The method ``WEBSOCKET`` opens a WebSocket; ``POST`` sends ``body`` as JSON.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    headers = {"Host": form.host or address.netloc, "Connection": "close", **form.headers}
    content = b""
    if method == "POST":
        content = body
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    elif method == "WEBSOCKET":
        method = "GET"
        headers |= UPGRADE
    head = [f"{method} {path} HTTP/{form.version}", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection((address.hostname, address.port or 80), timeout=60) as connection:
        connection.sendall("\r\n".join((*head, "", "")).encode("latin-1") + content)
        with connection.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            lengths = {}
            while line := answer.readline().strip():
                name, _, value = line.lower().partition(b":")
                lengths[name] = value.strip()
            if status == 101:
                return status, ""
            if lengths.get(b"transfer-encoding") == b"chunked":
                return status, answer.read().decode()
            return status, answer.read(int(lengths.get(b"content-length", b"0"))).decode()
