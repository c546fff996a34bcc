"""A daemon with a key behind real reverse proxies: with the configurations of docs/proxies.md everything works, at the
root and under a path; with a newcomer's configurations, what does not work is said in words.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from tests import daemon as daemons
from tests import proxies
from tests.browser import CHROMIUM, browser
from tests.certificates import write_self_signed
from tests.oauth_client import TokenStorage, mcp_client
from tests.page import REFUSED, answered, ask
from websockets.sync.client import connect

from portico import Client, TooLarge, Unauthenticated

pytestmark = pytest.mark.slow

KEY = "the-operators-own-key"
BIG_BYTES = 20_000_000
MODELS = [
    {
        "name": "house",
        "source": "fake://",
        "aliases": ["default"],
        "parameters": {
            "script": [
                {"match": "stop", "content": "One two three.", "hang": 1},
                {"match": "slowly", "content": "At last.", "delay": 14},
            ]
        },
    },
    {"name": "vectors", "source": "fake://", "task": "embedding"},
]
NAMES = list(proxies.PROXIES)


@dataclass(frozen=True, slots=True)
class Proxied:
    """The address at which a proxy serves the daemon, and the file with its certificate if it has one."""

    name: str
    url: str
    certificate: Path | None = None

    def websocket(self, path: str) -> Any:
        """Return an open WebSocket to the daemon, with the key."""
        context = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        url = f"ws{self.url.removeprefix('http')}{path}"
        headers = {"Authorization": f"Bearer {KEY}"}
        return connect(url, ssl=context, additional_headers=headers, proxy=None, open_timeout=60)


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configuration") / "portico.yaml"
    path.write_text(json.dumps({"models": MODELS}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    write_self_signed(path, "localhost")
    return path


@pytest.fixture(
    scope="module",
    params=[(name, path) for name in NAMES for path in (False, True)],
    ids=[f"{name}-{place}" for name in NAMES for place in ("root", "path")],
)
def recipe(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    configuration: Path,
    certificate: Path,
) -> Iterator[Proxied]:
    """A daemon behind a proxy with TLS, as docs/proxies.md says."""
    name, path = request.param
    port = proxies.free_port()
    url = f"https://localhost:{port}{proxies.PATH if path else ''}"
    folder = tmp_path_factory.mktemp("proxy")
    settings = {"PORTICO_API_KEY": KEY, "PORTICO_PUBLIC_URL": url}
    with (
        daemons.running(folder / "home", "--file", str(configuration), env=settings) as daemon,
        proxies.recipe(name, folder, port, daemon.url, certificate, path=path),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(certificate))
        yield Proxied(name, url, certificate)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, configuration: Path) -> Iterator[daemons.Daemon]:
    home = tmp_path_factory.mktemp("home")
    with daemons.running(home, "--file", str(configuration), env={"PORTICO_API_KEY": KEY}) as running:
        yield running


@pytest.fixture(
    scope="module",
    params=[(name, form) for name in NAMES for form in ("root", "path")],
    ids=[f"{name}-{form}" for name in NAMES for form in ("root", "path")],
)
def naive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, daemon: daemons.Daemon
) -> Iterator[Proxied]:
    """A daemon behind a proxy as a newcomer configures it."""
    name, form = request.param
    with proxies.naive(name, tmp_path_factory.mktemp("proxy"), daemon.url, form) as url:
        yield Proxied(name, url)


def test_calls_streams_and_uploads_pass(recipe: Proxied, tmp_path: Path) -> None:
    big = tmp_path / "big.txt"
    big.write_bytes(b"A line.\n" * (BIG_BYTES // 8))
    with Client(recipe.url, KEY) as client:
        assert client.chat("Hello there", model="house").read().text == "Hello there"
        # The engine stops after the first word and does not end, so the word arrives only if nothing buffers it.
        pieces = iter(client.chat("stop", model="house"))
        assert next(pieces).startswith("One")
        file = client.files.add(big)
        assert client.files.get(file.id).bytes == BIG_BYTES


def test_a_wrong_key_is_refused_with_the_daemons_words(recipe: Proxied) -> None:
    with Client(recipe.url, "pk-wrong") as client, pytest.raises(Unauthenticated):
        client.models.list()


def test_a_websocket_opens(recipe: Proxied) -> None:
    with recipe.websocket("/v1/realtime?model=house") as socket:
        assert json.loads(socket.recv(60))["type"] == "session.created"


async def test_an_mcp_client_signs_in(recipe: Proxied) -> None:
    storage = TokenStorage()
    async with mcp_client(f"{recipe.url}/mcp", KEY, storage) as client:
        assert (await client.list_tools()).tools
    assert storage.tokens is not None


def test_an_mcp_client_with_a_key_is_served(recipe: Proxied) -> None:
    assert _initialized(recipe) == 200


def _initialized(proxied: Proxied) -> int:
    """Return the status of the call that begins a session of MCP."""
    client_info = {"name": "Tester", "version": "1"}
    parameters = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client_info}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "application/json, text/event-stream"}
    return httpx.post(f"{proxied.url}/mcp", json=body, headers=headers, timeout=60).status_code


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
async def test_the_page_signs_in_and_chats(recipe: Proxied, tmp_path: Path) -> None:
    async with browser(tmp_path / "profile", "--ignore-certificate-errors") as page:
        await page.open(recipe.url)  # without its last slash
        await page.until("document.querySelector('#unlock')")
        assert await page.run("location.href.split('#')[0]") == f"{recipe.url}/"
        await page.type("#key", KEY)
        await page.press_enter()
        await page.until("document.querySelector('#question')")
        await ask(page, "Hello page")
        assert await answered(page) == "Hello page"
        links = await page.run("[...document.querySelectorAll('a[href]')].map((it) => it.href)")
        assert f"{recipe.url}/docs" in links
        await page.open(f"{recipe.url}/docs")
        await page.until("document.querySelectorAll('.opblock').length > 0")
        server = await page.run("document.querySelector('.servers').innerText")
        assert server.strip() == (proxies.PATH if recipe.url.endswith(proxies.PATH) else "/")
        assert [complaint for complaint in page.complaints if not complaint.startswith(REFUSED)] == []


def test_calls_pass_a_newcomers_proxy(naive: Proxied) -> None:
    with Client(naive.url, KEY) as client:
        assert client.chat("Hello there", model="house").read().text == "Hello there"
    assert _initialized(naive) == 200


def test_a_newcomers_proxy_passes_an_upload_or_its_refusal_is_a_sentence(
    naive: Proxied, tmp_path: Path
) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(b"A line.\n" * 400_000)
    with Client(naive.url, KEY) as client:
        if naive.name == "nginx":
            with pytest.raises(TooLarge, match=r"\(nginx\) refused 3\.2 MB: raise client_max_body_size"):
                client.files.add(file)
        else:
            assert client.files.add(file).bytes == 3_200_000


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
async def test_an_upload_that_a_proxy_refuses_ends_with_a_sentence_in_the_page(
    configuration: Path, certificate: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(b"A line.\n" * 400_000)
    port = proxies.free_port()
    url = f"https://localhost:{port}"
    settings = {"PORTICO_API_KEY": KEY, "PORTICO_PUBLIC_URL": url}
    smaller = ("client_max_body_size 0", "client_max_body_size 1m")
    with (
        daemons.running(tmp_path / "home", "--file", str(configuration), env=settings) as running,
        proxies.recipe("nginx", tmp_path, port, running.url, certificate, replace=smaller),
    ):
        async with browser(tmp_path / "profile", "--ignore-certificate-errors") as page:
            await page.open(url)
            await page.type("#key", KEY)
            await page.press_enter()
            await page.until("document.querySelector('#files') && !document.querySelector('#send').disabled")
            await page.choose_file("#files", file)
            await page.until("document.querySelector('dialog[open] [data-choice]')")
            await page.run("document.querySelector('dialog[open] [data-choice]').click()")
            assert await page.until(
                "[...document.querySelectorAll('.trouble')].map((it) => it.innerText)"
                ".find((text) => text.includes('(nginx) refused 3.2 MB: raise client_max_body_size'))"
            )


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
async def test_the_page_is_never_blank_behind_a_newcomers_proxy(naive: Proxied, tmp_path: Path) -> None:
    async with browser(tmp_path / "profile") as page:
        await page.open(naive.url + "/")
        await page.until(
            "document.querySelector('#unlock') || (document.querySelector('.unloaded')?.offsetHeight > 0 && "
            "document.body.innerText.includes('docs/proxies.md'))"
        )


SHORT_TIMEOUTS = {
    "nginx": ("location / {", "proxy_read_timeout 12s; location / {"),
    "caddy": ("reverse_proxy DAEMON", "reverse_proxy DAEMON {\ntransport http {\nread_timeout 12s\n}\n}"),
    "haproxy": ("timeout server 50s", "timeout server 12s"),
    "apache2": ("ProxyPass /", "ProxyTimeout 12\nProxyPass /"),
}
"""A part of each newcomer's configuration, and what makes its wait for the daemon shorter than the model's silence."""


@pytest.mark.parametrize("form", ["chat", "messages"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_outlives_the_patience_of_a_proxy_while_the_model_is_silent(
    name: str, form: Literal["chat", "messages"], daemon: daemons.Daemon, tmp_path: Path
) -> None:
    body = {
        "model": "house",
        "max_tokens": 50,
        "stream": True,
        "messages": [{"role": "user", "content": "slowly"}],
    }
    path = "/v1/chat/completions" if form == "chat" else "/v1/messages"
    with proxies.naive(name, tmp_path, daemon.url, replace=SHORT_TIMEOUTS[name]) as url:
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(url + path, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200 and "last" in answer.text


@pytest.mark.parametrize("name", NAMES)
def test_a_large_body_with_a_wrong_key_gets_the_daemons_401(
    name: str, daemon: daemons.Daemon, tmp_path: Path
) -> None:
    bigger = ("location / {", "client_max_body_size 0; location / {") if name == "nginx" else ("", "")
    with proxies.naive(name, tmp_path, daemon.url, replace=bigger) as url:
        for size in (1_000_000, 3_000_000, BIG_BYTES, 100_000_000):
            headers = {"Authorization": "Bearer pk-wrong", "Content-Type": "application/json"}
            answer = httpx.post(f"{url}/v1/files", content=b"x" * size, headers=headers, timeout=60)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), size


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_may_leave_the_path_in_the_address(name: str, configuration: Path, tmp_path: Path) -> None:
    settings = {"PORTICO_API_KEY": KEY, "PORTICO_PUBLIC_URL": f"http://localhost{proxies.PATH}"}
    with (
        daemons.running(tmp_path / "home", "--file", str(configuration), env=settings) as running,
        proxies.naive(name, tmp_path, running.url) as url,
        Client(url + proxies.PATH, KEY) as client,
    ):
        assert client.chat("Hello there", model="house").read().text == "Hello there"
        page = httpx.get(f"{url}{proxies.PATH}/")
        assert page.status_code == 200 and 'src="web/' in page.text
