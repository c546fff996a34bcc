"""Fetching from the network: what parts that go out ask of the one client that goes nowhere it should not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound, TooLarge


@dataclass(frozen=True, slots=True)
class FetchedResponse:
    """An answer whose body is still to come. ``url`` is the last one of a chain of redirects.

    ``headers`` in lower case. ``body`` is what was sent, decompressed, and can be read once, while the answer is open.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    media_type: str
    body: AsyncIterator[bytes]


class FetchSession(Protocol):
    """Some requests that share their connections."""

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
        """Ask for ``url``; ``seconds`` hold over redirects, headers and the body that is read while it is
        open.

        ``body`` is sent. ``is_signed``: the URL is sent exactly as it is and no redirect is followed, since a
        signature is for one address. Raises `InvalidRequest` for an address that is not allowed, another
        `PorticoError` if nothing comes.
        """


class Fetcher(Protocol):
    """The client."""

    def session(self, trusted_hosts: Collection[str] = ()) -> AbstractAsyncContextManager[FetchSession]:
        """Requests to public addresses, to hosts that the operator allows to be fetched from, and to
        ``trusted_hosts`` ones.

        ``trusted_hosts`` as ``NAME:PORT``: what an operator's own setting says.
        """

    def check(self, url: str, *, secure: bool = False) -> None:
        """Raise `InvalidRequest` for an address that will not be asked, as far as its name alone says so.

        ``secure``: only https, except where the operator has named the host.
        """

    async def addresses(self, url: str) -> Sequence[str]:
        """The IP addresses behind ``url``, for a program that asks them itself. Raises as `FetchSession.open`."""


async def read_whole(fetcher: Fetcher, url: str, *, limit: int, seconds: float) -> bytes:
    """All that is at ``url``, at most ``limit`` bytes. Raises as `FetchSession.open`, `TooLarge` and `NotFound`."""
    data = bytearray()
    async with fetcher.session() as session, session.open(url, seconds=seconds) as arrival:
        if arrival.status != 200:
            raise NotFound(f"{url[:200]} answered HTTP {arrival.status}.", code="url_not_found")
        async for block in arrival.body:
            data += block
            if len(data) > limit:
                raise TooLarge(f"What is at {url[:200]} is larger than {limit >> 20} MB.")
    return bytes(data)
