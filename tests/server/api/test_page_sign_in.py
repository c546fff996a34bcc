"""The page of a daemon where people sign in through an issuer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser
from tests.oidc_issuers import CLIENT, Provider, provider
from tests.page import REFUSED, click, text, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

OPERATOR = "the-operators-own-key"
WORDS = {
    "en": ("Sign in with", "Sign out Ada", "You do not have access yet", "Unblock"),
    "zh": ("通过", "退出登录（Ada）", "您还没有访问权限", "恢复访问"),
}


@dataclass(frozen=True, slots=True)
class Joined:
    """A daemon where people sign in, their issuer, and a browser."""

    url: str
    issuer: Provider
    page: Page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def joined(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Joined]:
    folder = tmp_path_factory.mktemp("joined")
    users = {"ada": {"groups": ["staff"], "preferred_username": "Ada"}, "bob": {}}
    with provider(users) as issuer:
        configuration = folder / "portico.yaml"
        configuration.write_text(
            "settings:\n"
            f"  oidc_issuer: {issuer.issuer}\n"
            f"  oidc_client_id: {CLIENT}\n"
            "  oidc_hosts: 127.0.0.1\n"
            "roles:\n"
            "  - {name: staff, claim: groups, value: staff, scopes: [admin]}\n"
        )
        home, env = folder / "home", {"PORTICO_API_KEY": OPERATOR}
        with daemons.running(home, "--file", str(configuration), env=env) as daemon:
            async with browser(folder / "profile") as page:
                yield Joined(daemon.url, issuer, page)
                assert [complaint for complaint in page.complaints if not complaint.startswith(REFUSED)] == []


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=pytest.mark.slow)])
async def test_a_user_signs_in_and_out_and_is_unblocked_by_the_operator(
    joined: Joined, language: str
) -> None:
    signs_in, signs_out, no_role, let_in = WORDS[language]
    page = joined.page
    await page.open(joined.url)
    await page.run("localStorage.clear()")
    await page.run(f"localStorage.setItem('portico.language', '{language}')")
    await page.open("about:blank")
    await page.open(f"{joined.url}/#/run/keys")
    for subject in ("bob", "ada"):
        await page.until(f"{text('#signin button')}.startsWith({signs_in!r})")
        await page.leave("document.querySelector('#signin button').click()")
        await page.until(f"document.querySelector('button[value={subject}]') && true")
        await page.leave(f"document.querySelector('button[value={subject}]').click()")
        if subject == "bob":
            await page.until(f"{text('#refused')}.includes({no_role!r})")
    await page.until(f"{text('#signout')} === {signs_out!r} && !document.querySelector('#locked')")
    assert await page.run("location.search") == "" and await page.run("location.hash") == "#/run/keys"
    assert await page.run("document.cookie") == ""

    # A person is locked out and let in again.
    bearer = {"Authorization": f"Bearer {OPERATOR}"}
    async with httpx.AsyncClient(base_url=joined.url, headers=bearer, timeout=60) as operator:
        (ada,) = [key for key in (await operator.get("/api/keys")).json()["data"] if key["subject"]]
        await operator.delete(f"/api/keys/{ada['id']}")
        await page.open("about:blank")
        await page.open(f"{joined.url}/#/run/keys")
        await page.until("document.querySelector('#signin button') && document.querySelector('#key') && true")
        await page.type("#key", OPERATOR)
        await page.press_enter()
        await page.until("!document.querySelector('#locked')")
        await visit(page, "chat")
        await visit(page, "run", "keys")
        await page.until("document.querySelector('#blocked') && true")
        await click(page, let_in)
        await click(page, let_in, "dialog")
        await page.until("!document.querySelector('#blocked') && document.querySelector('#keys') && true")
        assert (await operator.get("/api/keys?blocked=true")).json()["data"] == []
    await visit(page, "chat")
    await page.run("sessionStorage.clear()")
