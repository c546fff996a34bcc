"""The consent page in a browser: a person signs in with a key and answers an OAuth client."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server
from tests.browser import CHROMIUM, Page, browser
from tests.page import AXE, text, violations

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    pytest.mark.skipif(not AXE.is_file(), reason="axe is not installed: scripts/page install"),
]

VERIFIER = "v" * 50
ENGLISH = {"language": "en", "title": "Tester asks for access", "approve": "Allow", "deny": "Deny"}
CHINESE = {"language": "zh", "title": "“Tester”请求访问", "approve": "允许", "deny": "拒绝"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("home"), require_key=True) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(served: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    async with browser(tmp_path_factory.mktemp("browser")) as browser_page:
        yield browser_page


async def request_access(served: ApiServer) -> str:
    """Return the address to which a newly registered client sends the browser. Its redirect leads to this daemon, so
    that the test sees where the browser arrives.
    """
    redirect = f"{served.url}/health"
    registered = await served.client.post(
        "/register", json={"client_name": "Tester", "redirect_uris": [redirect]}
    )
    query = {
        "response_type": "code",
        "client_id": registered.json()["client_id"],
        "redirect_uri": redirect,
        "state": "s1",
        "code_challenge": base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    return f"{served.url}/authorize?{urlencode(query)}"


async def sign_in(page: Page, key: str) -> None:
    await page.until("document.querySelector('#key') && true")
    assert await violations(page) == []
    await page.type("#key", key)
    await page.press_enter()


@pytest.mark.parametrize("words", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize("button", ["approve", "deny"])
async def test_a_person_answers_a_client_with_a_click(
    served: ApiServer, page: Page, words: Mapping[str, str], button: str
) -> None:
    _, key = await served.auth.create("ada", ["chat", "stores:docs:read"])
    await page.open(served.url)
    await page.run("sessionStorage.clear(); localStorage.clear()")
    address = await request_access(served)
    await page.open(address)
    await sign_in(page, key)
    await page.until("document.querySelector('#consent') && true")
    if await page.run("document.documentElement.lang") != words["language"]:
        await page.run("document.querySelector('#language').click()")
    assert await page.run(text("h1")) == words["title"]
    assert await page.run(text(f"#{button}")) == words[button]
    scopes = "[...document.querySelectorAll('#consent .chip')].map((it) => it.innerText)"
    assert await page.run(scopes) == ["chat", "stores:docs:read"]
    assert "ada" in await page.run(text("#consent")) and "127.0.0.1" in await page.run(text("#consent"))
    assert await violations(page) == []
    await page.leave(f"document.querySelector('#{button}').click()")
    assert await page.run("location.pathname") == "/health"
    arrived = parse_qs(urlsplit(await page.run("location.href")).query)
    assert arrived["state"] == ["s1"] and arrived["iss"] == [served.url]
    assert ("code" in arrived) == (button == "approve")
    assert (arrived.get("error") == ["access_denied"]) == (button == "deny")


async def test_an_unknown_client_gets_no_answer(served: ApiServer, page: Page) -> None:
    _, key = await served.auth.create("ada", ["chat"])
    await page.open(f"{served.url}/authorize?client_id=client_x&redirect_uri=https://evil.example/")
    await page.run(f"sessionStorage.setItem('portico-key', '{key}')")
    await page.open(f"{served.url}/authorize?client_id=client_x&redirect_uri=https://evil.example/&a")
    await page.until("document.querySelector('.trouble')?.innerText.includes('is not registered')")
    assert await page.run("location.pathname") == "/authorize"
    assert await page.run("document.querySelector('#approve')") is None


async def test_no_other_page_can_show_the_consent_page_in_a_frame(served: ApiServer) -> None:
    answer: httpx.Response = await served.client.get("/authorize?client_id=x")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY" and answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
