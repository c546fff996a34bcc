"""Fetching from the network: what parts that go out ask of the one client that goes nowhere it should not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from portico_server.core.errors import NotFound, TooLarge


@dataclass(frozen=True, slots=True)
class Arrival:
    """An answer whose body is still to come. ``url`` is the last one of a chain of redirects.

    ``headers`` in lower case. ``body`` is what was sent, decompressed, and can be read once, while the answer is open.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    media_type: str
    body: AsyncIterator[bytes]


class Session(Protocol):
    """Some requests that share their connections."""

    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float,
        method: str = "GET",
        signed: bool = False,
    ) -> AbstractAsyncContextManager[Arrival]:
        """Ask for ``url``; ``seconds`` hold over redirects, headers and the body that is read while it is open.

        ``signed``: the URL is sent exactly as it is and no redirect is followed, since a signature is for one address.
        Raises `InvalidRequest` for an address that is not allowed, another `PorticoError` if nothing comes.
        """


class Fetcher(Protocol):
    """The client."""

    def session(self, trusted: Collection[str] = ()) -> AbstractAsyncContextManager[Session]:
        """Requests to public addresses, to hosts that the operator allows to be fetched from, and to ``trusted`` ones.

        ``trusted`` as ``NAME:PORT``: what an operator's own setting says.
        """


async def whole(fetcher: Fetcher, url: str, *, limit: int, seconds: float) -> bytes:
    """All that is at ``url``, at most ``limit`` bytes. Raises as `Session.open`, `TooLarge` and `NotFound`."""
    data = bytearray()
    async with fetcher.session() as session, session.open(url, seconds=seconds) as arrival:
        if arrival.status != 200:
            raise NotFound(f"{url[:200]} answered HTTP {arrival.status}.", code="url_not_found")
        async for block in arrival.body:
            data += block
            if len(data) > limit:
                raise TooLarge(f"What is at {url[:200]} is larger than {limit >> 20} MB.")
    return bytes(data)
