"""The page at ``/`` in a browser, as its reader uses it: choose a model or app, ask, and read the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests import daemon as daemons
from tests.browser import Page, browser

AXE = Path(__file__).resolve().parent.parent / "page" / "node_modules" / "axe-core" / "axe.min.js"
"""Path of the accessibility checker, which ``scripts/page install`` installs."""

ANSWERS = "[...document.querySelectorAll('#talk .said.answer .markdown')].map((it) => it.innerText.trim())"
REFUSED = "Failed to load resource"
"""Message of a browser about an error response that some tests expect."""

EDITED = "Applying inline style"
"""Message of Chromium about a style attribute that it adds itself to replaced text. The page's policy blocks the
attribute, and the editor redraws the text.
"""

WIDTHS = [1440, 390]

IDLE = "!document.querySelector('#talk .live') && document.querySelector('#talk .figures')"


async def choose(page: Page, name: str) -> None:
    """Choose a model or an app with the picker."""
    await page.until("document.querySelector('#model') && !document.querySelector('dialog[open]')")
    await page.run("document.querySelector('#model').click()")
    await page.until(f"document.querySelector('[data-choice={json.dumps(name)}]')")
    await page.run(f"document.querySelector('[data-choice={json.dumps(name)}]').click()")
    await page.until(
        f"!document.querySelector('dialog[open]') && "
        f"document.querySelector('#model').innerText.startsWith({json.dumps(name)})"
    )


async def escape(page: Page) -> None:
    """Close the open dialog with the Escape key."""
    await page.press("Escape", 27)
    await page.until("!document.querySelector('dialog[open]')")


async def start(page: Page, name: str) -> None:
    """Begin a new conversation with a model or an app."""
    await page.run("document.querySelector('dialog[open]')?.close()")
    await page.run("document.querySelector('#new').click()")
    await page.until("document.querySelector('#talk') && !document.querySelector('#talk .said')")
    await choose(page, name)
    await page.run(
        "document.querySelector('#question').value = '',"
        "document.querySelector('#question').dispatchEvent(new Event('input', {bubbles: true}))"
    )


async def ask(page: Page, question: str) -> None:
    """Wait until the last answer is complete, type a question and press Enter."""
    await page.until("document.querySelector('#send') && !document.querySelector('#send').disabled")
    await page.type("#question", question)
    await page.press_enter()
    await page.until("document.querySelector('#question').value === ''")


async def answered(page: Page, count: int = 1) -> str:
    """Return the newest answer, once ``count`` answers are complete and saved."""
    await page.until(f"document.querySelectorAll('#talk .figures').length === {count} && ({IDLE})")
    answers: list[str] = await page.run(ANSWERS)
    return answers[-1]


async def violations(page: Page) -> list[str]:
    """Return the serious and critical violations that axe finds on the current page."""
    if not await page.run("typeof axe !== 'undefined'"):
        await page.run(f"{AXE.read_text(encoding='utf-8')}; true")
    axe_violations: list[dict[str, Any]] = await page.run("axe.run().then((result) => result.violations)")
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for violation in axe_violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


async def reload(page: Page, url: str) -> None:
    """Reload the open view."""
    place = await page.run("location.hash")
    await page.open("about:blank")
    await page.open(f"{url}/{place}")


MANY_FILES = """(() => {
  const ask = window.fetch;
  window.fetch = (path, ...more) => {
    if (!String(path).includes("/files?limit=")) return ask(path, ...more);
    const asked = new URL(path, location.href).searchParams, all = %d;
    const begin = asked.has("after") ? Number(asked.get("after").split("-")[1]) + 1 : 0;
    const count = Math.min(Number(asked.get("limit")), all - begin);
    const data = Array.from({length: count}, (_, at) => at + begin).map((n) => ({id: `file-${n}`,
      filename: `note ${n}.md`, status: "completed", bytes: 100 + n, created_at: 1.7e9 + n,
      error: n %% 7 ? null : "It says something that takes a second line."}));
    return Promise.resolve(new Response(JSON.stringify({data, has_more: begin + count < all})));
  };
})()"""
"""A script that makes stores show that many files, one page at a time."""


class Wire:
    """Connections between a browser and a daemon that can be cut, or rerouted to another daemon."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection in both directions until either side closes it."""
        if not self.open:
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        ways = [
            asyncio.create_task(_pass(reader, far_writer)),
            asyncio.create_task(_pass(far_reader, writer)),
        ]
        self._tasks.update(ways)
        await asyncio.wait(ways)
        self._writers -= {writer, far_writer}
        self._tasks.difference_update(ways)

    def cut(self) -> None:
        """Cut all connections at once, and accept none until `open` is set."""
        self.open = False
        for writer in self._writers:
            writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[tuple[Wire, str]]:
    """Yield a `Wire` to the daemon at ``port``, and the address that a browser uses."""
    new_wire = Wire(port)
    server = await asyncio.start_server(new_wire.serve, "127.0.0.1", 0)
    try:
        yield new_wire, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        new_wire.cut()


async def click(page: Page, text: str, within: str = "main") -> None:
    """Click the first button or link with that text or label, once it is enabled and no dialog covers it."""
    element_script = (
        f"[...document.querySelectorAll({json.dumps(within)} + ' :is(button, a, summary)')].find((it) => "
        "!it.disabled && (!document.querySelector('dialog') || it.closest('dialog')) && "
        f"(it.innerText.trim() === {json.dumps(text)} || it.getAttribute('aria-label') === {json.dumps(text)}))"
    )
    await page.until(element_script + " && true")
    await page.run(element_script + ".click()")


async def fill(page: Page, **fields: str) -> None:
    """Fill in the fields of the open dialogue, by name."""
    for name, text in fields.items():
        await page.until(f"document.querySelector('dialog[open] [name={name}]') && true")
        await page.type(f"dialog[open] [name={name}]", text)


async def visit(page: Page, *places: str) -> None:
    """Go to a view by its address."""
    await page.run(f"location.hash = '#/' + {json.dumps('/'.join(places))}")


def text(selector: str) -> str:
    """Return the JavaScript for an element's text; undefined if the element is missing."""
    return f"document.querySelector({json.dumps(selector)})?.innerText"


@dataclass(frozen=True, slots=True)
class Seen:
    """A daemon and a browser on it, in a window of that ``width``."""

    url: str
    page: Page
    folder: Path
    width: int = 0

    def get(self, path: str, key: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)

    def post(self, path: str, body: dict[str, Any]) -> None:
        httpx.post(f"{self.url}{path}", json=body, timeout=60).raise_for_status()

    def put(self, path: str, body: dict[str, Any]) -> None:
        httpx.put(f"{self.url}{path}", json=body, timeout=60).raise_for_status()

    def patch(self, path: str, body: dict[str, Any]) -> None:
        httpx.patch(f"{self.url}{path}", json=body, timeout=60).raise_for_status()

    def delete(self, path: str) -> None:
        httpx.delete(f"{self.url}{path}", timeout=60).raise_for_status()

    async def again(self, width: int) -> Seen:
        """Reset to a fresh visit: no dialogue, at the chat, in a window of that width."""
        await self.page.run("document.querySelector('dialog[open]')?.close()")
        await visit(self.page, "chat")
        await self.page.until("document.querySelector('main .chat') && true")
        await self.page.resize(width, 800)
        return replace(self, width=width)


async def sound(seen: Seen) -> None:
    """Assert that the view is accessible and no wider than its window."""
    if AXE.is_file():
        assert await violations(seen.page) == []
    await seen.page.until(f"document.documentElement.scrollWidth <= {seen.width}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Seen]:
    """A daemon with the ``CONFIGURATION`` of the test's module, and a browser on it.

    The module may define ``FOLDERS``, documents by name of the stores that follow them; ``VARIABLES``, the daemon's
    environment or a function that creates it in a folder; and ``FLAGS``, those of the browser.
    """
    folder, module = tmp_path_factory.mktemp("page"), request.module
    stores = []
    for store, documents in getattr(module, "FOLDERS", {}).items():
        (folder / store).mkdir()
        for name, content in documents.items():
            (folder / store / name).write_text(content, encoding="utf-8")
        stores.append({"name": store, "folder": str(folder / store), "embedding_model": "vectors"})
    configuration = {"stores": stores, **module.CONFIGURATION}
    (folder / "portico.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    variables = getattr(module, "VARIABLES", {})
    env = variables(folder) if callable(variables) else variables
    with daemons.running(folder / "home", "--file", str(folder / "portico.yaml"), env=env) as daemon:
        daemon.settle()
        async with httpx.AsyncClient(timeout=60) as client:  # an agent is listed only once its tools exist
            for agent in module.CONFIGURATION.get("agents", ()):
                (await client.get(f"{daemon.url}/v1/models/{agent['name']}")).raise_for_status()
        async with browser(folder / "profile", *getattr(module, "FLAGS", ())) as page:
            await page.open(daemon.url)
            yield Seen(daemon.url, page, folder)
            complaints = [complaint for complaint in page.complaints if not complaint.startswith(REFUSED)]
            assert complaints == [], complaints


@pytest_asyncio.fixture(
    loop_scope="module",
    params=[WIDTHS[0], *(pytest.param(width, marks=pytest.mark.slow) for width in WIDTHS[1:])],
)
async def seen(opened: Seen, request: pytest.FixtureRequest) -> Seen:
    """The page as on a fresh visit, in a wide window, and in the slow lane in a narrow window too."""
    return await opened.again(request.param)
