"""Sharing a conversation by a link in the page, as its sender and its reader use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.browser import CHROMIUM, Page, new_tab
from tests.page import Seen, answered, ask, escape, sound, start, text

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

FOLDERS = {"bakery": {"hours.txt": "The bread is baked at nine.\nThe shop closes at noon.\n"}}

CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "house",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {"script": [{"match": "bread", "content": "It is baked at **nine**. [1]"}]},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
    ],
}

ENGLISH = {
    "language": "en",
    "share": "Share by link",
    "create": "Create link",
    "remove": "Remove link",
}
CHINESE = {
    "language": "zh",
    "share": "通过链接分享",
    "create": "创建链接",
    "remove": "撤销链接",
}


async def press(page: Page, label: str, within: str) -> None:
    """Press a button with the keyboard."""
    button = (
        f"[...document.querySelectorAll({json.dumps(within)} + ' button')]"
        f".find((it) => !it.disabled && it.innerText.trim() === {json.dumps(label)})"
    )
    await page.until(f"{button} && true")
    await page.focus(button)
    await page.press_enter()


@pytest.mark.parametrize(
    "words",
    [pytest.param(ENGLISH, id="en"), pytest.param(CHINESE, id="zh", marks=pytest.mark.slow)],
)
async def test_a_conversation_is_shared_by_a_link_until_the_link_is_removed(
    seen: Seen, words: Mapping[str, str]
) -> None:
    page = seen.page
    await start(page, "bakery")
    await ask(page, "When is the bread baked?")
    answer_text = await answered(page)
    if await page.run("document.documentElement.lang") != words["language"]:
        await page.run("document.querySelector('#language').click()")
    if seen.width < 700:
        await page.run("document.querySelector('header.top button').click()")
    await page.focus("document.querySelector('.conversations li.current .more')")
    await page.press_enter()
    await press(page, words["share"], ".menu:popover-open")
    await page.until("document.querySelector('dialog[open] [name=days]') && true")
    await press(page, words["create"], "dialog[open]")
    link = await page.until(text("#publiclink"))
    await page.until("document.querySelectorAll('#publiclinks li').length === 1")
    await sound(seen)
    async with new_tab(page) as reader:
        await reader.resize(seen.width, 800)
        await reader.open(link)
        await reader.until("document.querySelectorAll('#talk .said').length === 2")
        assert await reader.run(text("h1")) == "When is the bread baked?"
        assert await reader.run(text(".said.answer .markdown")) == answer_text
        await reader.run("document.querySelector('.sources summary').click()")
        assert "The bread is baked at nine." in await reader.run(text(".sources blockquote"))
        assert await reader.run("document.querySelector('#question')") is None
        await sound(replace(seen, page=reader))
        await press(page, words["remove"], "dialog[open]")
        await page.until("!document.querySelector('#publiclinks') && !document.querySelector('#publiclink')")
        await reader.open("about:blank")
        await reader.open(link)
        await reader.until("document.querySelector('.trouble')?.innerText.includes('does not exist')")
    await escape(page)
    if await page.run("document.documentElement.lang") != "en":
        await page.run("document.querySelector('#language').click()")
    await page.run("document.querySelector('.page.drawn .shade')?.click()")
