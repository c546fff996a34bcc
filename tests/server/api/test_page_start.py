"""A stranger's first view of the page: the documents of the start, the questions they answer, and quotations."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests import daemon as daemons
from tests.browser import CHROMIUM, browser
from tests.page import IDLE, WIDTHS, Seen, answered, ask, click, escape, reload, sound, start, text, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

DOCUMENTS = {
    "visitors.md": "# Visitors\n\n## How do I get a parking space?\n\nAsk the front desk; a space costs 45 euros a "
    "month.\n\n## Can I bring my dog?\n\nDogs are allowed on Fridays if the colleagues in the room agree.\n",
    "router.md": "# Router\n\nThe Kestrel router is a small device that connects the office to the internet. It "
    "listens on port 7419.\n\n## Reset\n\nHold the button for ten seconds to reset the Kestrel router.\n",
    "rooms.md": "# Meeting rooms\n\nThe rooms are on the second floor.\n\n"
    "| Room | Seats | Phone |\n| --- | --- | --- |\n| Aspen | 12 | 301 |\n| Birch | 6 | 302 |\n| Cedar | 20 | 303 |\n",
}

CHINESE = {
    "设备.md": "# 设备\n\n星桥是一种内部使用的消息总线，由平台组维护。\n\n## 笔记本电脑\n\n"
    "每位员工每三年可以更换一次笔记本电脑，申请在内网提交。\n"
}

THOUGHT = "<think>\nThe reader wants\n\na greeting.\n</think>\n\nGood morning."
TASKS = "- [x] washed\n- [ ] dried\n- [y] neither\n\n1. [X] `folded`"

CONFIGURATION = {
    "models": [
        {
            "name": "thinker",
            "source": "fake://",
            "aliases": ["house"],
            "parameters": {
                "script": [
                    {"match": "greet", "content": THOUGHT, "interval": 0.02},
                    {"match": "forever", "content": "<think>and on and on", "interval": 0.02},
                    {"match": "tasks", "content": TASKS},
                ]
            },
        }
    ],
    "agents": [{"name": "aardvark", "instructions": "You help.", "model": "thinker"}],
    "stores": [{"name": "aaa-empty", "app": True}],
    "apps": [
        {
            "name": "abacus",
            "flow": {
                "input_schema": {"type": "string"},
                "step": {"op": "code", "source": "lambda given: given"},
            },
        }
    ],
}


TARGET = (
    "(() => { const it = document.querySelector('#model')?.innerText; "
    "return !it?.startsWith('No model') && it; })()"
)
"""The chosen model or app, once the page has loaded its list."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    """A daemon that follows two folders, started with the folder whose name sorts last, and a fresh browser on it."""
    folder = tmp_path_factory.mktemp("start")
    for name, documents in {"office": DOCUMENTS, "beijing": CHINESE}.items():
        (folder / name).mkdir()
        for file, content in documents.items():
            (folder / name / file).write_text(content, encoding="utf-8")
    (folder / "portico.yaml").write_text(json.dumps(CONFIGURATION), encoding="utf-8")
    options = ("--file", str(folder / "portico.yaml"))
    docs = ("--docs", str(folder / "office"), "--docs", str(folder / "beijing"))
    with daemons.running(folder / "home", *options, *docs) as daemon:
        daemon.settle()
        async with browser(folder / "profile") as page:
            await page.open(daemon.url)
            yield Seen(daemon.url, page, folder)
            assert page.complaints == []


@pytest.mark.slow
async def test_a_fresh_profile_chats_with_the_folder_given_at_startup(office: Seen) -> None:
    assert (await office.page.until(TARGET)).startswith("office")
    assert office.get("/api/status").json()["apps"] == [
        "office",
        "beijing",
        "aaa-empty",
        "aardvark",
        "abacus",
    ]


BEGINNINGS = "[...document.querySelectorAll('.beginnings button')].map((it) => it.innerText)"


@pytest.mark.slow
async def test_the_empty_chat_shows_three_questions_that_the_documents_answer(office: Seen) -> None:
    page = office.page
    await start(page, "office")
    questions = await page.until(f"({BEGINNINGS}).length === 3 && {BEGINNINGS}")
    assert len(set(questions)) == 3
    for width in WIDTHS:
        await page.resize(width, 800)
        await sound(replace(office, width=width))
    assert not await page.run("document.querySelector('#snippet').checkVisibility()")
    await click(page, "Use from code")
    assert 'model="office"' in await page.until(text("#snippet"))
    for question in questions:
        await start(page, "office")
        await click(page, question)
        answer = await answered(page)
        assert await page.run(text(".said.user")) == question
        assert await page.run("document.querySelectorAll('#talk blockquote').length") > 0
        assert "may not answer" not in answer and "not in these documents" not in answer


async def test_questions_are_in_the_language_of_the_documents(office: Seen) -> None:
    await start(office.page, "beijing")
    questions = await office.page.until(f"({BEGINNINGS}).length && {BEGINNINGS}")
    assert "星桥是什么？" in questions


async def test_a_store_without_documents_leads_to_its_upload(office: Seen) -> None:
    await start(office.page, "aaa-empty")
    await click(office.page, "Add documents", "#add")
    await office.page.until(
        "location.hash === '#/library/documents/aaa-empty' && document.querySelector('.drop')"
    )
    await start(office.page, "aaa-empty")
    assert (await office.page.until(text("#add"))).startswith("No documents yet.")
    await office.page.run("document.querySelector('#language').click()")
    assert (await office.page.until(text("#add"))).startswith("这里还没有文档")
    await office.page.run("document.querySelector('#language').click()")


async def test_a_store_that_is_being_read_shows_how_far_it_is(office: Seen) -> None:
    page = office.page
    await page.run("""window.asked = window.fetch;
      window.fetch = async (path, ...more) => {
        const response = await asked(path, ...more);
        if (!path.endsWith("/api/status")) return response;
        const found = await response.json();
        for (const store of found.stores) store.file_counts = {...store.file_counts, in_progress: 6, total: 9};
        return new Response(JSON.stringify(found));
      }, 0""")
    await start(page, "office")
    assert (await page.until(text("#reading"))).strip() == "Indexing documents: 3 of 9"
    assert await page.run("document.querySelector('#reading progress').value") == 3
    assert await page.run("document.querySelector('.beginnings')") is None
    await reload(page, office.url)


@pytest.mark.slow
async def test_without_a_folder_a_fresh_profile_talks_to_the_default_model(tmp_path: Path) -> None:
    models = [{"name": "zebra", "source": "fake://", "aliases": ["default"]}]
    file = tmp_path / "portico.yaml"
    file.write_text(
        json.dumps({**CONFIGURATION, "models": [*CONFIGURATION["models"], *models]}), encoding="utf-8"
    )
    with daemons.running(tmp_path / "home", "--file", str(file)) as daemon:
        daemon.settle()
        async with browser(tmp_path / "profile") as page:
            await page.open(daemon.url)
            assert (await page.until(TARGET)).startswith("zebra")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "answer", "thought"),
    [
        ("greet me", "Good morning.", "The reader wants\n\na greeting."),
        ("think forever", "", "and on and on"),
    ],
)
async def test_the_reasoning_of_a_model_is_shown_collapsed(
    office: Seen, question: str, answer: str, thought: str
) -> None:
    page, folded = office.page, "document.querySelector('#talk .answer details.reasoning')"
    await start(page, "thinker")
    await ask(page, question)
    for _ in ("as it was made", "as it was kept"):
        await page.until(f"({IDLE}) && {folded} && true")
        assert await page.run(f"{folded}.open") is False
        assert await page.run(f"{folded}.querySelector('summary').innerText") == "Reasoning"
        assert (
            await page.run("document.querySelector('#talk .answer > .markdown').innerText.trim()") == answer
        )
        await page.run(f"{folded}.open = true")
        assert await page.until(f"{folded}.querySelector('.markdown').innerText.trim()") == thought
        await reload(page, office.url)
    await visit(page, "chat")


async def test_a_list_of_tasks_has_check_marks(office: Seen) -> None:
    page = office.page
    await start(page, "thinker")
    await ask(page, "tasks")
    await answered(page)
    items = "[...document.querySelectorAll('#talk .answer li')].map((it) => it.innerText.trim())"
    assert await page.run(items) == ["washed", "dried", "[y] neither", "folded"]
    labels = "[...document.querySelectorAll('#talk .task')].map((it) => it.getAttribute('aria-label'))"
    assert await page.run(labels) == ["done", "open", "done"]


async def test_the_rating_buttons_are_drawn_as_icons(office: Seen) -> None:
    page = office.page
    await start(page, "thinker")
    await ask(page, "greet me")
    await answered(page)
    assert await page.run("document.querySelector('#talk .rating').innerText.trim()") == ""
    await click(page, "Good answer", "#talk")
    await page.until("document.querySelector('#talk .rating [aria-pressed=true] svg path') && true")


async def test_the_input_field_of_an_app_is_labelled_input(office: Seen) -> None:
    await visit(office.page, "library", "apps", "abacus")
    assert await office.page.until(text("main form.fields label span")) == "Input"
    await visit(office.page, "chat")


@pytest.mark.parametrize(
    ("question", "quoted"),
    [
        ("What port does the Kestrel router listen on?", "It listens on port 7419."),
        ("How many seats does the room Birch have?", "| Birch | 6 | 302 |"),
    ],
)
async def test_a_citation_marks_what_is_quoted_within_its_passage(
    office: Seen, question: str, quoted: str
) -> None:
    page = office.page
    await start(page, "office")
    await ask(page, question)
    await answered(page)
    if quoted.startswith("|"):
        cells = "[...document.querySelectorAll('#talk blockquote td')].map((it) => it.innerText)"
        assert (await page.run(cells))[:3] == ["Birch", "6", "302 1"]
    await page.run("document.querySelector('#talk .cite').click()")
    marks = "[...document.querySelectorAll('dialog[open] .passage mark')].map((it) => it.innerText)"
    assert quoted in await page.until(f"({marks}).length && {marks}")
    assert await page.run("document.querySelector('dialog[open] .passage').innerText.length") > len(quoted)
    await escape(page)
