"""Sentences for what stands between a client and the daemon: errors that a proxy wrote, and certificates."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from portico.errors import DeadlineExceeded, NotPortico, PorticoError, TooLarge


@dataclass(frozen=True, slots=True)
class _Proxy:
    """A proxy with the names of its limits. ``sign`` matches its header ``Server`` and the text of its errors."""

    name: str
    sign: re.Pattern[str]
    size_limit: str
    time_limit: str
    other_cause: str = ""
    """What else its HTTP 502 can mean, as the end of a sentence."""


_LATE = ", or raise ProxyTimeout if the answer takes long"
_LARGE = ", or raise request_body max_size if the request is large"
_PROXIES = (
    _Proxy("nginx", re.compile(r"nginx|openresty", re.I), "client_max_body_size", "proxy_read_timeout"),
    _Proxy("Apache", re.compile(r"\bapache\b", re.I), "LimitRequestBody", "ProxyTimeout", _LATE),
    _Proxy(
        "Caddy", re.compile(r"^caddy\b", re.I), "request_body max_size", "response_header_timeout", _LARGE
    ),
    _Proxy(
        "HAProxy",
        re.compile(r"^\s*<html><body><h1>\d{3} [\w -]+</h1>\s*[^<]*</body></html>\s*$", re.I),
        "",
        "timeout server",
    ),
)
_PLAIN_HTTP = re.compile(r"plain HTTP|HTTP request to an HTTPS server", re.I)
"""What servers answer to a request without TLS at a port that expects TLS."""

_MAX_READ_CHARS = 4_096

_UNTRUSTED = frozenset((18, 19, 20, 21))
"""OpenSSL's codes for a certificate whose issuer is unknown, ``X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT`` and others."""


def proxy_error(status: int, headers: Mapping[str, str], body: bytes, sent_bytes: int) -> PorticoError | None:
    """Return the error in a response that a proxy in front of the daemon wrote, or ``None`` if nothing shows that a
    proxy wrote it. ``sent_bytes``: the size of the request's body; 0 if unknown.

    The caller has checked that the body is not an error of the daemon.
    """
    text = body[:_MAX_READ_CHARS].decode(errors="replace")
    server = headers.get("server", "")
    proxy = next((proxy for proxy in _PROXIES if proxy.sign.search(server) or proxy.sign.search(text)), None)
    name = "The proxy in front of Portico" + (f" ({proxy.name})" if proxy else "")
    if status == 413:
        size = _amount(sent_bytes) if sent_bytes else "the request"
        limit = proxy.size_limit if proxy and proxy.size_limit else "its limit on the size of a request"
        return TooLarge(f"{name} refused {size}: raise {limit}.", status=status, code="proxy")
    if status == 504:
        limit = proxy.time_limit if proxy else "its limit on the time until an answer"
        message = f"{name} stopped waiting for Portico's answer: raise {limit}."
        return DeadlineExceeded(message, status=status, code="proxy")
    if status in (502, 503):
        other_cause = proxy.other_cause if proxy and status == 502 else ""
        message = (
            f"{name} got no answer from Portico (HTTP {status}): check that Portico runs and that the proxy forwards "
            f"to its address{other_cause}."
        )
    elif proxy is None:
        return None
    elif _PLAIN_HTTP.search(text):
        message = f"{name} expects TLS at this address: use a URL that starts with https://."
    elif status in (401, 407):
        message = f"{name} answered HTTP {status} itself, without Portico: it asks for a sign-in of its own."
    else:
        message = (
            f"{name} answered HTTP {status} itself, without Portico: check the URL with its path, and the "
            "proxy's configuration."
        )
    return NotPortico(message, status=status, code="proxy")


def certificate_error(url: str, error: BaseException) -> PorticoError | None:
    """Return the error for a certificate that is not accepted, or for a server that does not speak TLS; ``None`` if
    ``error`` has another cause.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        advice = "Check the name in the URL, the clock, and the certificate."
        if cause.verify_code in _UNTRUSTED:
            advice = (
                "If it is yours, set SSL_CERT_FILE to the PEM file of the authority that signed it, or of the "
                "certificate itself."
            )
        message = f"The certificate of {url} is not accepted: {cause.verify_message.rstrip('.')}. {advice}"
        return NotPortico(message, code="certificate_not_accepted")
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return NotPortico(f"The server at {url} does not speak TLS: use a URL that starts with http://.")
    return None


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{max(size // 1000, 1)} kB"
