"""OAuth clients: dynamic registration, and clients whose id is the address of their metadata document.

Sources: RFC 7591, draft-ietf-oauth-client-id-metadata-document. All clients are public: they prove with PKCE that they
started a request, so the daemon stores no secret of theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from portico_server.api.auth.oauth_errors import OAuthError, RegistrationLimited
from portico_server.api.auth.redirects import is_redirect_uri
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.fetching import Fetcher
from portico_server.core.ids import new_id
from portico_server.core.names import is_plain
from portico_server.db import oauth_clients
from portico_server.db.database import Database
from portico_server.db.oauth_clients import HOUR_S, ClientRow

MAX_DOCUMENT_BYTES: Final = 2**14
"""Maximum size of a registration request and of a metadata document, in bytes."""

MAX_REDIRECT_URIS: Final = 10
MAX_NAME_CHARS: Final = 100
MAX_CLIENT_ID_CHARS: Final = 1_000

FETCH_TIMEOUT_S: Final = 5.0
MAX_FETCHES: Final = 4
"""Maximum number of metadata documents that are fetched at the same time."""

DOCUMENT_TTL_S: Final = 60.0
MAX_DOCUMENTS: Final = 256

GRANT_TYPES: Final = ("authorization_code", "refresh_token")


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """The parts of a client's metadata that the daemon uses."""

    name: str
    redirect_uris: Sequence[str]


class OAuthClients:
    """The known clients. Registered clients are rows in the database; ``fetcher`` reads metadata documents."""

    def __init__(self, database: Database, fetcher: Fetcher) -> None:
        self._database = database
        self._fetcher = fetcher
        self._slots = asyncio.Semaphore(MAX_FETCHES)
        self._documents: OrderedDict[str, tuple[float, ClientRow]] = OrderedDict()
        """Clients with the time at which their metadata document must be fetched again, keyed by address."""

    async def register(self, document: Mapping[str, Any], address: str) -> ClientRow:
        """Register a client for a program at a network address. Raises `OAuthError`."""
        metadata = read_metadata(document)
        row = ClientRow(new_id("client_"), metadata.name, list(metadata.redirect_uris), address, time.time())
        if not await self._database.write(oauth_clients.register, row):
            raise RegistrationLimited(
                "temporarily_unavailable",
                "Too many clients were registered. Use a registered client, or try again in an hour.",
                retry_after=HOUR_S,
            )
        return row

    async def find(self, client_id: str) -> ClientRow | None:
        """Return a client that is registered, or that a person has granted access to."""
        return await self._database.read(oauth_clients.get, client_id)

    async def get(self, client_id: str) -> ClientRow:
        """Return a registered client, or the client that a metadata document describes. Raises `OAuthError`."""
        if "://" in client_id:
            return await self._from_document(client_id)
        row = await self.find(client_id)
        if row is None:
            raise OAuthError(
                "invalid_client",
                "This client is not registered, or its registration has expired. Register it again.",
            )
        return row

    async def _from_document(self, address: str) -> ClientRow:
        cached = self._documents.get(address)
        if cached is not None and time.monotonic() < cached[0]:
            return cached[1]
        self._check_address(address)
        try:
            document = orjson.loads(await self._fetch(address))
        except (PorticoError, TimeoutError, orjson.JSONDecodeError) as error:
            raise OAuthError(
                "invalid_client", f"The metadata document {address[:200]} cannot be read: {error}"
            ) from error
        if not isinstance(document, dict) or document.get("client_id") != address:
            raise OAuthError(
                "invalid_client",
                f"The metadata document {address[:200]} does not have its own address as the client_id.",
            )
        if document.get("token_endpoint_auth_method", "none") != "none" or "client_secret" in document:
            raise OAuthError(
                "invalid_client",
                f"The client {address[:200]} authenticates itself with a secret or a key. Only public clients "
                "with PKCE are supported: its token_endpoint_auth_method must be 'none'.",
            )
        metadata = read_metadata(document)
        row = ClientRow(address, metadata.name, list(metadata.redirect_uris), "", time.time())
        self._documents[address] = (time.monotonic() + DOCUMENT_TTL_S, row)
        if len(self._documents) > MAX_DOCUMENTS:
            self._documents.popitem(last=False)
        return row

    def _check_address(self, address: str) -> None:
        """Raise `OAuthError` unless an address may be that of a metadata document."""
        try:
            parts = urlsplit(address)
            has_place = bool(parts.hostname) and parts.path not in ("", "/")
        except ValueError:
            has_place = False
        if (
            not has_place
            or len(address) > MAX_CLIENT_ID_CHARS
            or "@" in parts.netloc
            or "#" in address
            or {".", ".."} & set(parts.path.split("/"))
        ):
            raise OAuthError(
                "invalid_client",
                "This client_id is not the address of a metadata document, such as https://example.com/client.json.",
            )
        try:
            self._fetcher.check(address, secure=True)
        except PorticoError as error:
            raise OAuthError("invalid_client", error.message) from error

    async def _fetch(self, address: str) -> bytes:
        """Return a metadata document. A redirect is not followed, because the document must be at its own address."""
        data = bytearray()
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            self._slots,
            self._fetcher.session() as session,
            session.open(
                address, {"accept": "application/json"}, seconds=FETCH_TIMEOUT_S, is_signed=True
            ) as arrival,
        ):
            if arrival.status != 200:
                raise OAuthError("invalid_client", f"it answered HTTP {arrival.status}, expected 200.")
            async for block in arrival.body:
                data += block
                if len(data) > MAX_DOCUMENT_BYTES:
                    raise OAuthError("invalid_client", f"it has more than {MAX_DOCUMENT_BYTES:,} bytes.")
        return bytes(data)


def read_metadata(document: Mapping[str, Any]) -> ClientMetadata:
    """Return the metadata of a client. Raise `OAuthError` if the daemon cannot serve such a client."""
    uris = document.get("redirect_uris")
    if not isinstance(uris, list) or not 0 < len(uris) <= MAX_REDIRECT_URIS:
        raise OAuthError(
            "invalid_redirect_uri", f"'redirect_uris' must be a list of 1 to {MAX_REDIRECT_URIS} addresses."
        )
    for uri in uris:
        if not isinstance(uri, str) or not is_redirect_uri(uri):
            raise OAuthError(
                "invalid_redirect_uri",
                f"'{str(uri)[:200]}' cannot be a redirect address. Use https, http to 127.0.0.1, or the private "
                "scheme of an app, without a fragment.",
            )
    name = document.get("client_name") or urlsplit(uris[0]).hostname or "OAuth client"
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not is_plain(name):
        raise OAuthError(
            "invalid_client_metadata",
            f"'client_name' must be plain text of at most {MAX_NAME_CHARS} characters.",
        )
    for field, value in (("grant_types", "authorization_code"), ("response_types", "code")):
        values = document.get(field)
        if values is not None and (not isinstance(values, list) or value not in values):
            raise OAuthError("invalid_client_metadata", f"'{field}' must contain '{value}'.")
    return ClientMetadata(name, uris)
