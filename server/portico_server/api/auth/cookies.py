"""The sign-in cookies, and the requests for which they are valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STARTED: Final = "portico-signing-in"
"""Cookie of a browser that was sent to an issuer."""

SIGNED_IN: Final = "portico-signed-in"
"""Cookie of a browser in which a user is signed in."""

MAX_COOKIE_CHARS: Final = 4_096


def cookie_name(name: str, *, secure: bool) -> str:
    """Return the name of a cookie that no other host can set if the browser reaches the daemon over https."""
    return f"__Host-{name}" if secure else name


def set_cookie(name: str, value: str, *, secure: bool, same_site: str, life_s: int | None = None) -> str:
    """Return the header that sets a cookie hidden from scripts.

    The cookie lasts until the browser closes; a lifetime of 0 deletes it.
    """
    life = "" if life_s is None else f"; Max-Age={life_s}"
    tail = "; Secure" if secure else ""
    return f"{cookie_name(name, secure=secure)}={value}; Path=/; HttpOnly; SameSite={same_site}{life}{tail}"


def cookie(headers: Mapping[bytes, bytes], name: str, *, secure: bool) -> str | None:
    """Return the value of a Portico cookie in the headers of a request."""
    full_name = cookie_name(name, secure=secure)
    for pair in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        key, _, value = pair.strip().partition("=")
        if key == full_name and 0 < len(value) <= MAX_COOKIE_CHARS and value.isascii():
            return value
    return None


def is_of_our_page(headers: Mapping[bytes, bytes], method: str, *, socket: bool = False) -> bool:
    """Return whether a request comes from a page of the daemon's own origin.

    Browsers state this for requests over https and to this machine. Elsewhere they send the origin, except when a page
    reads from its own origin.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    origin = headers.get(b"origin")
    if origin is None:
        return method in ("GET", "HEAD") and not socket
    return origin.lower().partition(b"://")[2] == headers.get(b"host", b"?").lower()
