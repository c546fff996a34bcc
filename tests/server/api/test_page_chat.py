"""Conversations in the page: no question is lost, whatever happens to the page, the connection or the daemon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser, new_tab
from tests.page import ANSWERS, Wire, answered, ask, choose, click, escape, fill, reload, start, wire
from tests.server.features.readers import documents

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

LINE_POINTS = 16
"""Height of a line in `documents.pdf`."""

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
    {"match": "How much is the deposit", "content": "It is two months. [1]"},
    {"match": "How much is the rent", "content": "The rent is 840 euros. [1]"},
    {
        "match": "What does the flat cost",
        "content": "```python\nrent = 95\n```\n\nThe rent is 840 euros. [1] The rent of the flat is 95 euros a month.",
    },
    {
        "match": "How high",
        "times": 1,
        "tool_calls": [{"name": "file_search", "arguments": {"query": "tide"}}],
    },
    {"match": "How high", "content": "Six metres. [1]"},
    {"match": "add", "times": 1, "tool_calls": [{"name": "calculator", "arguments": {"expression": "40+2"}}]},
    {"match": "add", "content": "It is forty-two."},
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
    deposit = documents.pdf(
        "The first page.",
        "The deposit is two months\nof the basic rent of the attic.\nPets need the consent of the owner.",
    )
    (folder / "docs" / "deposit.pdf").write_bytes(deposit)
    stores = [{"name": "handbook", "folder": str(folder / "docs"), "embedding_model": "vectors"}]
    (folder / "portico.yaml").write_text(json.dumps({**CONFIGURATION, "stores": stores}), encoding="utf-8")
    return folder


class Served:
    """A daemon that can be killed and replaced, behind a `Wire`, with a browser on it."""

    def __init__(self, home: Path, line: Wire, url: str, page: Page) -> None:
        self.home, self.line, self.url, self.page = home, line, url, page
        self.daemon = self._start()

    def _start(self) -> daemons.Daemon:
        daemon = daemons.start(self.home / "data", "--file", str(self.home / "portico.yaml"))
        self.line.target = int(daemon.url.rpartition(":")[2])
        return daemon

    def kill(self) -> None:
        """Kill the daemon and start another one over the same home."""
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.daemon.close()
        self.line.cut()
        self.daemon = self._start()
        self.line.open = True

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.daemon.url}{path}", timeout=60).json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(home: Path) -> AsyncIterator[Served]:
    async with wire(0) as (line, url), browser(home / "profile") as page:
        served_page = Served(home, line, url, page)
        try:
            served_page.daemon.settle()
            await page.open(url)
            yield served_page
        finally:
            served_page.daemon.stop()
            served_page.daemon.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(served: Served) -> Page:
    """The page with a new conversation with `house`."""
    await start(served.page, "house")
    return served.page


async def until_words(page: Page, count: int) -> None:
    """Wait until that many words of the story are visible."""
    await page.until(f"({ANSWERS}).at(-1)?.includes('word{count}')")


@pytest.mark.slow
async def test_markdown_is_drawn_with_tables_code_and_formulas(page: Page) -> None:
    await ask(page, "markdown")
    await answered(page)
    assert await page.run("document.querySelector('#talk td strong').innerText") == "North"
    assert await page.until("document.querySelector('#talk .hljs-keyword')?.innerText") == "def"
    assert await page.run("document.querySelector('#talk .codehead').innerText.includes('python')")
    await page.until("document.querySelector('#talk .katex')?.innerText")
    await page.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    await page.run("document.querySelector('.codehead button:last-child').click()")
    await page.until("document.querySelector('.codehead button:last-child').innerText === 'Copied'")


async def test_hostile_markup_in_an_answer_runs_nothing_and_loads_nothing(page: Page) -> None:
    await ask(page, "hostile")
    text = await answered(page)
    assert "<svg onload=alert(1)>" in text
    assert (
        await page.run(
            "document.querySelectorAll('#talk .said img, #talk .said svg, #talk .said script').length"
        )
        == 0
    )
    links = await page.run("[...document.querySelectorAll('#talk .answer a')].map((it) => it.href)")
    assert links == ["http://127.0.0.1:1/y.png"]


async def test_a_conversation_title_with_markup_is_shown_as_text(page: Page) -> None:
    await ask(page, "<i>hello</i>")
    assert await answered(page) == "<i>hello</i>"
    await page.until("document.querySelector('.conversations .title').innerText === '<i>hello</i>'")
    assert await page.run("document.querySelector('.chathead .title').innerText") == "<i>hello</i>"
    assert await page.run("document.querySelectorAll('.page b, .page i').length") == 0


@pytest.mark.slow
async def test_a_reload_in_mid_stream_loses_nothing(page: Page, served: Served) -> None:
    await ask(page, "tell me a story")
    await until_words(page, 3)
    await page.until("location.hash.startsWith('#/chat/conv_')")
    await reload(page, served.url)
    assert await answered(page) == STORY
    assert await page.run("document.querySelector('.said.user').innerText") == "tell me a story"
    await reload(page, served.url)
    assert await answered(page) == STORY


@pytest.mark.slow
async def test_a_cut_connection_is_made_again_and_the_answer_continues(page: Page, served: Served) -> None:
    await ask(page, "a story")
    await until_words(page, 3)
    served.line.cut()
    await page.until("document.querySelector('.stage')?.innerText.includes('Connection lost')")
    served.line.open = True
    assert await answered(page) == STORY


@pytest.mark.slow
async def test_a_daemon_that_is_killed_answers_after_its_restart(page: Page, served: Served) -> None:
    await ask(page, "one more story")
    await until_words(page, 3)
    await page.until("location.hash.startsWith('#/chat/conv_')")
    served.kill()
    assert STORY in await answered(page)


@pytest.mark.slow
async def test_a_slow_connection_that_breaks_off_delays_and_loses_nothing(page: Page, served: Served) -> None:
    slow = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
    await page.ask("Network.enable")
    await page.ask("Network.emulateNetworkConditions", **slow)
    await reload(page, served.url)
    await start(page, "house")
    await ask(page, "a slow story")
    await until_words(page, 3)
    served.line.cut()
    served.line.open = True
    assert await answered(page) == STORY
    fast = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await page.ask("Network.emulateNetworkConditions", **fast)
    assert await page.run("document.querySelector('.trouble')") is None


@pytest.mark.slow
async def test_another_tab_follows_the_answer_and_both_continue(page: Page, served: Served) -> None:
    await ask(page, "a story for two")
    await until_words(page, 3)
    place = await page.until("location.hash.startsWith('#/chat/conv_') && location.hash")
    async with new_tab(page) as second_page:
        await second_page.open(f"{served.url}/{place}")
        assert await answered(second_page) == STORY
        assert await answered(page) == STORY
        await ask(second_page, "markdown")
        await answered(second_page, 2)
    await reload(page, served.url)
    await page.until(f"({ANSWERS}).length === 2")
    assert second_page.complaints == []


@pytest.mark.slow
async def test_a_model_chosen_mid_stream_answers_the_next_question(page: Page, served: Served) -> None:
    await ask(page, "a story please")
    await until_words(page, 3)
    await choose(page, "other")
    assert await answered(page) == STORY
    await ask(page, "and who are you?")
    assert await answered(page, 2) == "I am the other one."
    session = (await page.run("location.hash")).rpartition("/")[2]
    messages = [row["message"] for row in served.get(f"/api/sessions/{session}/messages")["data"]]
    assert [message["sender"] for message in messages] == ["user", "house", "user", "other"]
    assert messages[1]["content"] == STORY


async def test_escape_stops_an_answer_and_keeps_what_was_said(page: Page, served: Served) -> None:
    await ask(page, "silence")
    await until_words(page, 2)
    await page.press("Escape", 27)
    assert (await answered(page)).startswith("word0 word1 word2")
    assert await page.run("document.querySelector('#talk .answer').innerText.includes('Stopped.')")
    await click(page, "Continue", "#talk .tools")
    assert await answered(page, 2) == "Continue where you stopped."
    labels = "[...document.querySelectorAll('#talk .tools button')].map((it) => it.innerText)"
    assert "Continue" not in await page.run(labels)


async def test_a_question_that_fails_can_be_asked_again(page: Page) -> None:
    await ask(page, "busy")
    assert "Slow down." in await page.until("document.querySelector('.failedturn')?.innerText")
    assert await page.run("document.querySelector('.said.user').innerText") == "busy"
    await page.run("document.querySelector('.failedturn button').click()")
    await page.until("document.querySelector('.failedturn')?.innerText.includes('Slow down.')")


@pytest.mark.slow
async def test_a_citation_opens_the_document_at_its_passage(page: Page) -> None:
    await choose(page, "handbook")
    await ask(page, "How much is the rent?")
    assert "The rent is 840 euros." in await answered(page)
    await page.run("document.querySelector('#talk .cite').click()")
    passage = await page.until("document.querySelector('dialog[open] .passage')?.innerText")
    assert "The rent of the flat is 840 euros a month." in passage
    assert await page.run("document.querySelector('dialog[open] h2').innerText") == "lease.md"
    await escape(page)


@pytest.mark.slow
async def test_a_sentence_without_evidence_is_marked_in_words(page: Page, served: Served) -> None:
    mark = "document.querySelector('#talk p > .unsupported')"
    await choose(page, "handbook")
    await ask(page, "What does the flat cost?")
    text = await answered(page)
    assert text.endswith("95 euros a month. no evidence: another number")
    assert await page.run("document.querySelectorAll('#talk .unsupported').length") == 2
    assert (
        await page.run("document.querySelector('#talk .codehead .unsupported').innerText")
        == "no evidence: another number"
    )
    sources = await page.run("document.querySelectorAll('#talk .sources li').length")
    assert sources == await page.run(
        "new Set([...document.querySelectorAll('#talk .sources li')].map((it) => it.value)).size"
    )
    await page.run("localStorage.setItem('portico.language', 'zh')")
    await reload(page, served.url)
    assert await page.until(f"{mark}?.innerText") == "无依据：数字不同"
    await page.run("localStorage.removeItem('portico.language')")
    await reload(page, served.url)
    await page.until(f"{mark}?.innerText.startsWith('no evidence')")


async def test_a_citation_of_a_pdf_opens_its_page_with_the_cited_sentence_marked(page: Page) -> None:
    await choose(page, "handbook")
    await ask(page, "How much is the deposit?")
    assert "two months" in await answered(page)
    await page.run("document.querySelector('#talk .cite').click()")
    page_image = "document.querySelector('dialog[open] .drawnpage img')"
    assert await page.until(f"{page_image}?.decode().then(() => true)")
    colours = f"""(async () => {{
      const image = {page_image};
      await image.decode();
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const context = canvas.getContext('2d');
      context.drawImage(image, 0, 0);
      const dots = context.getImageData(0, 0, canvas.width, canvas.height).data;
      const rows = new Set();
      for (let at = 0; at < dots.length; at += 4)
        if (dots[at] === 255 && dots[at + 1] === 224 && dots[at + 2] === 70)
          rows.add(Math.floor(at / 4 / canvas.width / canvas.height * 792));
      return [...rows];
    }})()"""
    marked_rows = await page.run(colours)
    assert marked_rows and max(marked_rows) - min(marked_rows) < 2 * LINE_POINTS, (
        "two lines of three are marked"
    )
    sentence = "The deposit is two months\nof the basic rent of the attic."
    assert await page.run(f"{page_image}.alt") == sentence
    await click(page, "Show text", "dialog[open]")
    marks = "[...document.querySelectorAll('dialog[open] .passage mark')].map((it) => it.textContent)"
    assert await page.until(f"({marks}).length && {marks}") == [sentence]
    assert "Pets need" in await page.run("document.querySelector('dialog[open] .passage').innerText")
    await escape(page)


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
    texts = [row["message"]["content"] for row in served.get(f"/api/sessions/{old}/messages")["data"]]
    assert texts == ["first thought", "first thought", "second thought", "second thought"]
    await page.run("document.querySelector('.branches button').click()")
    await page.until(f"({ANSWERS}).at(-1) === 'second thought'")


async def test_regenerating_an_answer_creates_a_new_branch(page: Page) -> None:
    await ask(page, "again and again")
    await answered(page)
    await click(page, "Regenerate", "#talk .tools")
    await page.until("document.querySelector('.branches')?.innerText.includes('Branch 2 of 2')")
    assert await answered(page) == "again and again"


async def open_settings(page: Page) -> None:
    """Open the settings of the conversation, once the page knows that it is a conversation with a model."""
    await page.until("document.querySelector('#settings') && true")
    await page.run("document.querySelector('#settings').click()")


async def test_settings_belong_to_their_conversation(page: Page, served: Served) -> None:
    await open_settings(page)
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
    await open_settings(page)
    assert (
        await page.until("document.querySelector('dialog[open] [name=instructions]')?.value") == "Be brief."
    )
    await escape(page)


async def set_up(page: Page, *labels: str) -> None:
    """Tick these in the settings of the conversation."""
    await open_settings(page)
    for label in labels:
        checkbox = (
            "[...document.querySelectorAll('dialog[open] label.check')]"
            f".find((it) => it.innerText.trim() === {json.dumps(label)})?.querySelector('input')"
        )
        await page.until(f"({checkbox}) && true")
        await page.run(f"({checkbox}).click()")
    await click(page, "Save", "dialog[open]")
    await page.until("!document.querySelector('dialog[open]')")


async def test_a_model_uses_the_tools_of_its_conversation(page: Page, served: Served) -> None:
    await set_up(page, "calculator")
    await ask(page, "add forty and two")
    assert "forty-two" in await answered(page)
    calls = "[...document.querySelectorAll('#talk .call')].map((it) => it.textContent)"
    [call] = await page.run(calls)  # the response reports this call, and so does its run
    assert "calculator" in call and "40+2" in call and "42" in call
    await reload(page, served.url)
    await answered(page)
    assert await page.run(calls) == [call]
    await open_settings(page)
    await page.until("document.querySelector('dialog[open] [name=tools][value=calculator]')?.checked")
    await escape(page)


async def test_an_attached_document_belongs_to_its_conversation_and_is_deleted_with_it(
    page: Page, served: Served
) -> None:
    first, second = served.home / "tide <b>1.md", served.home / "port.md"
    first.write_text("# Tides\n\nThe spring tide at North is six metres high.\n", encoding="utf-8")
    second.write_text("# Ports\n\nNorth has two quays.\n", encoding="utf-8")
    await page.choose_file("#files", first)
    await page.until("document.querySelector('dialog[open] [data-choice=conversation]') && true")
    await page.press_enter()
    chips = "[...document.querySelectorAll('#documents .chip')].map((it) => it.innerText).sort().join()"
    await page.until(f"{chips} === 'tide <b>1.md ×'")
    await page.choose_file("#files", second)
    await page.until(f"{chips} === 'port.md ×,tide <b>1.md ×'")
    assert not await page.run(
        "document.querySelector('dialog[open]') || document.querySelector('.composer b')"
    )
    await ask(page, "How high is the tide?")
    assert "Six metres." in await answered(page)
    await page.run("document.querySelector('#talk .cite').click()")
    passage = await page.until("document.querySelector('dialog[open] .passage')?.innerText")
    assert "six metres high" in passage
    await escape(page)
    session = (await page.run("location.hash")).rpartition("/")[2]
    await reload(page, served.url)
    await page.until(f"{chips} === 'port.md ×,tide <b>1.md ×'")
    await page.run(
        "[...document.querySelectorAll('#documents .chip')].find((it) => it.innerText.includes('port')).click()"
    )
    await page.until(f"{chips} === 'tide <b>1.md ×'")
    store = served.get(f"/api/sessions/{session}")["metadata"]["page"]["settings"]["documents"]
    assert served.get(f"/v1/vector_stores/{store}")["file_counts"]["total"] == 1
    await page.run("document.querySelector('.conversations li.current button').click()")
    await click(page, "Delete", ".menu:popover-open")
    await page.until("location.hash === '#/chat' && !document.querySelector('#talk .said')")
    await click(page, "Close", ".toast")
    while "error" not in served.get(f"/v1/vector_stores/{store}"):
        await page.run("0")  # it is removed after its conversation


async def test_a_document_goes_to_a_store_which_the_model_then_searches(page: Page, served: Served) -> None:
    path = served.home / "quay.md"
    path.write_text("# Quays\n\nThe east quay is for fishing boats.\n", encoding="utf-8")
    await page.choose_file("#files", path)
    await page.until("document.querySelector('dialog[open] [data-choice=conversation]') && true")
    await click(page, "Close", "dialog[open]")
    await page.choose_file("#files", path)
    await page.until("document.querySelector('dialog[open] [role=combobox]') === document.activeElement")
    await page.ask("Input.insertText", text="handbook")
    await page.press_enter()
    await page.until("document.querySelector('#send') && !document.querySelector('#send').disabled")
    [store] = served.get("/api/stores?name=handbook")["data"]
    names = [file["filename"] for file in served.get(f"/api/stores/{store['id']}/files")["data"]]
    assert "quay.md" in names
    await open_settings(page)
    await page.until(f"document.querySelector('dialog[open] [name=stores][value={store['id']}]')?.checked")
    await escape(page)


async def test_a_file_that_cannot_be_read_says_why_and_the_question_stays(page: Page, served: Served) -> None:
    path = served.home / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 and no more")
    await page.type("#question", "half a question")
    await page.choose_file("#files", path)
    await page.until("document.querySelector('dialog[open] [data-choice=conversation]') && true")
    await page.press_enter()
    assert "broken.pdf" in await page.until("document.querySelector('.composer .trouble')?.innerText")
    assert await page.run("document.querySelector('#question').value") == "half a question"


async def beside(page: Page, name: str) -> None:
    """Add another model that answers too."""
    await page.until("document.querySelector('#beside') && !document.querySelector('#beside').disabled")
    await page.run("document.querySelector('#beside').click()")
    await page.until(f"document.querySelector('dialog[open] [data-choice={json.dumps(name)}]') && true")
    await page.run(f"document.querySelector('dialog[open] [data-choice={json.dumps(name)}]').click()")
    await page.until("!document.querySelector('dialog[open]')")


PAIRS = (
    "[...document.querySelectorAll('#talk .pair')].map((pair) => "
    "[...pair.querySelectorAll('.answer .markdown')].map((it) => it.innerText.trim()))"
)


async def until_pairs(page: Page, *pairs: list[str]) -> None:
    """Wait until these complete answers are displayed side by side."""
    await page.until(
        f"!document.querySelector('#talk .live') && JSON.stringify({PAIRS}) === JSON.stringify({json.dumps(pairs)})"
    )


@pytest.mark.slow
async def test_two_models_answer_side_by_side_and_the_chat_continues_with_one(
    page: Page, served: Served
) -> None:
    await ask(page, "alone")
    await answered(page)
    await beside(page, "other")
    await ask(page, "together")
    await until_pairs(page, ["together", "I am the other one."])
    main = (await page.run("location.hash")).rpartition("/")[2]
    await reload(page, served.url)
    await until_pairs(page, ["together", "I am the other one."])
    await ask(page, "a story of two")
    await page.until(
        f"({ANSWERS}).some((it) => it.includes('word3'))"
    )  # the other answer may be complete already
    await reload(page, served.url)
    await until_pairs(page, ["together", "I am the other one."], [STORY, "I am the other one."])
    titles = "[...document.querySelectorAll('.conversations li .title')].map((it) => it.innerText)"
    assert (await page.run(titles)).count("alone") == 1
    await click(page, "Continue with this answer", "#talk .pair:last-child")
    await page.until(f"!location.hash.endsWith({json.dumps(main)}) && !document.querySelector('.pair')")
    await page.until("document.querySelector('#model').innerText.startsWith('other')")
    await ask(page, "and now?")
    assert await answered(page, 4) == "I am the other one."
    senders = [row["message"]["sender"] for row in served.get(f"/api/sessions/{main}/messages")["data"]]
    assert senders == ["user", "house"] * 3


async def test_a_failed_answer_beside_another_is_retried_and_the_other_stays(page: Page) -> None:
    await choose(page, "other")
    await beside(page, "house")
    await ask(page, "busy beside")
    await page.until("document.querySelector('.pair .failedturn')?.innerText.includes('Slow down.')")
    await click(page, "Try again", ".pair .failedturn")
    await page.until("document.querySelector('.pair .failedturn')?.innerText.includes('Slow down.')")
    await click(page, "Dismiss", ".pair .failedturn")
    assert await answered(page) == "I am the other one."


async def test_an_answer_is_rated_and_corrected(page: Page, served: Served) -> None:
    await ask(page, "rate me")
    await answered(page)
    session = (await page.run("location.hash")).rpartition("/")[2]

    async def rating(pressed: str) -> list[Any]:
        await page.until(
            f"document.querySelector('.rating [aria-pressed=true]')?.ariaLabel === {json.dumps(pressed)}"
        )
        ratings = served.get("/api/ratings?limit=1000")["data"]
        return [(entry["value"], entry["correction"]) for entry in ratings if entry["session"] == session]

    await click(page, "Bad answer", "#talk")
    assert await rating("Bad answer") == [("bad", "")]
    await click(page, "Good answer", "#talk")
    assert await rating("Good answer") == [("good", "")]
    await reload(page, served.url)
    assert await rating("Good answer") == [("good", "")]
    await click(page, "Correct the answer", "#talk")
    await page.until("document.querySelector('dialog[open] [name=correction]')?.value === 'rate me'")
    await page.run("document.querySelector('dialog[open] [name=correction]').select()")
    await fill(page, correction="You are fine.")
    await click(page, "Save", "dialog[open]")
    assert await rating("Correct the answer") == [("corrected", "You are fine.")]
    await click(page, "Good answer", "#talk")
    await rating("Good answer")
    await click(page, "Good answer", "#talk")
    await page.until("!document.querySelector('.rating [aria-pressed=true]')")
    assert session not in [entry["session"] for entry in served.get("/api/ratings?limit=1000")["data"]]


async def test_a_conversation_is_found_renamed_and_deleted(page: Page, served: Served) -> None:
    await ask(page, "the walrus and the carpenter")
    await answered(page)
    await page.type("#search", "walrus")
    rows = "[...document.querySelectorAll('.conversations li .title')].map((it) => it.innerText)"
    await page.until(f"({rows}).join() === 'the walrus and the carpenter'")
    await page.run("document.querySelector('.conversations li button').click()")
    await click(page, "Rename", ".menu:popover-open")
    await page.until("document.querySelector('dialog[open] [name=title]')")
    await page.run("document.querySelector('dialog[open] [name=title]').select()")
    await page.type("dialog[open] [name=title]", "Oysters")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    await page.until(f"({rows}).join() === 'Oysters'")
    assert served.get("/api/sessions?search=walrus")["data"][0]["title"] == "Oysters"
    group = "document.querySelector('.conversations li.group').innerText"
    for does, stands in (("Pin", "Pinned"), ("Unpin", "Today")):
        await page.run("document.querySelector('.conversations li button').click()")
        await click(page, does, ".menu:popover-open")
        await page.until(f"{group} === {json.dumps(stands)}")
    await page.run("document.querySelector('.conversations li button').click()")
    await click(page, "Delete", ".menu:popover-open")
    await page.until(f"({rows}).length === 0 && location.hash === '#/chat'")
    assert "“Oysters” is deleted." in await page.run("document.querySelector('.toast').innerText")
    await click(page, "Undo", ".toast")
    await page.until(f"({rows}).join() === 'Oysters' && !document.querySelector('.toast').checkVisibility()")
    await page.run("document.querySelector('.conversations li button').click()")
    await click(page, "Delete", ".menu:popover-open")
    await page.until(f"({rows}).length === 0")
    assert len(served.get("/api/sessions?search=walrus")["data"]) == 1, "it can still be undone"
    await page.open("about:blank")
    while served.get("/api/sessions?search=walrus")["data"]:
        await page.run("0")  # a page that closes sends the deletion
    await page.open(served.url)
    await page.until("document.querySelector('#search') && true")
    await page.run(
        "document.querySelector('#search').value = '',"
        "document.querySelector('#search').dispatchEvent(new Event('input', {bubbles: true}))"
    )


async def move(page: Page, title: str, folder: str) -> None:
    """Move the conversation with that title into a folder."""
    row = (
        "[...document.querySelectorAll('.conversations li')]"
        f".find((it) => it.querySelector('.title')?.innerText === {json.dumps(title)})"
    )
    await page.until(f"{row} && true")
    await page.run(f"{row}.querySelector('button').click()")
    await click(page, "Move to folder", ".menu:popover-open")
    await page.until("document.querySelector('dialog[open] [name=folder]') && true")
    await page.run("document.querySelector('dialog[open] [name=folder]').select()")
    await (fill(page, folder=folder) if folder else page.press("Delete", 46))
    await click(page, "Save", "dialog[open]")
    await page.until("!document.querySelector('dialog[open]')")


async def test_conversations_are_moved_into_folders_that_close(page: Page, served: Served) -> None:
    rows = (
        "[...document.querySelectorAll('.conversations li')]"
        ".map((it) => (it.querySelector('.title') ?? it).innerText.trim())"
    )
    for question in ("plant the tulips", "plant the roses"):
        await start(page, "house")
        await ask(page, question)
        await answered(page)
        await move(page, question, "Garden <1>")
    await page.until(f"({rows}).slice(0, 3).join() === 'Garden <1>,plant the roses,plant the tulips'")
    await click(page, "Garden <1>", ".conversations")
    await page.until(f"({rows}).indexOf('Garden <1>') === 0 && !({rows}).includes('plant the roses')")
    await reload(page, served.url)
    await page.until(f"({rows}).length && document.querySelector('.folder').ariaExpanded === 'false'")
    await click(page, "Garden <1>", ".conversations")
    await page.until("document.querySelector('.folder').ariaExpanded === 'true'")
    for question in ("plant the tulips", "plant the roses"):
        await move(page, question, "")
    await page.until("!document.querySelector('.folder')")
    sessions = [
        conversation
        for conversation in served.get("/api/sessions")["data"]
        if "plant the" in conversation["title"]
    ]
    assert [conversation["metadata"]["page"].get("folder") for conversation in sessions] == [None, None]


async def test_a_draft_survives_a_reload(page: Page, served: Served) -> None:
    await page.type("#question", "half a thought")
    await reload(page, served.url)
    assert await page.until("document.querySelector('#question')?.value") == "half a thought"
    await page.until("document.querySelector('#model').innerText.startsWith('house')")


@pytest.mark.slow
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
