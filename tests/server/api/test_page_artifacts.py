"""Artifacts in the page: HTML and SVG of answers run in a frame that reaches nothing, in versions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.browser import CHROMIUM, Page
from tests.environments import ENVIRONMENTS
from tests.page import Seen, answered, ask, click, escape, sound, start, text

from portico_server.features.sandbox import namespace

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

COUNTER = """<!doctype html>
<title>Counter</title>
<style>button { position: fixed; inset: 0; width: 100%% }</style>
<button>0</button>
<script>
const button = document.querySelector("button");
button.addEventListener("click", () => {
  button.textContent = Number(button.textContent) + %d;
  parent.postMessage("count " + button.textContent, "*");
});
parent.postMessage("shown %d", "*");
</script>"""

THIEF = """<!doctype html>
<title>Thief</title>
<script>
const picture = (source) => new Promise((resolve, reject) => {
  Object.assign(new Image(), { onload: resolve, onerror: reject, src: source });
});
const attempts = {
  parent: () => parent.document.title,
  storage: () => localStorage.length,
  cookie: () => document.cookie,
  request: () => fetch(location.origin + "/health"),
  picture: () => picture(location.origin + "/favicon.ico"),
  module: () => import(location.origin + "/docs/reference.js"),
  evaluation: () => eval("1"),
  window: () => open(location.origin + "/docs").document,
  page: () => { top.location = location.origin + "/docs"; },
};
(async () => {
  const reached = [];
  for (const [name, attempt] of Object.entries(attempts)) {
    try { await attempt(); reached.push(name); } catch { continue; }
  }
  parent.postMessage("reached " + reached, "*");
  location = "http://localhost:1/?secret";
})();
</script>"""

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><title>Dot</title><circle r="4"/></svg>'


def fenced(language: str, code: str) -> str:
    return f"Look:\n\n```{language}\n{code}\n```\n"


CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "house",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {
                "script": [
                    {"match": "twice", "content": fenced("html", COUNTER % (2, 2))},
                    {"match": "counter", "content": fenced("html", COUNTER % (1, 1))},
                    {"match": "dot", "content": fenced("svg", SVG)},
                    {"match": "code", "content": fenced("python", "print(6 * 7)")},
                    {"match": "thief", "content": fenced("html", THIEF)},
                ]
            },
        },
    ],
}

VARIABLES = {"PORTICO_ENVIRONMENTS": str(ENVIRONMENTS)}

HEARD = "window.heard"


async def listen(page: Page) -> None:
    """Keep what frames tell the page."""
    await page.run(
        "window.heard = [], addEventListener('message', ({data}) => window.heard.push(String(data))), true"
    )


async def until_heard(page: Page, message: str) -> None:
    await page.until(f"{HEARD}.includes({json.dumps(message)})")


async def preview(page: Page, number: int = 1) -> None:
    """Open the artifact with this number, once it has its button."""
    button = (
        "[...document.querySelectorAll('#talk .codehead button')]"
        f".filter((it) => it.innerText === 'Preview')[{number - 1}]"
    )
    await page.until(f"{button} && true")
    await page.run(f"{button}.click()")
    await page.until("document.querySelector('dialog[open] iframe') && true")


async def click_frame(page: Page) -> None:
    """Click the middle of the frame."""
    box = await page.run(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        "(document.querySelector('iframe.artifact').getBoundingClientRect())"
    )
    await page.click_at(*box)


@pytest.mark.slow
async def test_an_html_artifact_of_an_answer_runs_and_keeps_its_versions(seen: Seen) -> None:
    page = seen.page
    await listen(page)
    await start(page, "house")
    await ask(page, "make a counter")
    await answered(page)
    await preview(page)
    assert await page.run(text("dialog[open] h2")) == "Counter"
    await until_heard(page, "shown 1")
    await click_frame(page)
    await until_heard(page, "count 1")
    await click_frame(page)
    await until_heard(page, "count 2")
    assert "Version 1 of 1" in await page.run(text("dialog[open]"))
    await sound(seen)
    await escape_from_frame(page)
    await ask(page, "count twice as fast")
    await answered(page, 2)
    await preview(page, 2)
    await until_heard(page, "shown 2")
    assert "Version 2 of 2" in await page.run(text("dialog[open]"))
    await page.run(f"{HEARD}.length = 0")
    await click(page, "Previous version", "dialog[open]")
    await until_heard(page, "shown 1")
    await click(page, "Source", "dialog[open]")
    await page.until(f"{text('dialog[open] pre')}?.includes('Counter')")
    await escape_from_frame(page)


async def escape_from_frame(page: Page) -> None:
    """Close the panel, although the focus may be in its frame."""
    await click(page, "Close", "dialog[open]")
    await page.until("!document.querySelector('dialog[open]')")


async def test_a_drawing_is_shown_and_downloaded(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await ask(page, "draw a dot")
    await answered(page)
    await preview(page)
    folder = seen.folder / f"saved{seen.width}"
    await page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    await click(page, "Download", "dialog[open]")
    await page.until("document.querySelector('dialog[open]') && true")
    while not (folder / "Dot.svg").is_file() or not (folder / "Dot.svg").stat().st_size:
        await page.run("0")
    assert (folder / "Dot.svg").read_text(encoding="utf-8").strip() == SVG
    await escape(page)
    await start(page, "house")
    await ask(page, "some code")
    await answered(page)
    assert await page.run("[...document.querySelectorAll('.codehead button')].map((it) => it.innerText)") == [
        "Run",
        "Copy",
    ]


@pytest.mark.slow
@pytest.mark.skipif(namespace.missing() is not None, reason="the sandbox needs bubblewrap")
async def test_python_of_an_answer_runs_in_the_sandbox(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await ask(page, "some code")
    await answered(page)
    await click(page, "Run", "#talk .codehead")
    assert await page.until(text("dialog[open] .toolcall > pre")) == "42"
    await sound(seen)
    await escape(page)


async def test_an_artifact_reaches_neither_the_page_nor_any_host(opened: Seen) -> None:
    page = (await opened.again(1440)).page
    await listen(page)
    await page.run(
        "window.blocked = [], addEventListener('securitypolicyviolation', "
        "({effectiveDirective, blockedURI}) => window.blocked.push(`${effectiveDirective} ${blockedURI}`)), true"
    )
    await start(page, "house")
    await ask(page, "a thief")
    await answered(page)
    await preview(page)
    await until_heard(page, "reached ")
    assert "frame-src http://localhost:1" in await page.until("window.blocked.length && window.blocked[0]")
    await escape_from_frame(page)
    page.complaints.clear()  # the browser reports what it has refused
