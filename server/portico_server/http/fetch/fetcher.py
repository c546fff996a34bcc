"""The tools' client for other parts of the daemon, which fetch large bodies: streaming and persistent connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from portico_server.core.fetching import FetchedResponse, FetchSession
from portico_server.http.fetch.policy import AddressPolicy

if TYPE_CHECKING:
    import aiohttp

_BLOCK_BYTES: Final = 65_536


class OutwardFetcher:
    """A `portico_server.core.interfaces.Fetcher` with the ``policy`` of the tools, but without the policy's limits on
    time and size.

    Callers set their own limits.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    @asynccontextmanager
    async def session(self, trusted_hosts: Collection[str] = ()) -> AsyncIterator[FetchSession]:
        from portico_server.http.fetch import client

        policy = replace(self._policy, hosts=self._policy.hosts | frozenset(trusted_hosts))
        async with client.open_session(policy, keep=True) as client_session:
            yield _OpenedSession(client_session, policy)

    def check(self, url: str, *, secure: bool = False) -> None:
        from portico_server.http.fetch import client

        client.check_url(url, self._policy, secure=secure)

    async def addresses(self, url: str) -> Sequence[str]:
        from portico_server.http.fetch import client

        return await client.addresses(url, self._policy)


class _OpenedSession:
    def __init__(self, session: aiohttp.ClientSession, policy: AddressPolicy) -> None:
        self._session = session
        self._policy = policy

    @asynccontextmanager
    async def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float,
        method: str = "GET",
        is_signed: bool = False,
        body: bytes | None = None,
    ) -> AsyncIterator[FetchedResponse]:
        import aiohttp

        from portico_server.http.fetch import client

        ask = client.FetchRequest(url, method, dict(headers or {}), body)
        try:
            async with asyncio.timeout(seconds):
                async with client.follow_redirects(
                    self._session, ask, self._policy, is_signed=is_signed
                ) as response:
                    yield FetchedResponse(
                        url=str(response.url),
                        status=response.status,
                        headers={name.lower(): value for name, value in response.headers.items()},
                        media_type=response.content_type,
                        body=response.content.iter_chunked(_BLOCK_BYTES),
                    )
        except TimeoutError as error:
            raise client.too_slow(url, seconds) from error
        except (aiohttp.ClientError, ssl.SSLError, UnicodeError, ConnectionError) as error:
            raise client.failure(url, error) from error
