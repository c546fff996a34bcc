"""The page of a daemon that requires a key: it asks for the key, stores it, and reports missing rights once."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser
from tests.page import AXE, REFUSED, click, escape, fill, text, violations, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

OPERATOR = "the-operators-own-key"
DENIED = {
    "run/evals": "chat",
    "run/models": "models:read",
    "run/finetunes": "finetune",
    "run/keys": "admin",
    "run/guards": "admin",
    "run/canaries": "admin",
    "run/machines": "admin",
    "run/settings": "admin",
}
"""Views that are hidden from a key which may only call an app, and the scope that each view needs."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A daemon that requires a key, a key that may only call its app, and a browser."""

    url: str
    caller: str
    page: Page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with daemons.running(folder / "home", env={"PORTICO_API_KEY": OPERATOR}) as daemon:
        async with httpx.AsyncClient(
            base_url=daemon.url, headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=30
        ) as operator:
            step = {"op": "emit"}
            app = {"name": "greeting", "spec": {"portico_flow": 1, "step": step}}
            (await operator.post("/api/apps", json=app)).raise_for_status()
            key = {"name": "caller", "scopes": ["apps:greeting:call"]}
            new_key = (await operator.post("/api/keys", json=key)).raise_for_status().json()
        async with browser(folder / "profile") as page:
            yield Guarded(daemon.url, new_key["key"], page)
            assert [complaint for complaint in page.complaints if not complaint.startswith(REFUSED)] == []


async def unlock(page: Page, key: str, *, keep: bool = False) -> None:
    """Type a key into the page's prompt and use it."""
    await page.until("document.querySelector('#key') && true")
    await page.run("document.querySelector('#key').value = ''")
    await page.run(f"document.querySelector('#unlock [name=keep]').checked = {json.dumps(keep)}")
    await page.type("#key", key)
    await page.press_enter()


async def arrive(page: Page, url: str) -> None:
    """Open the page as a first-time visitor."""
    await page.open(url)
    await page.run("localStorage.clear()")
    await reopen(page, url)


async def reopen(page: Page, url: str) -> None:
    """Open the page in a new tab, without the data stored for the old tab only."""
    await page.run("sessionStorage.clear()")
    await page.open("about:blank")
    await page.open(url)


@pytest.mark.slow
async def test_a_view_opened_without_a_key_loads_after_a_valid_key_is_entered(
    guarded: Guarded,
) -> None:
    page = guarded.page
    await arrive(page, f"{guarded.url}/#/run/settings")
    await unlock(page, "pk-wrong")
    await page.until(f"{text('main > .trouble')}?.includes('yours is unknown or was revoked')")
    assert await page.run(text("#daemonsettings")) is None
    await unlock(page, OPERATOR)
    await page.until(
        "document.querySelector('#daemonsettings tbody tr') && !document.querySelector('.trouble')"
    )
    await click(page, "Forget key", ".side")
    await page.until("document.querySelector('#locked') && true")
    await visit(page, "run", "keys")
    await unlock(page, OPERATOR)
    await page.until("document.querySelector('#keys li') && !document.querySelector('.trouble')")


@pytest.mark.slow
async def test_the_page_asks_for_a_key_remembers_it_on_request_and_forgets_it(guarded: Guarded) -> None:
    page = guarded.page
    await arrive(page, guarded.url)
    await page.until(f"{text('#locked h2')} === 'This daemon requires an API key'")
    await unlock(page, "pk-wrong")
    assert "yours is unknown or was revoked" in await page.until(text("main > .trouble"))
    await unlock(page, OPERATOR)
    await page.until("document.querySelector('.brand .soft').innerText && !document.querySelector('#locked')")
    assert await page.run(text("main > .trouble")) is None
    await reopen(page, guarded.url)
    await unlock(page, OPERATOR, keep=True)
    await page.until("document.querySelector('.brand .soft').innerText && !document.querySelector('#locked')")
    await reopen(page, guarded.url)
    await page.until("document.querySelector('.brand .soft').innerText && true")
    assert await page.run("document.querySelector('#locked')") is None

    storage_event = f"{{key: 'portico-key', storageArea: localStorage, newValue: {json.dumps(OPERATOR)}}}"
    await page.run("localStorage.removeItem('portico-key')")
    await page.run(
        "dispatchEvent(new StorageEvent('storage', {key: 'portico-key', storageArea: localStorage}))"
    )
    await page.until("document.querySelector('#locked') && true")
    await page.run(f"localStorage.setItem('portico-key', {json.dumps(OPERATOR)})")
    await page.run(f"dispatchEvent(new StorageEvent('storage', {storage_event}))")
    await page.until("!document.querySelector('#locked')")

    await visit(page, "run", "keys")
    await click(page, "Create key")
    await fill(page, name="phone")
    await page.run("document.querySelector('dialog[open] [value=chat]').click()")
    await click(page, "Limits", "dialog")
    await fill(page, concurrency="2", tokens_per_day="100000")
    if AXE.is_file():
        assert await violations(page) == []
    await click(page, "Create", "dialog")
    secret = await page.until(text("#newkey"))
    links = await page.run("[...document.querySelectorAll('dialog[open] a')].map((link) => link.href)")
    code, cursor = (urlsplit(link) for link in links)
    assert code.scheme == "vscode" and json.loads(unquote(code.query)) == {
        "name": "portico",
        "type": "http",
        "url": f"{guarded.url}/mcp",
        "headers": {"Authorization": f"Bearer {secret}"},
    }
    config = json.loads(base64.b64decode(parse_qs(cursor.query)["config"][0]))
    assert config["url"] == f"{guarded.url}/mcp" and secret in config["headers"]["Authorization"]
    await escape(page)
    phone = "[...document.querySelectorAll('#keys > li')].find((it) => it.innerText.startsWith('phone'))"
    phone_text = await page.until(f"({phone})?.innerText")
    assert "Concurrent calls: 2 · Tokens per day: 100,000" in phone_text

    await click(page, "Forget key", ".side")
    await page.until("document.querySelector('#locked') && true")


async def test_each_view_names_the_missing_scope_once_for_an_app_only_key(guarded: Guarded) -> None:
    page = guarded.page
    await arrive(page, guarded.url)
    await unlock(page, guarded.caller)
    await page.until(f"{text('#model')}?.startsWith('greeting')")
    for view, scope in DENIED.items():
        await visit(page, *view.split("/"))
        address, sentence = (
            f"#/{view}",
            f"This key lacks the scope '{scope}'. Ask the operator for a key with that scope.",
        )
        visible_elements = (
            "[...document.querySelectorAll('main .view :is(.trouble, .empty, table, form, .primary)')]"
        )
        section = "document.querySelector('.side .sectionlinks [aria-current]')"
        await page.until(
            f"{section}.getAttribute('href') === {json.dumps(address)} && "
            f"{visible_elements}.map((it) => it.innerText).join() === {json.dumps(sentence)}"
        )
    await visit(page, "library", "apps", "greeting")
    await page.until("document.querySelector('dialog[open] img.diagram') && true")
    await page.until("!document.querySelector('dialog[open] #versions')")
    assert await page.run(text("dialog[open] .trouble")) is None
    assert "Versions" not in await page.run(text("dialog[open]"))
    await page.until("document.querySelector('dialog[open] #code pre')?.textContent.includes('greeting')")
    assert await page.run("document.querySelector('dialog[open] #package')") is None
    await page.type("dialog[open] form textarea", "Good morning")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    assert await page.until(text("#output")) == "Good morning"


async def test_an_open_page_asks_for_a_key_again_after_its_key_is_revoked(guarded: Guarded) -> None:
    page = guarded.page
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    async with httpx.AsyncClient(base_url=guarded.url, headers=headers, timeout=30) as operator:
        key = {"name": "guest", "scopes": ["apps:greeting:call"]}
        new_key = (await operator.post("/api/keys", json=key)).raise_for_status().json()
        await arrive(page, guarded.url)
        await unlock(page, new_key["key"])
        await page.until(f"{text('#model')}?.startsWith('greeting')")
        (await operator.delete(f"/api/keys/{new_key['id']}")).raise_for_status()
    await visit(page, "run", "settings")
    await page.until("document.querySelector('#locked') && true")
    assert "yours is unknown or was revoked" in await page.until(text("main > .trouble"))
    await unlock(page, OPERATOR)
    await page.until("document.querySelector('#daemonsettings tbody tr') && true")
