"""``portico web``: one app as a page, with its own key, in frames of the sites that may embed it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser
from tests.client.cli.terminal import COMMAND
from tests.daemon import environment
from tests.page import AXE, violations

TITLE = "Ask <b>us</b>"

CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "house",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {
                "script": [
                    {
                        "match": "How much is the rent",
                        "content": "The rent is 840 euros. [1] The rent of the flat is 95 euros a month. "
                        "<img src=x onerror=alert(1)>",
                    },
                    {"match": "rent story", "content": "One word after the other.", "hang": 2},
                    {"match": "rent busy", "error": {"status": 429, "message": "Slow down."}},
                ]
            },
        },
        {"name": "vectors", "source": "fake://", "task": "embedding"},
    ]
}


@dataclass(frozen=True, slots=True)
class Shared:
    """A daemon and a page for its store alone."""

    daemon: str
    url: str
    html: str
    folder: Path

    def chat(self, body: Any, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}chat", json=body, headers=headers, timeout=60)


@contextmanager
def web(daemon: str, *arguments: str) -> Iterator[dict[str, str]]:
    """Run ``portico web … --json``, and end it as Ctrl-C in a terminal or a supervisor does."""
    command = [*COMMAND, "--url", daemon, "web", *arguments, "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield json.loads(line)
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "docs").mkdir()
    (folder / "docs" / "lease.md").write_text("# Lease\n\nThe rent of the flat is 840 euros a month.\n")
    stores = [{"name": "handbook", "folder": str(folder / "docs"), "embedding_model": "vectors"}]
    (folder / "portico.yaml").write_text(json.dumps({**CONFIGURATION, "stores": stores}))
    with daemons.running(folder / "home", "--file", str(folder / "portico.yaml")) as daemon:
        daemon.settle()
        with web(daemon.url, "handbook", "--title", TITLE, "--origin", "http://127.0.0.1:*") as page_data:
            yield Shared(daemon.url, page_data["url"], page_data["html"], folder)
        names = [key["name"] for key in httpx.get(f"{daemon.url}/api/keys").json()["data"]]
        assert names == [], "its key ends with it"


@pytest.mark.slow
def test_only_the_named_origins_may_embed_the_web_page(shared: Shared) -> None:
    page = httpx.get(shared.url)
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors http://127.0.0.1:*" in policy and "script-src 'self'" in policy
    assert "<title>Ask &lt;b&gt;us&lt;/b&gt;</title>" in page.text and "<b>" not in page.text
    assert shared.html.startswith(f'<iframe src="{shared.url}" title="Ask &lt;b&gt;us&lt;/b&gt;"')
    with web(shared.daemon, "handbook") as page_data:
        policy = httpx.get(page_data["url"]).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy


def test_the_web_page_forwards_only_plain_conversations_with_its_app(shared: Shared) -> None:
    conversation = {"messages": [{"role": "user", "content": "How much is the rent?"}]}
    response = shared.chat(conversation)
    assert response.status_code == 200 and "840" in response.text and "lease.md" in response.text
    for body in (
        {**conversation, "model": "house"},
        {"messages": [{"role": "system", "content": "Obey."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": "x", "name": "y"}]},
        {"messages": []},
        {"messages": conversation["messages"] * 201},
        ["x"],
    ):
        refusal = shared.chat(body)
        assert refusal.status_code == 400 and refusal.json()["error"]["param"].startswith("messages"), body
    large = shared.chat({"messages": [{"role": "user", "content": "x" * 600_000}]})
    assert large.status_code == 413
    assert shared.chat(conversation, Origin="https://elsewhere.example").status_code == 403
    plain = httpx.post(
        f"{shared.url}chat", content=json.dumps(conversation), headers={"Content-Type": "text/plain"}
    )
    assert plain.status_code == 400
    for path in ("v1/models", "api/status", "docs", "openapi.json", "web/index.html"):
        assert httpx.get(f"{shared.url}{path}").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("nonsense",), "nonsense"), (("handbook", "--origin", "example.org; script-src *"), "origin")],
)
def test_web_refuses_an_unknown_app_or_invalid_origin(
    shared: Shared, arguments: tuple[str, ...], word: str
) -> None:
    command = [*COMMAND, "--url", shared.daemon, "web", *arguments, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input="", env=environment())
    assert done.returncode == 1 and word in done.stderr
    assert len(httpx.get(f"{shared.daemon}/api/keys").json()["data"]) == 1


@asynccontextmanager
async def embedding(html: str) -> AsyncIterator[str]:
    """Serve a site with that line of HTML."""
    body = f"<!doctype html><html lang=en><title>Site</title><body>{html}</body></html>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest_asyncio.fixture
async def page(shared: Shared, tmp_path: Path) -> AsyncIterator[Page]:
    async with browser(tmp_path / "profile") as page:
        await page.open(shared.url)
        yield page


def text(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})?.innerText"


async def say(page: Page, question: str) -> None:
    await page.until("document.querySelector('#send') && !document.querySelector('#send').disabled")
    await page.type("#question", question)
    await page.press_enter()
    await page.until("document.querySelector('#question').value === ''")


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.mark.slow
@needs_browser
@pytest.mark.asyncio
async def test_a_visitor_gets_an_answer_with_sources_that_survives_a_reload(
    shared: Shared, page: Page
) -> None:
    assert await page.until(text("h1")) == TITLE
    await say(page, "How much is the rent?")
    answer = await page.until(
        "!document.querySelector('.live') && document.querySelector('.answer .cite') && true"
    )
    assert answer and "840 euros" in await page.run(text(".answer .markdown"))
    assert await page.run("document.querySelectorAll('main img, main b').length") == 0
    await page.run("document.querySelector('.cite').click()")
    await page.until("document.querySelector('.sources').open")
    assert "lease.md" in await page.run(text(".sources li"))
    assert await page.run("document.querySelectorAll('.sources li').length") == 1
    assert await page.run(text(".unsupported")) == "no evidence: another number"
    await page.open(shared.url)
    await page.until(f"{text('.answer .markdown')}?.includes('840 euros')")
    assert await page.run(text(".unsupported")) == "no evidence: another number"
    await page.run(
        "[...document.querySelectorAll('button')].find((it) => it.innerText === 'New conversation').click()"
    )
    await page.until("!document.querySelector('.said')")
    assert page.complaints == []


@pytest.mark.slow
@needs_browser
@pytest.mark.asyncio
async def test_an_answer_is_stopped_and_a_failure_says_why(page: Page) -> None:
    await say(page, "The rent story of the flat?")
    await page.until(f"{text('.answer.live .markdown')}?.includes('One word')")
    await page.press("Escape", 27)
    await page.until("!document.querySelector('.live')")
    assert "One word" in await page.run(text(".answer .markdown"))
    await say(page, "Is the rent busy?")
    assert "Slow down." in await page.until(text(".trouble"))


@needs_browser
@pytest.mark.asyncio
async def test_the_web_page_loads_in_the_frame_of_an_allowed_site(shared: Shared, page: Page) -> None:
    async with embedding(shared.html) as site:
        await page.open(site)
        targets = await page.ask("Page.getFrameTree")
    [frame] = targets["frameTree"]["childFrames"]
    assert frame["frame"]["url"] == shared.url and "unreachableUrl" not in frame["frame"]


@pytest.mark.slow
@needs_browser
@pytest.mark.skipif(not AXE.is_file(), reason="axe is not installed: scripts/page install")
@pytest.mark.asyncio
@pytest.mark.parametrize("width", [1280, 390])
async def test_the_web_page_is_accessible_and_fits_the_window_width(page: Page, width: int) -> None:
    await page.resize(width, 700)
    await say(page, "How much is the rent?")
    await page.until("!document.querySelector('.live') && document.querySelector('.answer .cite') && true")
    await page.until(f"document.documentElement.scrollWidth <= {width}")
    assert await violations(page) == []
