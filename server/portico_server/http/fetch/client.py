"""The single client through which tools fetch. Imports aiohttp: import this module when the first tool fetches.

The client connects to the address that was checked, for every hop of a redirect. One deadline applies to everything,
because socket timeouts restart with every byte.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from portico_server import __version__
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.words import decode_text
from portico_server.http.client import HttpAnswer
from portico_server.http.fetch.headers import is_unsafe
from portico_server.http.fetch.policy import AddressPolicy, is_public

_AGENT: Final = f"Portico/{__version__} (+tool)"
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_KEPT_ACROSS_ORIGINS: Final = {"accept", "accept-language", "user-agent"}


class FetchFailed(PorticoError):
    """The server could not be reached, or did not respond with valid HTTP."""

    status = 502
    type = "server_error"
    code = "fetch_failed"


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A request to fetch. ``headers`` are not sent to another origin after a redirect."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The response from ``url``, the last URL of a chain of redirects. ``truncated``: the body exceeded the size
    limit.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    media_type: str
    charset: str | None
    data: bytes
    truncated: bool

    @property
    def text(self) -> str:
        """Return the body, decoded with its declared encoding, or as UTF-8."""
        return decode_text(self.data, self.charset or "utf-8")


async def fetch(ask: FetchRequest, policy: AddressPolicy) -> Fetched:
    """Fetch a URL. Raise `InvalidRequest` for a forbidden address, `FetchFailed` for any other problem."""
    try:
        async with (
            asyncio.timeout(policy.timeout),
            open_session(policy) as session,
            follow_redirects(session, ask, policy) as response,
        ):
            return await _read(response, policy)
    except TimeoutError as error:
        raise too_slow(ask.url, policy.timeout) from error
    except (aiohttp.ClientError, OSError, ssl.SSLError, UnicodeError) as error:
        raise failure(ask.url, error) from error


def too_slow(url: str, seconds: float) -> FetchFailed:
    """Return the error for a fetch that has reached its deadline."""
    return FetchFailed(
        f"{_excerpt(url)} did not respond completely within {seconds:g} s.", code="fetch_timeout"
    )


def failure(url: str, error: Exception) -> FetchFailed:
    """Return the error for a failed connection or an invalid response."""
    reason = str(error) or type(error).__name__
    return FetchFailed(f"{_excerpt(url)} could not be fetched: {reason[:300]}")


def open_session(policy: AddressPolicy, *, keep: bool = False) -> aiohttp.ClientSession:
    """Return a session restricted by ``policy``. ``keep``: the session keeps connections for further requests."""
    connector = aiohttp.TCPConnector(
        resolver=_Checked(policy), use_dns_cache=False, force_close=not keep, limit=8 if keep else 4
    )
    return aiohttp.ClientSession(
        connector=connector,
        response_class=HttpAnswer,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        trust_env=False,  # a proxy would resolve the name again, and Portico could not check the address
        headers={"User-Agent": _AGENT},
        max_line_size=16_384,
        max_field_size=16_384,
    )


@asynccontextmanager
async def follow_redirects(
    session: aiohttp.ClientSession, ask: FetchRequest, policy: AddressPolicy, *, is_signed: bool = False
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Yield the response at the end of the redirects. ``is_signed``: the first URL has a signature and must stay
    unchanged.
    """
    for name, value in ask.headers.items():
        if is_unsafe(value):
            raise InvalidRequest(
                f"The header '{name[:100]}' contains control characters, which are not allowed in headers.",
                code="invalid_header",
                param="headers",
            )
    for _hop in range(policy.redirects + 1):
        url = check_url(ask.url, policy, exact=is_signed)
        async with session.request(
            ask.method, url, headers=ask.headers, data=ask.body, allow_redirects=False
        ) as response:
            location = response.headers.get("Location")
            if is_signed or response.status not in _REDIRECTS or location is None:
                yield response
                return
            ask = _redirected(ask, url, location, response.status)
    raise FetchFailed(
        f"{_excerpt(ask.url)} is the {policy.redirects + 1}th redirect in a row; at most {policy.redirects} "
        "are followed.",
        code="too_many_redirects",
    )


def _redirected(ask: FetchRequest, url: URL, location: str, status: int) -> FetchRequest:
    try:
        target = url.join(URL(location))
    except ValueError as error:
        raise FetchFailed(f"{_excerpt(ask.url)} redirects to something that is not a URL.") from error
    headers = ask.headers
    if not target.is_absolute() or target.origin() != url.origin():
        headers = {name: value for name, value in headers.items() if name.lower() in _KEPT_ACROSS_ORIGINS}
    if status == 303 or (status in (301, 302) and ask.method == "POST"):
        kept_headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return FetchRequest(str(target), "HEAD" if ask.method == "HEAD" else "GET", kept_headers)
    return replace(ask, url=str(target), headers=headers)


def check_url(text: str, policy: AddressPolicy, *, exact: bool = False, secure: bool = False) -> URL:
    """Return the URL if it can be fetched. Its name is not resolved.

    ``secure``: allow only https, except for hosts that the operator has named. Raise `InvalidRequest`.
    """
    try:
        url = URL(text, encoded=exact)
        host, port = url.host, url.port
    except ValueError as error:
        raise InvalidRequest(f"'{text[:200]}' is not a URL.", code="invalid_url", param="url") from error
    if url.scheme not in ("http", "https") or not host or port is None:
        raise InvalidRequest(
            f"'{_excerpt(text)}' cannot be fetched: use an http:// or https:// URL with a host.",
            code="invalid_url",
            param="url",
        )
    if url.user is not None or url.password is not None:
        raise InvalidRequest(
            "URLs with a user name or password cannot be fetched.", code="invalid_url", param="url"
        )
    if _is_literal(host) and not policy.trusts(host, port) and not is_public(host):
        raise _refusal(host)
    if secure and url.scheme != "https" and not policy.trusts(host, port):
        raise InvalidRequest(
            f"'{_excerpt(text)}' is not encrypted: use an https:// URL. The operator can allow a host by name "
            "with the setting 'tool_hosts'.",
            code="insecure_url",
            param="url",
        )
    return url


async def addresses(text: str, policy: AddressPolicy) -> list[str]:
    """Return the IP addresses of a URL, for callers that open the connection themselves.

    Raise `InvalidRequest`, `FetchFailed`.
    """
    url = check_url(text, policy)
    try:
        address_infos = await _Checked(policy).resolve(url.host or "", url.port or 0)
    except OSError as error:
        raise failure(text, error) from error
    return list(dict.fromkeys(address_info["host"] for address_info in address_infos))


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


class _Checked(AbstractResolver):
    """A resolver that refuses names with a non-public address. The connection uses exactly the addresses that were
    checked.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        address_infos = [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, protocol, address in await pools.resolve(host, port, family)
        ]
        if not self._policy.trusts(host, port) and not all(
            is_public(address_info["host"]) for address_info in address_infos
        ):
            raise _refusal(host)
        return address_infos

    async def close(self) -> None:
        """Do nothing: the resolver has no resources to release."""


def _refusal(host: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{host}' is in a private, local or reserved network, which tools cannot access. The operator can "
        "allow a host by name with the setting 'tool_hosts'.",
        code="address_refused",
        param="url",
    )


async def _read(response: aiohttp.ClientResponse, policy: AddressPolicy) -> Fetched:
    data = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        data += chunk
        if len(data) > policy.max_bytes:
            break
    return Fetched(
        url=str(response.url),
        status=response.status,
        headers={name.lower(): value for name, value in response.headers.items()},
        media_type=response.content_type,
        charset=response.charset,
        data=bytes(data[: policy.max_bytes]),
        truncated=len(data) > policy.max_bytes,
    )


def _excerpt(url: str) -> str:
    """Return a URL for a message, without its query, which may contain a secret."""
    return url.partition("?")[0][:200]
