"""Long contents in the page, at desktop and phone width: lists of thousands of rows, an answer of a megabyte,
diagrams.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.browser import CHROMIUM, PATIENCE, Page
from tests.page import (
    AXE,
    MANY_FILES,
    Seen,
    answered,
    ask,
    click,
    escape,
    start,
    text,
    violations,
    visit,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

ROWS = 10_000
LONG_LANES = pytest.mark.parametrize("rows", [1_200, pytest.param(ROWS, marks=pytest.mark.slow)])
"""Rows of a list that is scrolled to its end: more than the page loads at first."""
DIAGRAM = """It goes so:

```mermaid
flowchart LR
  ask[Ask the <b>handbook</b>] --> known{Is it known?}
  known -->|yes| cite([Cite it]) & log[(Log)]
  known -- no --> tell((Say so))
  subgraph later["On the next day"]
    log -.-> read[Read it]
  end
```

Ask again."""
HOSTILE = """```mermaid
%%{init: {"themeCSS": "body { display: none }", "securityLevel": "loose", "flowchart": {"htmlLabels": true}}}%%
flowchart TD
  a["<img src=x onerror=alert(1)>"] -->|"<script>alert(1)</script>"| b["<a href='javascript:alert(1)'>b</a>"]
  b --> c["<style>body{display:none}</style><iframe src=https://evil.example></iframe>"]
  click a href "javascript:alert(1)"
  click b call alert(1)
  style a fill:url(https://evil.example/x.png)
```

```mermaid
sequenceDiagram
  a->>b: <img src=x onerror=alert(1)>
```

```mermaid
flowchart TD
  a[never closed
```

"""
MANY_NODES = "```mermaid\nflowchart TD\n" + "".join(f"n{n} --> n{n + 1}\n" for n in range(10_000)) + "```"
SCRIPT = [
    {"match": "hostile", "content": HOSTILE},
    {"match": "many", "content": MANY_NODES},
    {"match": "diagram", "content": DIAGRAM},
]
CONFIGURATION: dict[str, Any] = {
    "models": [
        {"name": "house", "source": "fake://", "aliases": ["default"], "parameters": {"script": SCRIPT}},
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
    ],
    "stores": [{"name": "handbook", "embedding_model": "vectors"}],
}
NAMES = "[...document.querySelectorAll('#filetable tbody tr a')].map((it) => it.textContent)"
COUNT = "document.querySelectorAll('#filetable tbody tr').length"
FILTER = "main input[aria-label='Type to filter']"
FORWARD = "document.querySelector('main').scrollTop = document.querySelector('main').scrollHeight"


@pytest_asyncio.fixture(loop_scope="module")
async def seen(seen: Seen) -> Seen:
    await seen.page.open("about:blank")
    await seen.page.open(seen.url)
    return await seen.again(seen.width)


async def show(page: Page, rows: int, *places: str) -> None:
    """Show a store with that many files."""
    await page.run(MANY_FILES % rows)
    await visit(page, "library", "documents", "handbook", *places)
    await page.until(f"{COUNT} > 0")


async def by_frames(page: Page, script: str) -> None:
    """Wait for a state that no change of the document signals, such as a scroll position."""
    await page.run(
        f"""new Promise((resolve, reject) => {{
          const end = performance.now() + {PATIENCE * 1000};
          const look = () => {{
            if ({script}) resolve();
            else if (performance.now() > end) reject(new Error("not in time"));
            else requestAnimationFrame(look);
          }};
          look();
        }})"""
    )


async def whole(page: Page, rows: int) -> None:
    """Scroll until all rows are loaded; each step has its own time limit."""
    row_count = 0
    while row_count < rows:
        await by_frames(page, f"({FORWARD}, {COUNT} > {row_count})")
        row_count = await page.run(COUNT)
    await by_frames(page, f"({FORWARD}, !document.querySelector('button.next')) && {COUNT} === {rows}")


async def listed(page: Page, names: Sequence[str]) -> None:
    """Wait until exactly these files are listed; distant blocks are drawn when there is time."""
    names_json = json.dumps(json.dumps(names, separators=(",", ":")))
    await page.until(f"JSON.stringify({NAMES}) === {names_json}")


def is_seen(element: str) -> str:
    """Return a script for whether the element is between the edges of the window."""
    return (
        f"(({element})?.getBoundingClientRect().height > 0 && {element}.getBoundingClientRect().top >= 0 && "
        f"{element}.getBoundingClientRect().bottom <= innerHeight)"
    )


def row(number: int) -> str:
    return f"[...document.querySelectorAll('#filetable tbody tr')].at({number})"


@pytest.mark.slow
@LONG_LANES
async def test_scrolling_through_a_long_file_list_shows_each_file_once(seen: Seen, rows: int) -> None:
    page = seen.page
    await show(page, rows)
    assert await page.run(f"{COUNT} < 1000")  # rows are loaded as the reader reaches them
    await whole(page, rows)
    await listed(page, [f"note {number}.md" for number in range(rows)])
    await by_frames(page, f"({FORWARD}, {is_seen(row(-1))})")
    # The columns of all blocks are below their headings, and the page is not wider than its window.
    edges = "[...%s.children].map((it) => Math.round(it.getBoundingClientRect().left))"
    heads = await page.run(edges % "document.querySelector('#filetable thead tr')")
    assert await page.run(edges % row(-1)) == heads and len(set(heads)) == 5
    assert await page.run("document.documentElement.scrollWidth") <= seen.width


@pytest.mark.slow
async def test_keyboard_browser_search_and_screen_readers_reach_distant_rows(seen: Seen) -> None:
    page = seen.page
    await show(page, 3_000)
    await whole(page, 3_000)
    await page.run("document.querySelector('section.wide').focus({preventScroll: true})")
    await page.press("Home", 36)
    await by_frames(page, "document.querySelector('main').scrollTop === 0")
    while not await page.run(f"new Promise((seen) => setTimeout(() => seen({is_seen(row(-1))})))"):
        await page.press("End", 35)  # again, where rows on the way are higher than estimated
    assert await page.run("window.find('note 1503.md')")
    await page.run("getSelection().anchorNode.parentElement.scrollIntoView({block: 'center'})")
    await by_frames(page, is_seen(row(1503)))
    assert await page.run("getSelection().toString()") == "note 1503.md"
    await page.run(f"{row(1549)}.querySelector('a').focus()")  # the last row of its block
    await page.press("Tab", 9)
    await page.press("Tab", 9)
    await page.until("document.activeElement.innerText === 'note 1550.md'")
    await by_frames(page, is_seen("document.activeElement"))
    tree = await page.ask("Accessibility.getFullAXTree")
    roles = [node["role"]["value"] for node in tree["nodes"] if not node["ignored"]]
    assert roles.count("table") == 1 and roles.count("columnheader") == 5
    assert await page.run("document.querySelector('#filetable').getAttribute('aria-rowcount')") == "3001"
    assert await page.run(f"{row(-1)}.getAttribute('aria-rowindex')") == "3001"


@pytest.mark.slow
@LONG_LANES
async def test_a_filter_finds_what_was_not_loaded_yet(seen: Seen, rows: int) -> None:
    page, prefix = seen.page, str(rows * 77 // 100)[:2]
    await show(page, rows)
    await page.type(FILTER, f"note {prefix}")
    matches = [f"note {number}.md" for number in range(rows) if str(number).startswith(prefix)]
    await page.until(f"!document.querySelector('button.next') && {COUNT} === {len(matches)}")
    await listed(page, matches)
    await page.type(FILTER, matches[-1].removeprefix(f"note {prefix}"))
    await listed(page, matches[-1:])
    assert await page.run(COUNT) == 1
    await page.run(
        f'document.querySelector("{FILTER}").value = "",'
        f'document.querySelector("{FILTER}").dispatchEvent(new Event("input", {{bubbles: true}}))'
    )
    await page.until(f"{COUNT} === {rows}")
    await listed(page, [f"note {number}.md" for number in range(rows)])


async def test_a_deep_link_opens_a_file_that_was_not_loaded_yet(seen: Seen) -> None:
    await show(seen.page, ROWS, "file-9000")
    assert await seen.page.until(text("dialog[open] h2")) == "note 9000.md"
    await escape(seen.page)


@pytest.mark.slow
@pytest.mark.skipif(not AXE.is_file(), reason="axe is not installed: scripts/page install")
async def test_a_long_table_is_accessible(seen: Seen) -> None:
    await show(seen.page, 230)
    await whole(seen.page, 230)
    assert await violations(seen.page) == []


async def synced(seen: Seen, store: str) -> None:
    """Wait until all files of a store are indexed, without a time limit."""
    async with httpx.AsyncClient(base_url=seen.url, timeout=None) as client:
        run = (await client.post(f"/api/stores/{store}/sync")).raise_for_status().json()["run"]
        await client.get(f"/api/runs/{run}/events")
        assert (await client.get(f"/api/runs/{run}")).json()["status"] == "completed"


@pytest.mark.slow
async def test_the_files_of_a_large_store_come_page_by_page(seen: Seen) -> None:
    folder, real_files = seen.folder / "many", 600
    if not folder.exists():
        folder.mkdir()
        for number in range(real_files):
            (folder / f"n{number:04}.txt").write_text(f"It is {number}.", encoding="utf-8")
        seen.post("/api/stores", {"name": "many", "folder": str(folder), "embedding_model": "vectors"})
        await synced(seen, "many")
    await visit(seen.page, "library", "documents", "many")
    ready = f"'{real_files:,} of {real_files:,} files'"
    await seen.page.until(f"document.querySelector('main').innerText.includes({ready})")
    await whole(seen.page, real_files)
    files = await asyncio.to_thread(seen.get, "/api/stores/many/files")
    names = [file["filename"] for file in files.json()["data"]]
    assert len(names) == real_files
    await listed(seen.page, names)


@pytest.mark.parametrize("parts", [200, pytest.param(2_000, marks=pytest.mark.slow)])
async def test_a_long_answer_is_complete_and_rendered_where_it_is_scrolled_to(seen: Seen, parts: int) -> None:
    page = seen.page
    words = " ".join(["Behind the pier the water falls until the night is over."] * 9)
    sections = [f"## Tide {n}\n\nThe tide **turns** at {n}. {words}" for n in range(parts)]
    answer = "\n\n".join(sections)
    assert len(answer) > 500 * parts
    session_response = await asyncio.to_thread(
        httpx.post, f"{seen.url}/api/sessions", json={"app": "house", "title": "Tides"}, timeout=30
    )
    session = session_response.json()["id"]
    messages = [
        {"sender": "user", "content": "When?", "extra_info": None},
        {"sender": "house", "content": answer, "extra_info": None},
    ]
    await asyncio.to_thread(seen.post, f"/api/sessions/{session}/messages", {"messages": messages})
    await visit(page, "chat", session)
    block = "document.querySelectorAll('#talk .answer .group > div')"
    await by_frames(page, f"{block}.length === {2 * parts}")
    last, middle = 2 * parts - 2, parts + 1
    await page.run(f"{block}[{last}].scrollIntoView()")
    await by_frames(page, f"{block}[{last}].querySelector('h2')?.innerText === 'Tide {parts - 1}'")
    await page.run(f"{block}[{middle}].scrollIntoView()")
    await by_frames(page, f"{block}[{middle}].querySelector('strong')?.innerText === 'turns'")
    assert await page.run("document.documentElement.scrollWidth") <= seen.width
    seen.delete(f"/api/sessions/{session}")


@pytest.mark.slow
async def test_a_flowchart_in_an_answer_is_a_diagram_above_its_source(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await ask(page, "a diagram")
    await answered(page)
    labels = await page.until(
        "document.querySelector('#talk svg.flowchart') && "
        "[...document.querySelectorAll('#talk svg.flowchart text')].map((it) => it.textContent)"
    )
    nodes = {"Ask the handbook", "Is it known?", "Cite it", "Log", "Say so", "Read it"}
    assert nodes | {"On the next day", "yes", "no"} == set(labels)
    assert await page.run("document.documentElement.scrollWidth") <= seen.width
    label = await page.run("document.querySelector('#talk svg.flowchart').getAttribute('aria-label')")
    assert label.startswith("Diagram: Ask the handbook, Is it known?")
    await click(page, "Source", "#talk")
    assert "ask[Ask the <b>handbook</b>]" in await page.until(text("#talk details[open] pre"))
    if AXE.is_file():
        assert await violations(page) == []
    await page.run("document.querySelector('#language').click()")
    await page.until("document.documentElement.lang === 'zh'")
    await start(page, "house")
    await ask(page, "a diagram")
    assert await page.until(text("#talk .codebox summary")) == "源文本"
    await page.run("document.querySelector('#language').click()")
    await page.until("document.documentElement.lang === 'en'")


async def test_hostile_diagram_source_runs_nothing_and_loads_nothing(seen: Seen) -> None:
    page = seen.page
    await page.run("window.alert = () => { window.acted = true; }, 0")
    await start(page, "house")
    await ask(page, "hostile")
    await answered(page)
    await page.until("document.querySelector('#talk svg.flowchart') && true")
    notes = "[...document.querySelectorAll('#talk .codebox .note')].map((it) => it.innerText)"
    undrawn_note = "Diagrams of the kind sequenceDiagram are not drawn here; the source is below."
    none = "This flowchart is too large or has an error, so it is not drawn; the source is below."
    await page.until(f"({notes}).join() === {json.dumps(f'{undrawn_note},{none}')}")
    elements = "#talk .answer :is(img, script, style, iframe, foreignObject, a, [onclick], [onerror])"
    assert await page.run(f"document.querySelectorAll({json.dumps(elements)}).length") == 0
    assert "<img src=x" in await page.run("document.querySelector('#talk svg.flowchart').textContent")
    await page.run(
        "document.querySelector('#talk svg.flowchart rect').dispatchEvent(new MouseEvent('click'))"
    )
    assert await page.run("getComputedStyle(document.body).display !== 'none' && !window.acted")
    names = "performance.getEntriesByType('resource').map((it) => new URL(it.name).origin)"
    assert set(await page.run(names)) == {seen.url}
    await ask(page, "many")
    await answered(page, 2)
    await page.until(f"({notes}).length === 3 && ({notes}).at(-1) === {json.dumps(none)}")
    assert await page.run("document.querySelectorAll('#talk svg.flowchart').length") == 1


@pytest.mark.parametrize("conversations", [250, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_many_conversations_are_scrolled_through(seen: Seen, conversations: int) -> None:
    page = seen.page
    session_count = len((await asyncio.to_thread(seen.get, "/api/sessions?limit=1000")).json()["data"])
    async with httpx.AsyncClient(base_url=seen.url, timeout=60) as client:
        conversations = max(session_count, conversations)
        for number in range(session_count, conversations):
            response = await client.post("/api/sessions", json={"app": "house", "title": f"Talk {number}"})
            response.raise_for_status()
    await page.open("about:blank")
    await page.open(f"{seen.url}/#/chat")
    rows = "document.querySelectorAll('.conversations li:not(.group)')"
    place = "document.querySelector('.conversations')"
    await page.until(f"{rows}.length > 0")
    if seen.width < 500:
        await page.run("document.querySelector('.top button').click()")
    forward = f"{place}.scrollTop = {place}.scrollHeight"
    await by_frames(page, f"({forward}, {rows}.length === {conversations})")
    sessions = (await asyncio.to_thread(seen.get, "/api/sessions?limit=1000")).json()["data"]
    titles = await page.run(f"[...{rows}].map((it) => it.querySelector('.title').textContent)")
    assert titles == [session["title"] or session["name"] for session in sessions]
    end = f"({forward}, {is_seen(f'[...{rows}].at(-1)')})"
    await by_frames(page, end)
    await page.run(f"[...{rows}].at(-1).querySelector('a').click()")
    await page.until(f"[...{rows}].at(-1).classList.contains('current')")
