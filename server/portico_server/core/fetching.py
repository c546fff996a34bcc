"""The interface for fetching URLs, through a single client that reaches only permitted addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound, TooLarge


@dataclass(frozen=True, slots=True)
class FetchedResponse:
    """A response whose body has not been read. ``url`` is the last URL in the chain of redirects.

    Header names are in lower case. ``body`` is decompressed, and can be read once while the response is open.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    media_type: str
    body: AsyncIterator[bytes]


class FetchSession(Protocol):
    """A session whose requests share connections."""

    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float,
        method: str = "GET",
        is_signed: bool = False,
        body: bytes | None = None,
    ) -> AbstractAsyncContextManager[FetchedResponse]:
        """Request ``url``; ``seconds`` limits the total time for redirects, headers and reading the body.

        ``body`` is the body to send. With ``is_signed``, the URL is sent unchanged and no redirect is followed,
        because a signature is valid for only one address. Raises `InvalidRequest` for a forbidden address, and another
        `PorticoError` if the request fails.
        """


class Fetcher(Protocol):
    """The HTTP client for outgoing requests."""

    def session(self, trusted_hosts: Collection[str] = ()) -> AbstractAsyncContextManager[FetchSession]:
        """Open a session for public addresses, hosts that the operator permits, and ``trusted_hosts``.

        ``trusted_hosts`` have the form ``NAME:PORT``, and must come from a setting of the operator.
        """

    def check(self, url: str, *, secure: bool = False) -> None:
        """Raise `InvalidRequest` if the host name alone shows that the address is forbidden.

        With ``secure``, only https is allowed, except for a host that the operator has permitted.
        """

    async def addresses(self, url: str) -> Sequence[str]:
        """Return the IP addresses of the host in ``url``, for a program that connects to them itself. Raises the same
        errors as `FetchSession.open`.
        """


async def read_whole(fetcher: Fetcher, url: str, *, limit: int, seconds: float) -> bytes:
    """Return the content of ``url``, at most ``limit`` bytes. Raises the same errors as `FetchSession.open`,
    `TooLarge` and `NotFound`.
    """
    data = bytearray()
    async with fetcher.session() as session, session.open(url, seconds=seconds) as arrival:
        if arrival.status != 200:
            raise NotFound(f"{url[:200]} answered HTTP {arrival.status}.", code="url_not_found")
        async for block in arrival.body:
            data += block
            if len(data) > limit:
                raise TooLarge(f"The content of {url[:200]} exceeds {limit >> 20} MB.")
    return bytes(data)
