"""aiohttp sessions for requests to other servers. They use the proxy from the environment and limit interim responses.

Imports aiohttp.
"""

from __future__ import annotations

import os
import socket
import ssl
from base64 import b64encode
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from portico_server.child_environment import is_local

MAX_INTERIM_ANSWERS_COUNT: Final = 16
"""Maximum number of interim responses (status below 200, such as 100 Continue and 103 Early Hints) before the
final one.
"""


class HttpAnswer(aiohttp.ClientResponse):
    """A response with a limited number of interim responses.

    aiohttp reads interim responses indefinitely and does not yield to the event loop while more are buffered, so a
    server that sends only interim responses would block the daemon.
    """

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        interim = 0

        async def read() -> Any:
            nonlocal interim
            message, payload = await type(protocol).read(protocol)
            interim += message.code < 200
            if interim > MAX_INTERIM_ANSWERS_COUNT:
                raise HttpProcessingError(
                    code=502, message=f"more than {MAX_INTERIM_ANSWERS_COUNT} interim responses"
                )
            return message, payload

        protocol.read = read
        try:
            return await super().start(connection)
        finally:
            del protocol.read


def failure_reason(error: BaseException) -> str:
    """Return why a connection failed, without the address: callers of a model must not learn where the model runs."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "verify_message", "") or cause.reason or "TLS failed"
    if isinstance(cause, socket.gaierror):
        return str(cause.strerror)
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connecting timed out"
    is_named = isinstance(error, aiohttp.InvalidURL | aiohttp.ClientResponseError)
    return (not is_named and str(error)) or type(error).__name__


def proxy_of(url: URL) -> URL | None:
    """Return the proxy that the environment sets for a URL, or ``None``. Requests to this machine never use a proxy."""
    host = url.host
    if host is None or is_local(host) or proxy_bypass(host):
        return None
    proxy = URL(getproxies().get(url.scheme, ""))
    return proxy if proxy.scheme in ("http", "https") else None


async def _through_proxy(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    proxy = proxy_of(request.url)
    if proxy is not None:
        headers: dict[str, str] = {}
        if proxy.user is not None:
            login = f"{proxy.user}:{proxy.password or ''}".encode()
            headers["Authorization"] = (
                f"Basic {b64encode(login).decode()}"  # aiohttp sends the credentials only to the proxy
            )
        request.update_proxy(proxy.with_user(None), None, headers)
    return await send(request)


def open_session(
    timeout: aiohttp.ClientTimeout, *, is_proxied: bool = True, **options: Any
) -> aiohttp.ClientSession:
    """Open a session for requests to other servers. ``options`` are options of `aiohttp.ClientSession`.

    With ``is_proxied``, each request, including redirects, uses the proxy that the environment sets for its URL.
    aiohttp's ``trust_env`` is not used, because it would also send passwords from ``~/.netrc``, which may set one for
    all hosts.
    """
    return aiohttp.ClientSession(
        timeout=timeout,
        response_class=HttpAnswer,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_through_proxy,) if is_proxied else (),
        **options,
    )
