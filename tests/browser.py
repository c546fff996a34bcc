"""A real headless Chromium on a page, controlled over the DevTools protocol.

Source: https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PATIENCE = 60.0
"""Maximum time a test waits for a page, in seconds."""

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
    *("--autoplay-policy=no-user-gesture-required", "--mute-audio", "--window-size=1280,900"),
)

LOOK_INTERVAL_MS = 50
"""Milliseconds between two checks of a page whose document does not change."""

POLL_INTERVAL_MS = 500
"""Milliseconds between two polls of a page while a test waits for it. On its own, a page polls every few seconds."""

_POLLS = """(() => {
  const [begin, end] = [window.setInterval, window.clearInterval];
  window.polls = new Map();
  window.setInterval = (poll, interval, ...rest) => {
    const timer = begin(poll, interval, ...rest);
    if (interval >= 1000) window.polls.set(timer, poll);
    return timer;
  };
  window.clearInterval = (timer) => {
    window.polls.delete(timer);
    end(timer);
  };
})()"""
"""Remembers the polls of a page, so that a test that waits can repeat them at once."""

_UNTIL = """new Promise((resolve, reject) => {
  const look = () => {
    let found;
    try { found = (() => (%s))(); } catch { found = undefined; }  // what it reads is not there yet
    if (found) {
      watcher.disconnect();
      for (const timer of [again, polling]) clearInterval(timer);
      clearTimeout(late);
      resolve(found);
    }
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  const again = setInterval(look, %d);  // no change of the document tells what was scrolled, typed or played
  const polling = setInterval(() => window.polls?.forEach((poll) => poll()), %d);
  const late = setTimeout(() => {
    for (const timer of [again, polling]) clearInterval(timer);
    reject(new Error("not in time: " + document.body.innerText));
  }, %d);
  look();
})"""


class Page:
    """A page and the complaints in its console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, url: URL) -> None:
        self.url = url
        """The address for commands to the browser about this page."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._choosers: asyncio.Queue[int] = asyncio.Queue()
        self._awaited: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Read the browser's messages until the connection ends."""
        async for message in self._socket:
            message_data = json.loads(message.data)
            if "id" in message_data:
                self._waiting.pop(message_data["id"]).set_result(message_data)
            elif message_data["method"] in self._awaited:
                self._awaited.pop(message_data["method"]).set_result(message_data["params"])
            elif message_data["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif message_data["method"] == "Page.fileChooserOpened":
                self._choosers.put_nowait(message_data["params"]["backendNodeId"])
            elif message_data["method"] == "Runtime.exceptionThrown":
                self.complaints.append(message_data["params"]["exceptionDetails"]["exception"]["description"])
            elif (
                message_data["method"] == "Log.entryAdded"
                and message_data["params"]["entry"]["level"] == "error"
            ):
                self.complaints.append(message_data["params"]["entry"]["text"])

    async def ask(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        response = await asyncio.wait_for(answer, PATIENCE + 5)
        assert "error" not in response, response["error"]
        return response["result"]

    def next(self, event: str) -> asyncio.Future[dict[str, Any]]:
        """Return a future for the parameters of the next event with that name."""
        return self._awaited.setdefault(event, asyncio.get_running_loop().create_future())

    async def leave(self, script: str) -> None:
        """Run a script that leads to another page, and wait until that page has loaded."""
        self._loaded.clear()
        await self.run(f"setTimeout(() => {{ {script} }}), true")
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()

    async def open(self, url: str) -> None:
        """Open the URL and return when the page has loaded."""
        self._loaded.clear()
        await self.ask("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def run(self, script: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        evaluation = await self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in evaluation, evaluation["exceptionDetails"]["exception"].get(
            "description", evaluation
        )
        return evaluation["result"].get("value")

    async def until(self, script: str) -> Any:
        """Return the first true value of an expression, evaluated at every change of the page and at intervals."""
        return await self.run(_UNTIL % (script, LOOK_INTERVAL_MS, POLL_INTERVAL_MS, PATIENCE * 1000))

    async def type(self, selector: str, text: str) -> None:
        """Type into a field as a keyboard does, once the field accepts the focus."""
        await self.until(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field?.focus(); "
            "return field !== null && document.activeElement === field; })()"
        )
        await self.ask("Input.insertText", text=text)

    async def focus(self, element: str) -> None:
        """Focus an element once it accepts the focus; a disabled element does not."""
        await self.until(
            f"(() => {{ const it = {element}; it?.focus(); return it && document.activeElement === it; }})()"
        )

    async def press_enter(self) -> None:
        """Press and release the Enter key."""
        await self.press("Enter", 13, text="\r")

    async def press(self, name: str, code: int, **more: Any) -> None:
        """Press and release a key, given by name and number; ``modifiers=2`` is Ctrl."""
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code, **more}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=name, code=name)

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Resize the window to that many pixels, in light or dark mode."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def choose_file(self, selector: str, *paths: Path) -> None:
        """Set the files of a file field, as its dialogue does."""
        root = await self.ask("DOM.getDocument")
        input_node = await self.ask("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.ask(
            "DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=input_node["nodeId"]
        )

    async def offer_files(self, *paths: Path) -> None:
        """Choose files in the dialogue that the page opens; `Page.setInterceptFileChooserDialog` keeps it hidden."""
        node = await asyncio.wait_for(self._choosers.get(), PATIENCE)
        files = [str(path) for path in paths]
        await self.ask("DOM.setFileInputFiles", files=files, backendNodeId=node)

    async def click_at(self, x: float, y: float) -> None:
        """Press and release the left mouse button at these coordinates."""
        place = {"x": x, "y": y, "button": "left", "clickCount": 1}
        await self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        await self.ask("Input.dispatchMouseEvent", type="mousePressed", **place)
        await self.ask("Input.dispatchMouseEvent", type="mouseReleased", **place)


@asynccontextmanager
async def browser(folder: Path, *flags: str) -> AsyncIterator[Page]:
    """Start a browser with an empty profile in ``folder`` and yield its page. ``flags`` extend its command line."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *_FLAGS,
        *flags,
        f"--user-data-dir={folder}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while b"DevTools listening on " not in (line := await process.stderr.readline()):
                assert line, "the browser has ended"
        reading = asyncio.create_task(process.stderr.read())
        address = line.decode().rpartition(" ws://")[2].partition("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/json/list") as response:
                target = next(item for item in await response.json() if item["type"] == "page")
            async with _driven(session, target["webSocketDebuggerUrl"]) as page:
                yield page
    finally:
        process.kill()
        await process.wait()
    reading.cancel()


@asynccontextmanager
async def new_tab(page: Page) -> AsyncIterator[Page]:
    """Open another tab of the same browser, in front of the others until it is closed."""
    target = (await page.ask("Target.createTarget", url="about:blank"))["targetId"]
    address = str(page.url.with_path(f"/devtools/page/{target}"))
    async with aiohttp.ClientSession() as session, _driven(session, address) as tab:
        yield tab
    await page.ask("Target.closeTarget", targetId=target)


@asynccontextmanager
async def _driven(session: aiohttp.ClientSession, address: str) -> AsyncIterator[Page]:
    async with session.ws_connect(address, max_msg_size=0) as socket:
        page = Page(socket, URL(address))
        listening = asyncio.create_task(page.listen())
        for domain in ("Page", "Runtime", "Log", "DOM"):
            await page.ask(f"{domain}.enable")
        await page.ask("Page.addScriptToEvaluateOnNewDocument", source=_POLLS)
        yield page
        listening.cancel()
