"""Conversations in the page: nothing that was asked is lost, whatever happens to the page, the wire or the daemon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser
from tests.page import ANSWERS, Wire, answered, ask, choose, click, start, wire

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

STORY = " ".join(f"word{number}" for number in range(60))

HOSTILE = "<img src=x onerror=alert(1)><svg onload=alert(1)> [x](javascript:alert(1)) ![y](http://127.0.0.1:1/y.png)"

MARKDOWN = """# Tides

| port | tide |
| --- | ---: |
| **North** | 6 |

```python
def tide(hour: int) -> int:
    return hour % 12
```

The height is $h = a \\\\sin(t)$."""

SCRIPT: list[dict[str, Any]] = [
    {"match": "story", "content": STORY, "interval": 0.05},
    {"match": "silence", "content": STORY, "hang": 3},
    {"match": "markdown", "content": MARKDOWN},
    {"match": "hostile", "content": HOSTILE},
    {"match": "rent", "content": "The rent is 840 euros. [1]"},
    {"match": "sum", "times": 1, "tool_calls": [{"name": "calculator", "arguments": {"expression": "2+3"}}]},
    {"match": "sum", "content": "It is five."},
    {"match": "busy", "error": {"status": 429, "message": "Slow down.", "code": "rate_limit_exceeded"}},
]

CONFIGURATION = {
    "models": [
        {"name": "house", "source": "fake://", "aliases": ["default"], "parameters": {"script": SCRIPT}},
        {
            "name": "other",
            "source": "fake://",
            "parameters": {"script": [{"content": "I am the other one."}]},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding"},
    ],
    "agents": [{"name": "desk", "instructions": "You help.", "tools": ["calculator"], "model": "house"}],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversations")
    (folder / "docs").mkdir()
    (folder / "docs" / "lease.md").write_text(
        "# Lease\n\nThe rent of the flat is 840 euros a month.\n", encoding="utf-8"
    )
    stores = [{"name": "handbook", "folder": str(folder / "docs"), "embedding_model": "vectors"}]
    (folder / "portico.yaml").write_text(json.dumps({**CONFIGURATION, "stores": stores}), encoding="utf-8")
    return folder


class Served:
    """A daemon that can be killed and followed by another one, behind a wire, and a browser on it."""

    def __init__(self, home: Path, line: Wire, url: str, page: Page) -> None:
        self.home, self.line, self.url, self.page = home, line, url, page
        self.daemon = self._start()

    def _start(self) -> daemons.Daemon:
        daemon = daemons.start(self.home / "data", "--file", str(self.home / "portico.yaml"))
        self.line.target = int(daemon.url.rpartition(":")[2])
        return daemon

    def kill(self) -> None:
        """Kill it, and start another one over the same home."""
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.daemon.close()
        self.line.cut()
        self.daemon = self._start()
        self.line.open = True

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.daemon.url}{path}", timeout=30).json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(home: Path) -> AsyncIterator[Served]:
    async with wire(0) as (line, url), browser(home / "profile") as page:
        made = Served(home, line, url, page)
        try:
            made.daemon.settle()
            await page.open(url)
            yield made
        finally:
            made.daemon.stop()
            made.daemon.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(served: Served) -> Page:
    """The page with a new conversation with `house`."""
    await start(served.page, "house")
    return served.page


async def until_words(page: Page, count: int) -> None:
    """Wait until so many words of the story are there."""
    await page.until(f"({ANSWERS}).at(-1)?.includes('word{count}')")


async def reload(page: Page, url: str) -> None:
    address = await page.run("location.hash")
    await page.open("about:blank")
    await page.open(f"{url}/{address}")


async def test_markdown_is_drawn_with_tables_code_and_formulas(page: Page) -> None:
    await ask(page, "markdown")
    await answered(page)
    assert await page.run("document.querySelector('#talk td strong').innerText") == "North"
    assert await page.until("document.querySelector('#talk .hljs-keyword')?.innerText") == "def"
    assert await page.run("document.querySelector('#talk .codehead').innerText.includes('python')")
    await page.until("document.querySelector('#talk .katex')?.innerText")
    await page.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    await page.run("document.querySelector('.codehead button').click()")
    await page.until("document.querySelector('.codehead button').innerText === 'Copied'")


async def test_nothing_that_a_model_writes_acts_or_reaches_elsewhere(page: Page) -> None:
    await ask(page, "hostile")
    text = await answered(page)
    assert "<svg onload=alert(1)>" in text
    assert await page.run("document.querySelectorAll('#talk img, #talk svg, #talk script').length") == 0
    links = await page.run("[...document.querySelectorAll('#talk .answer a')].map((it) => it.href)")
    assert links == ["http://127.0.0.1:1/y.png"]


async def test_names_that_are_markup_are_text(page: Page) -> None:
    await ask(page, "<i>hello</i>")
    assert await answered(page) == "<i>hello</i>"
    await page.until("document.querySelector('.conversations .title').innerText === '<i>hello</i>'")
    assert await page.run("document.querySelector('.chathead .title').innerText") == "<i>hello</i>"
    assert await page.run("document.querySelectorAll('.page b, .page i').length") == 0


async def test_a_reload_in_mid_stream_loses_nothing(page: Page, served: Served) -> None:
    await ask(page, "tell me a story")
    await until_words(page, 3)
    await page.until("location.hash.startsWith('#/chat/conv_')")
    await reload(page, served.url)
    assert await answered(page) == STORY
    assert await page.run("document.querySelector('.said.user').innerText") == "tell me a story"
    await reload(page, served.url)
    assert await answered(page) == STORY


async def test_a_cut_connection_is_made_again_and_the_answer_continues(page: Page, served: Served) -> None:
    await ask(page, "a story")
    await until_words(page, 3)
    served.line.cut()
    await page.until("document.querySelector('.stage')?.innerText.includes('connection is cut')")
    served.line.open = True
    assert await answered(page) == STORY


async def test_a_daemon_that_is_killed_answers_after_its_restart(page: Page, served: Served) -> None:
    await ask(page, "one more story")
    await until_words(page, 3)
    await page.until("location.hash.startsWith('#/chat/conv_')")
    served.kill()
    assert STORY in await answered(page)


async def test_another_model_in_mid_stream_answers_the_next_question(page: Page, served: Served) -> None:
    await ask(page, "a story please")
    await until_words(page, 3)
    await choose(page, "other")
    assert await answered(page) == STORY
    await ask(page, "and who are you?")
    assert await answered(page, 2) == "I am the other one."
    session = (await page.run("location.hash")).rpartition("/")[2]
    said = [row["message"] for row in served.get(f"/api/sessions/{session}/messages")["data"]]
    assert [message["sender"] for message in said] == ["user", "house", "user", "other"]
    assert said[1]["content"] == STORY


async def test_escape_stops_an_answer_and_keeps_what_was_said(page: Page, served: Served) -> None:
    await ask(page, "silence")
    await until_words(page, 2)
    await page.press("Escape", 27)
    assert (await answered(page)).startswith("word0 word1 word2")
    assert await page.run("document.querySelector('#talk .answer').innerText.includes('Stopped.')")


async def test_a_question_that_fails_can_be_asked_again(page: Page) -> None:
    await ask(page, "busy")
    assert "Slow down." in await page.until("document.querySelector('.failedturn')?.innerText")
    assert await page.run("document.querySelector('.said.user').innerText") == "busy"
    await page.run("document.querySelector('.failedturn button').click()")
    await page.until("document.querySelector('.failedturn')?.innerText.includes('Slow down.')")


async def test_a_citation_opens_the_document_at_its_passage(page: Page) -> None:
    await choose(page, "handbook")
    await ask(page, "How much is the rent?")
    assert "The rent is 840 euros." in await answered(page)
    await page.run("document.querySelector('#talk .cite').click()")
    marked = await page.until("document.querySelector('dialog[open] mark')?.innerText")
    assert "The rent of the flat is 840 euros a month." in marked
    assert await page.run("document.querySelector('dialog[open] h2').innerText") == "lease.md"
    await page.press("Escape", 27)
    await page.until("!document.querySelector('dialog[open]')")


async def test_an_agents_tools_are_shown_with_arguments_and_results(page: Page, served: Served) -> None:
    await choose(page, "desk")
    await ask(page, "sum, please")
    assert "It is five." in await answered(page)
    call = await page.until("document.querySelector('#talk .call')?.textContent")
    assert "calculator" in call and "2+3" in call and "5" in call
    await reload(page, served.url)
    assert await page.until("document.querySelector('#talk .call')?.textContent") == call


async def test_an_edited_question_is_a_branch_and_the_other_one_stays(page: Page, served: Served) -> None:
    await ask(page, "first thought")
    await answered(page)
    await ask(page, "second thought")
    await answered(page, 2)
    old = (await page.run("location.hash")).rpartition("/")[2]
    await page.run("[...document.querySelectorAll('.mine .tools button')].at(-1).click()")
    await page.until("document.querySelector('.edit textarea')")
    await page.run("document.querySelector('.edit textarea').select()")
    await page.type(".edit textarea", "third thought")
    await page.run("document.querySelector('.edit').requestSubmit()")
    await page.until("document.querySelector('.branches')?.innerText.includes('Branch 2 of 2')")
    assert await answered(page, 2) == "third thought"
    told = [row["message"]["content"] for row in served.get(f"/api/sessions/{old}/messages")["data"]]
    assert told == ["first thought", "first thought", "second thought", "second thought"]
    await page.run("document.querySelector('.branches button').click()")
    await page.until(f"({ANSWERS}).at(-1) === 'second thought'")


async def test_an_answer_is_made_again_in_a_branch(page: Page) -> None:
    await ask(page, "again and again")
    await answered(page)
    await page.run(
        "[...document.querySelectorAll('#talk .tools button')].find((it) => it.innerText === 'Regenerate').click()"
    )
    await page.until("document.querySelector('.branches')?.innerText.includes('Branch 2 of 2')")
    assert await answered(page) == "again and again"


async def test_settings_belong_to_their_conversation(page: Page, served: Served) -> None:
    await page.run("document.querySelector('#settings').click()")
    await page.type("[name=instructions]", "Be brief.")
    await page.type("[name=temperature]", "0")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    await page.until("!document.querySelector('dialog[open]')")
    await ask(page, "how are you set?")
    await answered(page)
    session = (await page.run("location.hash")).rpartition("/")[2]
    [_, answer] = served.get(f"/api/sessions/{session}/messages")["data"]
    response = served.get(f"/v1/responses/{answer['message']['extra_info']['response']}")
    assert (response["instructions"], response["temperature"]) == ("Be brief.", 0)
    await reload(page, served.url)
    await answered(page)
    await page.run("document.querySelector('#settings').click()")
    assert await page.until("document.querySelector('[name=instructions]')?.value") == "Be brief."
    await page.press("Escape", 27)


async def test_a_conversation_is_found_renamed_and_deleted(page: Page, served: Served) -> None:
    await ask(page, "the walrus and the carpenter")
    await answered(page)
    await page.type("#search", "walrus")
    rows = "[...document.querySelectorAll('.conversations li .title')].map((it) => it.innerText)"
    await page.until(f"({rows}).join() === 'the walrus and the carpenter'")
    await page.run("document.querySelector('.conversations li button').click()")
    await click(page, "Rename", "dialog[open]")
    await page.until("document.querySelector('dialog[open] [name=title]')")
    await page.run("document.querySelector('dialog[open] [name=title]').select()")
    await page.type("dialog[open] [name=title]", "Oysters")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    await page.until(f"({rows}).join() === 'Oysters'")
    assert served.get("/api/sessions?search=walrus")["data"][0]["title"] == "Oysters"
    await page.run("document.querySelector('.conversations li button').click()")
    await page.until("document.querySelector('dialog[open] .menu .danger')")
    await page.run("document.querySelector('dialog[open] .menu .danger').click()")
    await page.until("document.querySelector('dialog[open] .actions .danger')")
    await page.run("document.querySelector('dialog[open] .actions .danger').click()")
    await page.until(f"({rows}).length === 0 && location.hash === '#/chat'")
    assert served.get("/api/sessions?search=walrus")["data"] == []
    await page.run(
        "document.querySelector('#search').value = '',"
        "document.querySelector('#search').dispatchEvent(new Event('input', {bubbles: true}))"
    )


async def test_a_draft_survives_a_reload(page: Page, served: Served) -> None:
    await page.type("#question", "half a thought")
    await reload(page, served.url)
    await page.until("document.querySelector('#question')?.value === 'half a thought'")
    await page.until("document.querySelector('#model').innerText.startsWith('house')")


async def test_a_long_answer_is_followed_until_the_reader_scrolls_up(page: Page) -> None:
    await page.resize(1280, 420)
    frame = "document.querySelector('.talkframe')"
    at_end = f"({frame}.scrollHeight - {frame}.scrollTop - {frame}.clientHeight < 48)"
    for number in range(1, 5):
        await ask(page, f"markdown {number}")
        await answered(page, number)
    await page.until(f"{frame}.scrollTop > 0 && {at_end}")
    await ask(page, "a last story")
    await until_words(page, 2)
    await page.run(f"{frame}.scrollTop = 0")
    await page.until("document.querySelector('.toend')")
    assert await answered(page, 5) == STORY
    assert await page.run(f"{frame}.scrollTop") == 0
    await page.run("document.querySelector('.toend').click()")
    await page.until(at_end)
    await page.resize(1280, 800)
