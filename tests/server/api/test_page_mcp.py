"""Resources and prompts of somebody else's MCP server, in the page."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, browser
from tests.page import AXE, REFUSED, WIDTHS, Seen, click, escape, text, violations, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

STRANGER = str(Path(__file__).parents[1] / "tools" / "mcp" / "stranger.py")

CONFIGURATION: dict[str, Any] = {
    "models": [{"name": "clerk", "source": "fake://", "aliases": ["default"]}],
    "mcp": [
        {"name": "odd", "command": [sys.executable, STRANGER]},
        {"name": "bare", "command": [sys.executable, STRANGER, "bare"]},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    folder = tmp_path_factory.mktemp("mcp")
    (folder / "portico.yaml").write_text(json.dumps(CONFIGURATION), encoding="utf-8")
    with daemons.running(folder / "home", "--file", str(folder / "portico.yaml")) as daemon:
        async with browser(folder / "profile") as page:
            await page.open(daemon.url)
            yield Seen(daemon.url, page, folder)
            assert [said for said in page.complaints if not said.startswith(REFUSED)] == []


@pytest_asyncio.fixture(loop_scope="module", params=WIDTHS)
async def seen(opened: Seen, request: pytest.FixtureRequest) -> Seen:
    return await opened.again(request.param)


async def sound(seen: Seen) -> None:
    """What is seen is accessible, and as wide as its window."""
    if AXE.is_file():
        assert await violations(seen.page) == []
    await seen.page.until(f"document.documentElement.scrollWidth <= {seen.width}")


CONTENT = "dialog[open] .chunks"


async def test_resources_are_browsed_and_nothing_of_them_is_executed(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "tools")
    await click(page, "odd")
    await page.until("location.hash === '#/run/tools/odd'")
    await page.until("document.querySelectorAll('#resources tbody tr').length === 6")
    await sound(seen)
    await click(page, "lease")
    assert await page.until(text(f"{CONTENT} pre")) == (
        "<b>The rent</b> is 840 euros.<script>alert(1)</script>"
    )
    assert await page.run(f"document.querySelectorAll('{CONTENT} :is(b, script)').length") == 0
    await sound(seen)
    await escape(page)
    await page.until("location.hash === '#/run/tools/odd'")
    await page.run(
        "[...document.querySelectorAll('#resources a')].find((it) => it.innerText === 'pixel').focus()"
    )
    await page.press_enter()
    assert await page.until(f"document.querySelector('{CONTENT} img')?.decode().then(() => true)")
    await escape(page)
    await click(page, "drawing")  # a drawing with a script in it, which a picture does not run
    await page.until(f"document.querySelector('{CONTENT} img')?.src.startsWith('data:image/svg+xml')")
    await escape(page)
    await click(page, "archive/old.bin")
    await page.until(f"document.querySelector('{CONTENT} a')?.download === 'old.bin'")
    assert (await page.run(f"document.querySelector('{CONTENT} a').href")).startswith("blob:")
    await escape(page)
    await click(page, "huge")
    assert "8,000,000" in await page.until(text("dialog[open] .trouble"))
    await escape(page)


async def test_a_template_is_filled_in_and_an_address_opens_a_resource(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "tools", "odd")
    await click(page, "day")
    await page.until("document.querySelector('dialog[open] [name=address]') && true")
    await page.run("document.querySelector('dialog[open] [name=address]').select()")
    await page.type("dialog[open] [name=address]", "note://day/2026-01-02")
    await page.press_enter()
    assert await page.until(text(f"{CONTENT} pre")) == "Day 2026-01-02"
    await page.open("about:blank")
    await page.open(f"{seen.url}/#/run/tools/odd/resource/note%3A%2F%2Flease")
    assert "840 euros" in await page.until(text(f"{CONTENT} pre"))
    await escape(page)
    await visit(page, "run", "tools", "bare")
    await page.until("document.querySelectorAll('main .empty').length === 2")
    assert await page.run(text("main .empty h2")) == "It has nothing to read"
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('main .empty h2')} === '没有可读取的内容'")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await visit(page, "run", "tools", "nobody")
    assert "nobody" in await page.until(text("main .trouble"))


async def test_a_prompt_is_filled_in_by_its_form_and_asked_in_a_conversation(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "tools", "odd")
    await click(page, "A letter")
    await page.until("document.querySelectorAll('dialog[open] form textarea').length === 2")
    assert await page.run("document.querySelectorAll('main i').length") == 0
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")  # 'who' is required
    assert await page.run("document.querySelector('dialog[open] form :invalid') !== null")
    await page.type("dialog[open] form textarea", "Ada")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    assert await page.until(text("#messages pre")) == "Write to Ada, kindly."
    await sound(seen)
    await click(page, "Ask it in a new conversation", "dialog[open]")
    await page.until("document.querySelector('#question')?.value === 'Write to Ada, kindly.'")
    await page.until("!document.querySelector('#send').disabled")
    await page.run("document.querySelector('#question').focus()")
    await page.press_enter()
    await page.until(f"{text('#talk .said.user')}?.includes('Write to Ada, kindly.')")
    await page.until("document.querySelector('#talk .figures') && true")
    await visit(page, "run", "tools", "odd", "prompt", "talk")
    await click(page, "Fill in", "dialog[open]")
    assert await page.until("document.querySelector('#messages img')?.decode().then(() => true)")
    assert "Hello." in await page.run(text("#messages"))
    await escape(page)
