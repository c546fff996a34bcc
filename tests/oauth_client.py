"""A person with a key who answers an OAuth client on the consent page, without a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)

CALLBACK = "http://127.0.0.1:8765/callback"


class TokenStorage:
    """What an MCP client remembers, in memory."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def consent(url: str, query: str, key: str, *, approve: bool = True) -> dict[str, str]:
    """Answer a client as the owner of a key; return the parameters with which the browser returns to the client."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        answer = await http.post(
            "/api/authorization",
            json={"query": query, "approve": approve},
            headers={"authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 200, answer.text
    return dict(parse_qsl(urlsplit(answer.json()["location"]).query))


@asynccontextmanager
async def mcp_client(address: str, key: str, storage: TokenStorage, **options: Any) -> AsyncIterator[Client]:
    """Connect the MCP package's client to a bare address; the owner of ``key`` grants what it asks for."""
    url = address.partition("/mcp")[0]
    redirect_parameters: dict[str, str] = {}

    async def open_browser(location: str) -> None:
        page = urlsplit(location)
        assert f"{page.scheme}://{page.netloc}{page.path}" == f"{url}/authorize"
        redirect_parameters.update(await consent(url, page.query, key))

    async def on_return() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=redirect_parameters["code"],
            state=redirect_parameters.get("state"),
            iss=redirect_parameters.get("iss"),
        )

    metadata = OAuthClientMetadata.model_validate({"client_name": "Tester", "redirect_uris": [CALLBACK]})
    auth = OAuthClientProvider(address, metadata, storage, open_browser, on_return, **options)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=60) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        yield client
