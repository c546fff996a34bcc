"""Sessions for third-party servers: they use the proxy of the environment, and no passwords from a netrc."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.server.features.tools.web import Site, page, redirect, serving
from yarl import URL

from portico_server.http.client import open_session, proxy_of

LIMIT = aiohttp.ClientTimeout(total=30)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A proxy that answers itself, and a server on this machine; a netrc has a password for every host."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with serving(
        {"/here": page("here"), "/moved": redirect("http://cdn.example/here"), "/back": redirect("/here")}
    ) as site:
        yield site


def sent(site: Site) -> list[tuple[str, str | None, str | None]]:
    """Return the host of each request, and its credentials for the host and the proxy."""
    return [
        (request.host, request.headers.get("Authorization"), request.headers.get("Proxy-Authorization"))
        for request in site.requests
    ]


@pytest.mark.parametrize("token", ["", "Bearer pk-ours"])
async def test_requests_and_redirects_use_the_proxy_and_redirects_drop_the_token(
    site: Site, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://us:word@{site.host}")
    headers = {"Authorization": token} if token else {}
    async with (
        open_session(LIMIT) as session,
        session.get("http://hub.example/moved", headers=headers) as answer,
    ):
        assert await answer.text() == "here"
    proxy = f"Basic {b64encode(b'us:word').decode()}"
    assert sent(site) == [("hub.example", token or None, proxy), ("cdn.example", None, proxy)]


async def test_requests_to_this_machine_bypass_the_proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with open_session(LIMIT) as session, session.get(f"{site.url}/back") as answer:
        assert await answer.text() == "here"
    assert sent(site) == [(site.host, None, None)] * 2


def test_the_proxy_of_a_url_is_chosen_from_the_environment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(url: str) -> str:
        return str(proxy_of(URL(url)) or "")

    assert named("https://hub.example/x") == ""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "socks5://proxy.example:1080")
    monkeypatch.setenv("no_proxy", "near.example")
    assert named("https://hub.example/x") == "http://proxy.example:3128"
    for direct in ("https://near.example", "https://localhost", "https://[::1]:8", "http://hub.example"):
        assert named(direct) == ""
