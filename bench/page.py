"""The web UI in a real browser: first paint, a stream of 100 tokens a second, long lists, a large answer, and idle
time.

    python bench/page.py [--tokens N] [--rows N] [--json FILE]

The daemon is this checkout's; the model is a server of OpenAI's API that sends Markdown at the requested rate. A frame
is judged by the processor time of the longest task on the page's main thread, taken from Chromium's trace; wall-clock
time also measures other work on the machine. The shares of frames that miss a 60 Hz screen, and that are later than 50
ms, are shown as well.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import daemon as daemons  # noqa: E402  # the path comes first
from tests.browser import Page, browser  # noqa: E402
from tests.page import MANY_FILES, answered, ask, choose, start, visit  # noqa: E402

GOALS = {
    "first_load_kb": 400.0,
    "first_paint_s": 0.5,
    "stream_frame_ms": 50.0,
    "long_stream_frame_ms": 50.0,
    "code_frame_ms": 50.0,
    "whole_frame_ms": 50.0,
    "megabyte_frame_ms": 50.0,
    "reopen_frame_ms": 50.0,
    "files_loading_frame_ms": 50.0,
    "files_back_frame_ms": 16.7,
    "files_frame_ms": 16.7,
    "conversations_frame_ms": 16.7,
    "idle_share": 0.01,
}
FRAME_MS = 16.7
TOKENS_PER_SECOND = 100
STREAM_TOKENS = 500
MEGABYTE = 1_000_000
FRAMES = """(() => {
  window.late = []; let last = performance.now();
  const tick = (now) => { window.late.push(now - last); last = now; window.ticking = requestAnimationFrame(tick); };
  cancelAnimationFrame(window.ticking); window.ticking = requestAnimationFrame(tick);
})()"""
ALL = """(async () => {
  const place = document.querySelector("main"), rows = () => document.querySelectorAll("#filetable tbody tr").length;
  while (rows() < %d) { place.scrollTop = place.scrollHeight; await new Promise(requestAnimationFrame); }
})()"""
SCROLL = """(async () => {
  const place = document.querySelector(%s), step = %d;
  for (let frame = 0; frame < 180; frame += 1) {
    await new Promise(requestAnimationFrame);
    place.scrollTop += step;
  }
  return place.scrollTop;
})()"""


def words(count: int) -> list[str]:
    """Return tokens of Markdown with paragraphs, lists, tables, code and formulas."""
    section = (
        "## Tide {n}\n\nThe tide **turns** at six, says [the table](https://a.example), and `ebb` follows it "
        "by an hour or two at $h = {n}$ metres.\n\n- one port\n- another port with *more* water\n\n"
        "| port | tide |\n| --- | ---: |\n| north | {n} |\n| south | 4 |\n\n"
        "```python\ndef tide(hour: int) -> int:\n    return hour % {n}\n```\n\n"
    )
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        found += [f"{word} " for word in section.format(n=number).split(" ")]
    return found[:count]


async def say(request: web.Request) -> web.StreamResponse:
    """Return a completion; the question names how many tokens come at once, before the paced ones."""
    asked = await request.json()
    _, kind, at_once, in_time, *_ = f"{asked['messages'][-1]['content']} 0 0".split()
    count = int(at_once) + int(in_time)
    tokens = ["```python\n", *["tide = tide + 1\n"] * count] if kind == "code" else words(count)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)

    async def send(text: str, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        chunk = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "up",
            "choices": [choice],
        }
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())

    piece = max(200, int(at_once) // 100)
    for begin in range(0, int(at_once), piece):
        await send("".join(tokens[begin : min(begin + piece, int(at_once))]))
        await asyncio.sleep(0.02)
    due = time.perf_counter()
    for token in tokens[int(at_once) :]:
        due += 1 / TOKENS_PER_SECOND
        await asyncio.sleep(max(0, due - time.perf_counter()))
        await send(token)
    await send("", "stop")
    await response.write(b"data: [DONE]\n\n")
    return response


class Traced:
    """The traced activity of the page's main thread."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frame_ms = 0.0
        self.busy = 0.0
        self.late_share = 0.0
        self.missed_share = 0.0

    async def __aenter__(self) -> Traced:
        await self.page.run(FRAMES)
        trace = {"transferMode": "ReturnAsStream", "traceConfig": {"includedCategories": ["toplevel"]}}
        await self.page.ask("Tracing.start", **trace)
        self.began = time.perf_counter()
        return self

    async def __aexit__(self, *_: object) -> None:
        took = time.perf_counter() - self.began
        late = await self.page.run("cancelAnimationFrame(window.ticking), window.late")
        ended = self.page.next("Tracing.tracingComplete")
        await self.page.ask("Tracing.end")
        handle = (await ended)["stream"]
        text = ""
        while not (piece := await self.page.ask("IO.read", handle=handle))["eof"] or piece["data"]:
            text += piece["data"]
        await self.page.ask("IO.close", handle=handle)
        events = json.loads(text)["traceEvents"]
        main = {
            (event["pid"], event["tid"])
            for event in events
            if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
        }
        spent: dict[tuple[int, int], list[float]] = {thread: [] for thread in main}
        for event in events:
            if (event["pid"], event["tid"]) in main and event["name"].endswith("RunTask") and "tdur" in event:
                spent[event["pid"], event["tid"]].append(event["tdur"] / 1000)
        tasks = max(spent.values(), key=sum)
        self.frame_ms = max(tasks)
        self.busy = sum(tasks) / 1000 / took
        self.late_share = sum(each > 50 for each in late) / max(1, len(late))
        self.missed_share = sum(each > 1.5 * FRAME_MS for each in late) / max(1, len(late))


async def first_paint(page: Page, url: str, rounds: int = 7) -> float:
    """Return the seconds to the first contentful paint with an empty cache."""
    await page.ask("Network.enable")
    found = []
    for _ in range(rounds):
        await page.ask("Network.clearBrowserCache")
        await page.open("about:blank")
        await page.open(url)
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        while not (seen := await page.run(paint)):
            await page.run("new Promise(requestAnimationFrame)")
        found.append(seen / 1000)
    return float(statistics.median(found))


async def first_load_kb(url: str) -> float:
    """Return the gzipped size of everything that the page loads before it is usable."""
    async with aiohttp.ClientSession(url) as session:
        text = await (await session.get("/")).text()
        total = len(gzip.compress(text.encode()))
        for piece in text.split('"'):
            if piece.startswith("/web/"):
                total += len(gzip.compress(await (await session.get(piece)).read()))
    return total / 1000


async def fill(url: str) -> None:
    """Create a thousand conversations and a store."""
    async with aiohttp.ClientSession(url) as session:
        for number in range(1_000):
            body = {"app": "talk", "title": f"Conversation {number}"}
            async with session.post("/api/sessions", json=body) as response:
                response.raise_for_status()
        async with session.post("/api/stores", json={"name": "notes"}) as response:
            response.raise_for_status()


class Found(dict[str, float]):
    """The measured values, printed as they arrive."""

    def __setitem__(self, name: str, value: float) -> None:
        super().__setitem__(name, value)
        goal = GOALS.get(name)
        print(f"{name:24} {value:8.3f}" + (f"   goal ≤ {goal:g}" if goal else ""), flush=True)


async def measure(url: str, folder: Path, tokens: int, rows: int) -> Found:
    """Run all measurements one after another in one browser."""
    found = Found()
    found["first_load_kb"] = await first_load_kb(url)
    async with browser(folder / "profile") as page:
        found["first_paint_s"] = await first_paint(page, url)

        async def stream(name: str, question: str, before: int) -> None:
            """Measure the frames of a stream after the first ``before`` tokens, and at the moment when it is
            complete.
            """
            await start(page, "talk")
            await ask(page, question)
            length = "document.querySelector('#talk .answer')?.textContent.length"
            if before:
                await page.until(f"{length} > {4 * before}")
            async with Traced(page) as traced:
                await asyncio.sleep((STREAM_TOKENS - 50) / TOKENS_PER_SECOND)
            found[f"{name}_frame_ms"] = traced.frame_ms
            found[f"{name}_busy"] = traced.busy
            found[f"{name}_late"] = traced.late_share

        await stream("stream", f"say text 0 {STREAM_TOKENS}", 0)
        await answered(page)
        await stream("code", f"say code 1000 {STREAM_TOKENS}", 1000)
        await answered(page)
        await stream("long_stream", f"say text {tokens} {STREAM_TOKENS}", tokens)
        async with Traced(page) as traced:
            await answered(page)
        found["whole_frame_ms"] = traced.frame_ms
        await start(page, "talk")
        large = MEGABYTE * 1000 // len("".join(words(1000)))
        async with Traced(page) as traced:
            await ask(page, f"say text {large} 1")
            await answered(page)
        found["megabyte_frame_ms"] = traced.frame_ms
        address = await page.run("location.hash")
        await visit(page, "run")
        await page.run("new Promise(requestAnimationFrame)")
        await page.open("about:blank")
        await page.open(f"{url}/#/run")
        async with Traced(page) as traced:
            await page.run(f"location.hash = {json.dumps(address)}")
            await answered(page)
        found["reopen_frame_ms"] = traced.frame_ms

        await fill(url)
        await page.open("about:blank")
        await page.open(url)
        await page.run(MANY_FILES % rows)
        await visit(page, "documents", "notes")
        await page.until("document.querySelectorAll('#filetable tbody tr').length > 0")
        scrolls = [("files", "main", 400), ("conversations", ".conversations", 100)]
        async with Traced(page) as traced:
            await page.run(ALL % rows)
        found["files_loading_frame_ms"] = traced.frame_ms
        for name, place, step in [("files_back", "main", -400), *scrolls]:
            async with Traced(page) as traced:
                await page.run(SCROLL % (json.dumps(place), step))
            found[f"{name}_frame_ms"] = traced.frame_ms
            found[f"{name}_missed"] = traced.missed_share
            found[f"{name}_late"] = traced.late_share
        await visit(page, "chat")
        await choose(page, "talk")
        async with Traced(page) as traced:
            await page.run("cancelAnimationFrame(window.ticking)")
            await asyncio.sleep(20)
        found["idle_share"] = traced.busy
    return found


async def serve(folder: Path, tokens: int, rows: int) -> Found:
    """Run the model, the daemon and the measurements of its page."""
    application = web.Application()
    application.router.add_post("/v1/chat/completions", say)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    source = f"http://127.0.0.1:{port}/v1#up"
    vectors = {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]}
    configuration: dict[str, Any] = {
        "models": [{"name": "talk", "source": source, "aliases": ["default"]}, vectors]
    }
    (folder / "portico.yaml").write_text(json.dumps(configuration))
    daemon = await asyncio.to_thread(
        daemons.start, folder / "data", "--file", str(folder / "portico.yaml"), cold=True
    )
    try:
        return await measure(daemon.url, folder, tokens, rows)
    finally:
        await asyncio.to_thread(daemon.stop)
        daemon.close()
        await runner.cleanup()


def main() -> None:
    """Run, print and store the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(serve(Path(folder), given.tokens, given.rows))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
