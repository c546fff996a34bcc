"""The message box of the page: `/` for prompts and skills, `#` for stores and files, `@` for models and apps."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.browser import CHROMIUM, Page
from tests.page import WIDTHS, Seen, answered, ask, choose, click, sound, start, text

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

SKILL = "---\nname: pdf-forms\ndescription: Fills PDF forms.\n---\nAsk for what is missing."

CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "house",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {
                "script": [
                    {
                        "match": f"a form {width}",
                        "times": 1,
                        "tool_calls": [{"name": "read_skill", "arguments": {"skill": "pdf-forms"}}],
                    }
                    for width in WIDTHS
                ]
                + [{"match": "a form", "content": "Which form?"}]
            },
        },
        {"name": "other", "source": "fake://"},
        {"name": "vectors", "source": "fake://", "task": "embedding"},
    ],
    "prompts": [
        {"name": "greet", "messages": "Say good morning."},
        {
            "name": "translate",
            "arguments": [
                {"name": "text", "required": True},
                {"name": "language", "enum": ["English", "German"], "default": "German"},
            ],
            "messages": [
                {"role": "system", "content": "You translate into {language}."},
                {"role": "user", "content": "Translate: {text}"},
            ],
        },
    ],
}

FOLDERS = {
    "handbook": {
        "lease.md": "# Lease\n\nThe rent of the flat is 840 euros a month.\n",
        "手册.md": "# 手册\n\n每月租金为八百四十欧元。\n",
    }
}

INPUT_METHOD = 229
"""The number of any key that an input method uses, according to UI Events."""

BOX = "document.querySelector('#question')"
SHOWN = "[...document.querySelectorAll('.suggestions [role=option]')].map((it) => it.firstChild.innerText)"
CHIPS = "[...document.querySelectorAll('#ask .chip')].map((it) => it.innerText)"


async def suggest(page: Page, typed: str, *names: str) -> None:
    """Type into the message box, and wait until its menu shows these names first."""
    await page.type("#question", typed)
    await page.until(f"({SHOWN}).slice(0, {len(names)}).join() === {json.dumps(','.join(names))}")


async def until_box(page: Page, content: str) -> None:
    await page.until(f"{BOX}.value === {json.dumps(content)} && document.activeElement === {BOX}")


@pytest.mark.slow
async def test_a_trigger_character_opens_a_suggestion_menu_operated_by_keyboard(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await suggest(page, "good day @", "handbook", "house", "other")
    assert await page.run(
        f"document.getElementById({BOX}.getAttribute('aria-activedescendant')).ariaSelected === 'true'"
    )
    await sound(seen)
    await page.press("ArrowUp", 38)
    await page.until(f"{text('.suggestions [aria-selected=true]')}?.startsWith('other')")
    await page.press("Escape", 27)
    await page.until("!document.querySelector('.suggestions')")
    assert await page.run(f"{BOX}.value") == "good day @"
    await page.type("#question", "o")
    assert not await page.run(SHOWN)
    await page.press("Backspace", 8)
    await page.press("Backspace", 8)
    await suggest(page, "@oth", "other")
    await page.press_enter()
    await until_box(page, "good day ")
    await page.until(f"{text('#model')}.startsWith('other')")
    await page.run(f"{BOX}.select()")
    await page.type("#question", "mail to a@house or 1/2, then")
    assert not await page.run("document.querySelector('.suggestions')")
    await page.press_enter()
    assert await answered(page) == "mail to a@house or 1/2, then"


async def test_a_prompt_is_inserted_with_its_arguments(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await suggest(page, "/", "greet")
    await suggest(page, "gree", "greet")
    await page.press_enter()
    await until_box(page, "Say good morning.")
    await page.run(f"{BOX}.select()")
    await suggest(page, "/translat", "translate")
    await page.press_enter()
    await page.until("document.querySelector('dialog[open] textarea') && true")
    await page.type("dialog[open] textarea", "Bis morgen.")
    await click(page, "Insert", "dialog[open]")
    await page.until("!document.querySelector('dialog[open]')")
    await until_box(page, "Translate: Bis morgen.")
    await page.press_enter()
    assert await answered(page) == "Translate: Bis morgen."
    session = (await page.run("location.hash")).rpartition("/")[2]
    [_, answer] = seen.get(f"/api/sessions/{session}/messages").json()["data"]
    response = seen.get(f"/v1/responses/{answer['message']['extra_info']['response']}").json()
    assert response["instructions"] == "You translate into German."


async def test_a_skill_is_read_by_the_model_until_it_is_removed(seen: Seen) -> None:
    page = seen.page
    files = {"files": ("pdf-forms/SKILL.md", SKILL.encode())}
    async with httpx.AsyncClient(timeout=60) as client:
        (await client.post(f"{seen.url}/v1/skills?update=true", files=files)).raise_for_status()
    await start(page, "house")
    await suggest(page, "/pdf", "pdf-forms")
    await page.run("document.querySelector('.suggestions [role=option]').click()")
    await page.until(f"({CHIPS}).join() === '/ pdf-forms ×'")
    await ask(page, f"fill in a form {seen.width}")
    assert "Which form?" in await answered(page)
    assert "Ask for what is missing." in await page.run("document.querySelector('#talk .call').textContent")
    await click(page, "/ pdf-forms ×", "#ask")
    await page.until(f"!({CHIPS}).length")


async def test_a_store_is_searched_and_a_file_is_part_of_the_question(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await suggest(page, "#", "handbook", "lease.md", "手册.md")
    await page.press_enter()
    await page.until(f"({CHIPS}).join() === '# handbook ×'")
    await ask(page, "rent of the flat")
    await page.until("document.querySelector('#talk .call')?.textContent.includes('file_search')")
    await answered(page)
    await click(page, "# handbook ×", "#ask")
    await page.until(f"!({CHIPS}).length")
    await suggest(page, "What is in #lease", "lease.md")
    await page.press_enter()
    await page.until(f"({CHIPS}).join() === 'lease.md ×'")
    await ask(page, "?")
    assert "840 euros" in await answered(page, 2)
    assert await page.run("[...document.querySelectorAll('.said.user .chip')].map((it) => it.innerText)") == [
        "lease.md"
    ]
    await choose(page, "handbook")
    await page.type("#question", "and #")
    await page.until(f"({SHOWN}).join() === 'handbook'")


async def test_a_delayed_settings_change_stays_in_its_own_conversation(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await ask(page, f"first {seen.width}")
    await answered(page)
    await page.run(
        "window.send = fetch;"
        "window.fetch = async (...call) => {"
        "  const answer = await window.send(...call);"
        "  if (call[1]?.method === 'PATCH') await new Promise((go) => { window.release = go; });"
        "  return answer;"
        "}; true"
    )
    await suggest(page, "#", "handbook")
    await page.press_enter()
    await page.until("window.release && true")
    await start(page, "house")
    await page.run("window.fetch = window.send, window.release(), new Promise((done) => setTimeout(done))")
    await ask(page, "second")
    await answered(page)
    assert await page.run("document.querySelector('#talk .said.user').innerText.trim()") == "second"


async def test_enter_during_chinese_composition_does_not_choose_a_suggestion(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await page.type("#question", "租金多少＃")
    await page.until(f"({SHOWN}).length === 3")
    await page.ask("Input.imeSetComposition", text="shou", selectionStart=4, selectionEnd=4)
    await page.press("Enter", INPUT_METHOD)
    assert not await page.run(CHIPS)
    await page.ask("Input.insertText", text="手册")
    await page.until(f"({SHOWN}).join() === '手册.md'")
    await page.press_enter()
    await until_box(page, "租金多少")
    await page.until(f"({CHIPS}).join() === '手册.md ×'")
    await page.run(f"{BOX}.select()")
    await suggest(page, "、gr", "greet")
    await page.run(f"{BOX}.select()")
    await page.type("#question", "苹果、香蕉")
    assert not await page.run("document.querySelector('.suggestions')")
    await page.press_enter()
    assert "八百四十" in await answered(page)
