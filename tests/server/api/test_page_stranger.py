"""What somebody who knows other chat pages finds without help: each step by a visible word or an accessible name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.browser import CHROMIUM
from tests.page import Seen, answered, choose, text

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

MAX_CLICKS = 4

QUESTION = "When is the bread baked?"

FOLDERS = {"bakery": {"hours.txt": "The bread is baked at nine.\nThe shop closes at noon.\n"}}

VARIABLES = {"PORTICO_MEMORY_BUDGET_MB": "4096"}

CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "house",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {"script": [{"match": "bread", "content": "It is baked at nine. [1]"}]},
        },
        {"name": "poet", "source": "fake://"},
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
    ],
}

CONTROL = """(() => {
  if (document.getAnimations().some((it) => it instanceof CSSTransition)) return;
  const within = [...document.querySelectorAll('dialog[open], [popover]:popover-open')].at(-1) ?? document.body;
  const name = (it) => [it.getAttribute('aria-label'), it.placeholder, it.innerText].filter(Boolean).join(' ');
  for (const it of within.querySelectorAll('button, a[href], summary, [role=button], [role=option], textarea, input')) {
    const { x, y, width, height } = it.getBoundingClientRect();
    const [across, down] = [x + width / 2, y + height / 2];
    if (it.disabled || !new RegExp(%s, 'i').test(name(it)) || !it.checkVisibility()) continue;
    const top = document.elementFromPoint(across, down);
    if (top && (it.contains(top) || top.contains(it))) return [across, down];
  }
})()"""
"""The middle of the first control that can be clicked now and whose words match."""


class Stranger:
    """A person at the page, who has clicked ``clicks`` times since the start page."""

    def __init__(self, seen: Seen) -> None:
        self.seen, self.page, self.clicks = seen, seen.page, 0
        self.is_narrow = seen.width < 800

    async def press(self, words: str) -> None:
        """Click the control with one of these words."""
        x, y = await self.page.until(CONTROL % json.dumps(rf"\b({words})"))
        await self.page.click_at(x, y)
        self.clicks += 1
        assert self.clicks <= MAX_CLICKS, words

    async def open_conversations(self) -> None:
        """On a phone, conversations are behind the menu."""
        if self.is_narrow:
            await self.press("Menu")

    async def ask(self, question: str) -> None:
        await self.page.ask("Input.insertText", text=question)
        await self.press("Send")
        await answered(self.page)


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(seen: Seen) -> AsyncIterator[Stranger]:
    """A person at the start page, with the model ``house``."""
    await seen.page.run("document.querySelector('#new').click()")
    await seen.page.run("localStorage.clear(), sessionStorage.clear()")
    await seen.page.open("about:blank")
    await seen.page.open(seen.url)
    await choose(seen.page, "house")
    yield Stranger(seen)


@pytest.mark.slow
async def test_a_stranger_asks_a_folder_and_opens_a_cited_passage(stranger: Stranger) -> None:
    page = stranger.page
    await stranger.press("model|house")
    await stranger.press("bakery")
    await stranger.press("Ask|Message|Question")
    await stranger.ask(QUESTION)
    stranger.clicks = 0
    await stranger.press("Source 1")
    assert "The bread is baked at nine." in await page.until(text("dialog[open] .passage"))


async def test_a_stranger_finds_how_to_change_the_model(stranger: Stranger) -> None:
    await stranger.press("model|house")
    await stranger.press("poet")
    await stranger.page.until(f"{text('#model')}?.startsWith('poet')")


async def test_a_stranger_finds_the_memory_use_of_the_models(stranger: Stranger) -> None:
    await stranger.press("Run")
    await stranger.press("Models")
    assert "Memory" in await stranger.page.until(text("#memory"))


async def test_the_deletion_of_a_conversation_is_undone(stranger: Stranger) -> None:
    row = "[...document.querySelectorAll('.conversations .title')].find((it) => it.checkVisibility())"
    await stranger.press("Ask|Message|Question")
    await stranger.ask("Good morning")
    stranger.clicks = 0
    await stranger.open_conversations()
    await stranger.page.until(f"{row}.innerText === 'Good morning'")
    await stranger.press("More actions: Good morning")
    await stranger.press("Delete")
    await stranger.press("Undo")
    await stranger.page.until(f"{row}.innerText === 'Good morning'")


async def test_a_conversation_is_shared(stranger: Stranger) -> None:
    await stranger.press("Ask|Message|Question")
    await stranger.ask("Good evening")
    stranger.clicks = 0
    await stranger.open_conversations()
    await stranger.press("More actions: Good evening")
    await stranger.press("Share")
    await stranger.press("Create link|Copy link")
    assert (await stranger.page.until(text("#publiclink"))).startswith(stranger.seen.url)
