"""The sign-in cookies, and the check that a request comes from the daemon's own page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from portico_server.api.origins import is_own_origin, origin_of

STARTED: Final = "portico-signing-in"
"""Cookie of a browser that was sent to an issuer to sign in."""

SIGNED_IN: Final = "portico-signed-in"
"""Cookie of a browser in which a user is signed in."""

MAX_COOKIE_CHARS: Final = 4_096


def cookie_name(name: str, base: str) -> str:
    """Return the full name of a cookie for the daemon at ``base``, its address as browsers see it. Over https, no
    other host can set a cookie with this name; browsers require the path ``/`` for that.
    """
    address = urlsplit(base)
    if address.scheme != "https":
        return name
    return f"__Secure-{name}" if address.path else f"__Host-{name}"


def set_cookie(name: str, value: str, base: str, *, same_site: str, life_s: int | None = None) -> str:
    """Return the header that sets a cookie hidden from scripts, which browsers send only to addresses below ``base``,
    the daemon's address without a trailing slash.

    Without ``life_s``, the cookie lasts until the browser closes; 0 deletes it.
    """
    address = urlsplit(base)
    life = "" if life_s is None else f"; Max-Age={life_s}"
    tail = "; Secure" if address.scheme == "https" else ""
    text = f"{cookie_name(name, base)}={value}; Path={address.path}/; HttpOnly"
    return f"{text}; SameSite={same_site}{life}{tail}"


def cookie(headers: Mapping[bytes, bytes], name: str, base: str) -> str | None:
    """Return the value of a Portico cookie in the headers of a request. ``base``: as for `set_cookie`."""
    full_name = cookie_name(name, base)
    for pair in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        key, _, value = pair.strip().partition("=")
        if key == full_name and 0 < len(value) <= MAX_COOKIE_CHARS and value.isascii():
            return value
    return None


def is_of_our_page(headers: Mapping[bytes, bytes], method: str, base: str, *, socket: bool = False) -> bool:
    """Return whether a request comes from a page of the daemon's own origin. ``base`` is the daemon's address.

    Browsers state the relation of the origins in requests over https and in requests to this machine. In other
    requests they send the page's origin, except when a page reads from its own origin.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    origin = headers.get(b"origin")
    if origin is None:
        return method in ("GET", "HEAD") and not socket
    host = headers.get(b"host", b"").decode("latin-1").lower()
    text = origin.decode("latin-1").lower()
    return text == origin_of(base) or is_own_origin(text, host, secure=base.startswith("https:"))
