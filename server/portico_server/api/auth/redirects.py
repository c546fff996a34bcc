"""Redirect addresses of OAuth clients: which addresses a client may register, and which registered address a request
matches.

Sources: RFC 8252 (native apps), RFC 9700 (best practices).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

MAX_REDIRECT_URI_CHARS: Final = 2_000

_FORBIDDEN: Final = frozenset(" \\<>\"'`#")
"""Characters that an address must percent-encode, and the start of a fragment."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_BROWSER_SCHEMES: Final = frozenset(
    {
        *("about", "blob", "chrome", "chrome-extension", "data", "devtools", "edge", "file", "filesystem"),
        *("ftp", "intent", "jar", "javascript", "mailto", "moz-extension", "resource", "sms", "tel"),
        *("vbscript", "view-source", "ws", "wss"),
    }
)
"""Schemes that a browser handles itself: an address with such a scheme does not lead to the client."""


def _parts(uri: str) -> SplitResult | None:
    """Return the parts of an address, or ``None`` if it is malformed."""
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    return parts


def is_redirect_uri(uri: str) -> bool:
    """Return whether a client may register an address: https, http to this machine, or a private scheme of a native
    app such as ``cursor://callback``.
    """
    is_printable = uri.isascii() and uri.isprintable() and _FORBIDDEN.isdisjoint(uri)
    if not is_printable or len(uri) > MAX_REDIRECT_URI_CHARS:
        return False
    parts = _parts(uri)
    if parts is None or "@" in parts.netloc or "://" not in uri:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme == "http":
        return parts.hostname in _LOOPBACK
    return parts.scheme not in _BROWSER_SCHEMES and bool(parts.scheme) and bool(parts.netloc or parts.path)


def matches(registered: str, redirect_uri: str) -> bool:
    """Return whether a redirect address is the registered address. The port of a native app on this machine may
    differ, because the app chooses a free port.
    """
    if registered == redirect_uri:
        return True
    ours, theirs = _parts(registered), _parts(redirect_uri)
    if ours is None or theirs is None or ours.scheme != "http" or ours.hostname not in _LOOPBACK:
        return False
    if not is_redirect_uri(redirect_uri):
        return False
    return (ours.scheme, ours.hostname, ours.path, ours.query) == (
        theirs.scheme,
        theirs.hostname,
        theirs.path,
        theirs.query,
    )


def match_any(registered: Iterable[str], redirect_uri: str) -> bool:
    """Return whether a redirect address is one of the registered addresses."""
    return any(matches(uri, redirect_uri) for uri in registered)


def with_parameters(uri: str, parameters: Mapping[str, str]) -> str:
    """Return a redirect address with parameters added to its query."""
    return f"{uri}{'&' if urlsplit(uri).query else '?'}{urlencode(parameters)}"
