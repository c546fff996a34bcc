"""The tutorial in the page: from an empty daemon to a cited answer, a flow, a promoted model and a revoked key.

It runs once with the mouse and once with the keyboard alone. Scripts only observe; they never act for the reader.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser
from tests.page import EDITED, REFUSED, answered, text

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

BREAD = "# Bread\n\nBread is baked at 230 degrees for forty minutes.\n"

WRITTEN = "textarea, input:not([type=file]), .cm-content"
"""Elements to type into rather than press."""

MAX_TABS = 150
"""Maximum number of key presses to reach an element."""

_PLACE = """new Promise((resolve) => {
  let before = "";
  const look = () => {
    const found = (() => { try { return %s; } catch { return undefined; } })();
    found?.scrollIntoView({block: "center"});
    const {x, y, width, height} = found?.getBoundingClientRect() ?? {};
    const place = [x + width / 2, y + height / 2];
    const isOnTop = found?.contains(document.elementFromPoint(...place));
    if (isOnTop && before === place.join()) return resolve(place);
    before = isOnTop ? place.join() : "";
    requestAnimationFrame(look);
  };
  look();
})"""
"""The centre of an element once it is stationary and nothing covers it."""


def named(label: str, within: str) -> str:
    """Return an expression for the first usable element in ``within`` with that text or label."""
    return (
        f"[...document.querySelectorAll({json.dumps(within)} + ' :is(button, a, summary, [role=button])')].find("
        "(it) => !it.disabled && it.getClientRects().length && "
        f"(it.innerText.trim() === {json.dumps(label)} || it.getAttribute('aria-label') === {json.dumps(label)}))"
    )


def only(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


class Hands(Protocol):
    """The way a reader operates the page."""

    page: Page

    async def use(self, found: str) -> None:
        """Press the element that an expression finds, once it exists."""

    async def go(self, view: str, tab: str) -> None:
        """Go to a view, by its displayed names."""

    async def pick(self, name: str) -> None:
        """Choose in the open list."""


class Mouse:
    """Operates the page with the mouse alone, except for typing."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def use(self, found: str) -> None:
        await self.page.until(f"({found}) && true")
        await self.page.click_at(*await self.page.run(_PLACE % found))

    async def go(self, view: str, tab: str) -> None:
        await self.use(named(view, ".views"))
        if tab:
            await self.use(
                "[...document.querySelectorAll('.side .sectionlinks a')]"
                f".find((it) => it.innerText.startsWith({json.dumps(tab)}))"
            )

    async def pick(self, name: str) -> None:
        await self.use(only(f"dialog[open] [data-choice={json.dumps(name)}]"))


class Keyboard:
    """Operates the page with the keyboard alone."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def use(self, found: str) -> None:
        await self.page.until(f"({found}) && true")
        for _ in range(MAX_TABS):
            if await self.page.run(f"document.activeElement === ({found})"):
                break
            await self.page.press("Tab", 9)
        else:
            raise AssertionError(f"the keyboard does not reach {found}")
        if await self.page.run("document.activeElement.matches('[type=checkbox]')"):
            await self.page.press(" ", 32, text=" ")
        elif not await self.page.run(f"document.activeElement.matches({json.dumps(WRITTEN)})"):
            await self.page.press_enter()

    async def go(self, view: str, tab: str) -> None:
        await self.page.press("k", 75, modifiers=2)
        await self.pick(f"{tab} {view}" if tab else view)

    async def pick(self, name: str) -> None:
        await self.page.until(
            "document.querySelector('dialog[open] [role=combobox]') === document.activeElement"
        )
        await self.page.ask("Input.insertText", text=name)
        await self.page.press_enter()


class Reader:
    """A reader of the page with a mouse or a keyboard."""

    def __init__(self, url: str, hands: Hands) -> None:
        self.url, self.hands, self.page = url, hands, hands.page

    async def press(self, label: str, within: str = "main") -> None:
        await self.hands.use(named(label, within))

    async def write(self, selector: str, words: str) -> None:
        """Replace the text of a field."""
        await self.hands.use(only(selector))
        await self.page.until(f"{only(selector)}.contains(document.activeElement)")
        await self.page.press("a", 65, modifiers=2, commands=["selectAll"])
        await self.page.ask("Input.insertText", text=words)

    async def dialog_is(self, opened: bool) -> None:
        await self.page.until(f"Boolean(document.querySelector('dialog[open]')) === {json.dumps(opened)}")

    async def ask(self, partner: str, question: str) -> str:
        """Return the partner's answer in a new conversation."""
        await self.press("New conversation", ".side")
        await self.page.until("location.hash === '#/chat' && !document.querySelector('#talk .said')")
        await self.hands.use(only("#model"))
        await self.hands.pick(partner)
        await self.page.until(f"{text('#model')}?.startsWith({json.dumps(partner)})")
        await self.dialog_is(False)
        await self.write("#question", question)
        await self.hands.use(only("#send:not([disabled])"))
        return await answered(self.page)

    async def call(self, key: str) -> int:
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.get(f"{self.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
        return answer.status_code


@pytest_asyncio.fixture(loop_scope="module", params=[Mouse, Keyboard])
async def reader(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Reader]:
    """A reader at an empty daemon."""
    with daemons.running(tmp_path / "home") as daemon:
        async with browser(tmp_path / "profile") as page:
            await page.ask("Page.setInterceptFileChooserDialog", enabled=True)
            await page.open(daemon.url)
            await page.until("document.querySelector('#send') && true")
            yield Reader(daemon.url, request.param(page))
            assert [complaint for complaint in page.complaints if not complaint.startswith(REFUSED)] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_tutorial_is_done_in_the_page(reader: Reader, tmp_path: Path) -> None:
    page, hands = reader.page, reader.hands
    (tmp_path / "bread.md").write_text(BREAD, encoding="utf-8")
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number}?"},
                {"role": "assistant", "content": f"It is {number}."},
            ]
        }
        for number in range(20)
    ]
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    # A model that the apps use from now on.
    await hands.go("Run", "Models")
    await reader.press("Add model")
    await reader.write("dialog[open] [name=name]", "talker")
    await reader.write("dialog[open] [name=source]", "fake://")
    await reader.press("Add model", "dialog[open]")
    await reader.dialog_is(False)
    card = "[...document.querySelectorAll('#models > li')].findIndex((it) => it.innerText.startsWith('talker')) + 1"
    number = await page.until(card)
    await reader.press("More actions: talker")
    await reader.press("Add alias", ".menu:popover-open")
    await reader.write("dialog[open] [name=alias]", "default")
    await reader.press("Save", "dialog[open]")
    await reader.dialog_is(False)
    await page.until(f"{text(f'#models > li:nth-child({number})')}.includes('default')")

    # A document, and an answer with its cited passage.
    await hands.go("Library", "Documents")
    await reader.press("Create store")
    await reader.write("dialog[open] [name=name]", "bakery")
    await reader.press("Create", "dialog[open]")
    await page.until("location.hash === '#/library/documents/bakery'")
    await reader.press("Choose files")
    await page.offer_files(tmp_path / "bread.md")
    await page.until(f"{text('#filetable td:nth-child(2)')} === 'ready'")
    assert "230 degrees" in await reader.ask("bakery", "How hot must the oven be for bread?")
    await hands.use(only("#talk .cite"))
    assert "230 degrees" in await page.until(text("dialog[open] .passage"))
    await page.press("Escape", 27)
    await reader.dialog_is(False)

    # A flow, written in the editor, deployed, and run through the form of its schema.
    await hands.go("Library", "Apps")
    await reader.press("Create app")
    await reader.write("main [name=name]", "shorten")
    await page.until("document.querySelector('.editor .cm-content') && true")
    await reader.write(".editor .cm-content", FLOW)
    await page.until(f"{text('main .good')} === 'No errors.'")
    page.complaints[:] = [complaint for complaint in page.complaints if not complaint.startswith(EDITED)]
    await reader.press("Check and deploy")
    await page.until(f"location.hash === '#/library/apps/shorten' && {text('#versions tbody tr')}")
    await reader.write("dialog[open] form textarea", "A long text.")
    await reader.press("Run", "dialog[open]")
    assert "A long text." in await page.until(text("#output"))
    await page.press("Escape", 27)
    await reader.dialog_is(False)

    # A model is trained on examples, answers them, and replaces the old model.
    await hands.go("Run", "Fine-tuning")
    await reader.press("Fine-tune a model")
    await page.until("document.querySelector('dialog[open] [name=model]')?.value === 'talker'")
    await reader.write("dialog[open] [name=suffix]", "numbers")
    await hands.use(only("#examples"))
    await page.offer_files(tmp_path / "examples.jsonl")
    await reader.press("Check examples", "dialog[open]")
    await page.until("document.querySelector('#tuningplan li') && true")
    await reader.press("Start training", "dialog[open]")
    await reader.dialog_is(False)
    await page.until(f"{text('#jobs > li')}?.includes('succeeded')")
    trained = await page.run(text("#jobs .name"))
    assert trained.startswith("ft:talker:portico:numbers:")
    await reader.press("Promote")
    await reader.press("Promote", "dialog[open]")
    await reader.dialog_is(False)
    await page.until(f"{text('#jobs > li')}.includes('default')")
    assert await reader.ask(trained, "What is 7?") == "It is 7."

    # The app now calls the trained model.
    await hands.go("Library", "Apps")
    await reader.press("shorten")
    await reader.write("dialog[open] form textarea", "What is 8?")
    await reader.press("Run", "dialog[open]")
    assert "It is 8." in await page.until(text("#output"))
    await page.press("Escape", 27)
    await reader.dialog_is(False)

    # A key for somebody else, worthless as soon as it is revoked.
    await hands.go("Run", "Keys")
    await reader.press("Create key")
    await reader.write("dialog[open] [name=name]", "shop")
    for scope in ("chat", "stores:bakery:read", "apps:bakery:call"):
        await hands.use(only(f"dialog[open] [value='{scope}']"))
    await reader.press("Create", "dialog[open]")
    key = await page.until(text("#newkey"))
    await reader.press("Close", "dialog .actions")
    assert "apps:bakery:call" in await page.until(text("#keys li"))
    assert await reader.call(key) == 200
    await reader.press("More actions: shop")
    await reader.press("Revoke", ".menu:popover-open")
    await reader.press("Revoke", "dialog[open]")
    await page.until("!document.querySelector('#keys li')")
    assert await reader.call(key) == 401


FLOW = """portico_flow: 1
input_schema: {type: string}
step: {op: llm, system: Shorten it., user: {$ref: input}}
"""
