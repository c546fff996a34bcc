"""Measures whether the daemon keeps up with a GPU: ``python bench/rate.py [--server URL#MODEL]``.

An engine's server in a process of its own says a token a step to each of many streams, at the rate of a GPU
(`steps.py`); clients read them from it and through Portico in turn. What counts: tokens a second through Portico and
without it, what it adds to the time to the first token, how late tokens are, and the processor time that the daemon
takes for one, which a busy machine changes least. With ``--server`` it is a server that runs already, such as vLLM's,
and goes as fast as it can. Goals: ≥0.98 × at 64 streams, ≤2 ms added to the first token (p50).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import psutil
import uvloop
from harness import HERE, Report, Serving, daemon, free_port, process, wait_for

LADDER = ("1x300", "16x300", "64x50", "64x150", "64x300", "256x75")
"""Streams × tokens per second of each."""

STAMP = b'"content":"0'
"""The start of a token of `steps.py`; its 19-digit timestamp has a leading zero."""

_COUNT = re.compile(rb'"completion_tokens": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Load:
    """A load of ``streams`` clients with answers of ``tokens`` each, one after another for ``seconds``.

    The rate is ``rate`` tokens per second if the server paces its tokens.
    """

    model: str
    streams: int
    rate: int
    tokens: int
    seconds: float

    def request(self, url: str) -> bytes:
        """Return one request in its wire format."""
        parts = urlsplit(url)
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Say when."}],
            "max_tokens": self.tokens,
            "seed": self.rate,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        data = json.dumps(body).encode()
        lines = (
            "POST /v1/chat/completions HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
        )
        return "\r\n".join((*lines, f"Content-Length: {len(data)}\r\n\r\n")).encode() + data


@dataclass(slots=True)
class Seen:
    """What the clients of one measurement observed, with times in seconds. Fields grow during the measurement."""

    tokens: int = 0
    answers: int = 0
    broken: int = 0
    first: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    seconds: float = 0.0
    processor: float = 0.0

    def add(self, other: Seen) -> None:
        self.tokens += other.tokens
        self.answers += other.answers
        self.broken += other.broken
        self.first += other.first
        self.late += other.late
        self.seconds += other.seconds
        self.processor += other.processor


class Client(asyncio.Protocol):
    """A connection that sends the next request as soon as it has its answer, until ``until``."""

    def __init__(self, request: bytes, load: Load, until: float, seen: Seen) -> None:
        self._request = request
        self._load = load
        self._until = until
        self._seen = seen
        self._asked = 0.0
        self._waits = False
        self._tail = self._end = b""
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of that class
        self._ask()

    def _ask(self) -> None:
        self._tail = self._end = b""
        self._waits = True
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._end = (self._end + data)[-1000:]
        data = self._tail + data
        self._tail = data[1 - len(STAMP) :]  # shorter than the start of a stamp
        if self._waits and b"data: " in data:
            self._waits = False
            self._seen.first.append(time.perf_counter() - self._asked)
        at = data.rfind(STAMP)
        stamp = data[at + len(STAMP) :][:18] if at >= 0 else b""
        if len(stamp) == 18:
            self._seen.late.append((time.monotonic_ns() - int(stamp)) * 1e-9)
        if self._end.endswith(b"\n0\r\n\r\n"):
            self._ended()

    def _ended(self) -> None:
        count = _COUNT.search(self._end)
        tokens = int(count[1]) if count else 0
        self._seen.tokens += tokens
        self._seen.answers += 1
        if tokens != self._load.tokens:
            self._seen.broken += 1
        if time.perf_counter() < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _clients(url: str, load: Load) -> Seen:
    """Run clients that start at different times in the first second."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    request = load.request(url)
    loop = asyncio.get_running_loop()
    seen = Seen()
    begin = time.perf_counter()
    clients = []
    for number in range(load.streams):
        await asyncio.sleep(begin + number / load.streams - time.perf_counter())
        _, client = await loop.create_connection(
            lambda: Client(request, load, begin + load.seconds, seen), parts.hostname, parts.port
        )
        clients.append(client)
    async with asyncio.timeout(10 * load.seconds + 60):
        await asyncio.gather(*(client.over for client in clients))
    seen.seconds = time.perf_counter() - begin
    return seen


def measure(target: Serving, load: Load) -> Seen:
    """Run one measurement, with the processor time of the target's process if we started it."""
    if not target.pid:
        return uvloop.run(_clients(target.url, load))
    watched = psutil.Process(target.pid)
    before = watched.cpu_times()
    seen = uvloop.run(_clients(target.url, load))
    after = watched.cpu_times()
    seen.processor = after.user + after.system - before.user - before.system
    return seen


def _add(report: Report, case: str, name: str, seen: Seen, raw: Seen) -> None:
    first, late = statistics.median(seen.first) * 1e3, sorted(seen.late)
    tokens, base = seen.tokens / seen.seconds, raw.tokens / raw.seconds
    report.add(
        **{
            "streams x rate": case,
            "through": name,
            "tokens/s": tokens,
            "of raw": tokens / base,
            "first ms": first,
            "added ms": first - statistics.median(raw.first) * 1e3,
            "late p50 ms": statistics.median(late) * 1e3 if late else None,
            "late p99 ms": late[int(len(late) * 0.99)] * 1e3 if late else None,
            "µs/token": 1e6 * seen.processor / seen.tokens if seen.processor else None,
            "of a core": seen.processor / seen.seconds if seen.processor else None,
            "broken": seen.broken,
        }
    )


def _targets(stack: contextlib.ExitStack, server: str, bare: bool) -> dict[str, Serving]:
    """Return the measured targets: the engine's server, the bare relay if requested, and Portico."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if server:
        address, _, model = server.partition("#")
        raw = Serving(address.rstrip("/").removesuffix("/v1"), 0)
    else:
        port, model = free_port(), "up"
        engine = (sys.executable, str(HERE / "steps.py"), str(port))
        raw = stack.enter_context(process(engine, f"http://127.0.0.1:{port}", "/v1/models"))
    targets = {"raw": raw}
    if bare:
        port = free_port()
        relay = (sys.executable, str(HERE / "bare_relay.py"), str(port), raw.url)
        targets["bare relay"] = stack.enter_context(process(relay, f"http://127.0.0.1:{port}", "/health"))
    config = folder / "portico.yaml"
    config.write_text(json.dumps({"models": [{"name": model, "source": f"{raw.url}/v1#{model}"}]}))
    portico = stack.enter_context(daemon(folder / "home", "--file", str(config), "--offline", "true"))
    for path in ("/openapi.json", "/mcp"):  # the daemon imports its APIs once it serves
        wait_for(portico.url + path, psutil.Process(portico.pid).is_running)
    return {**targets, "portico": portico}


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ladder", nargs="+", default=(), metavar="STREAMSxRATE")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", default="", metavar="URL#MODEL", help="a server that runs already")
    parser.add_argument("--tokens", type=int, default=128, help="length of an answer of that server")
    parser.add_argument("--bare", action="store_true", help="measure the bare relay of relay.py, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = options.server.partition("#")[2] or "up"
    with contextlib.ExitStack() as stack:
        targets = _targets(stack, options.server, options.bare)
        cases = options.ladder or (("1", "64") if options.server else LADDER)
        seen = {case: {name: Seen() for name in targets} for case in cases}
        for number in range(options.rounds + 1):
            for case, by_name in seen.items():
                streams, _, rate = case.partition("x")
                tokens = options.tokens if options.server else int(rate)
                load = Load(model, int(streams), int(rate or 0), tokens, options.seconds if number else 1.0)
                for name, target in targets.items():
                    measured = measure(target, load)
                    if number:  # the first round is a warm-up
                        by_name[name].add(measured)
    columns = ("streams x rate", "through", "tokens/s", "of raw", "first ms", "added ms", "late p50 ms")
    report = Report("Rate of a GPU", (*columns, "late p99 ms", "µs/token", "of a core", "broken"))
    for case, by_name in seen.items():
        for name, each in by_name.items():
            _add(report, case, name, each, by_name["raw"])
    report.notes["goals"] = "64 streams: of raw ≥0.98; added ≤2 ms"
    report.show(options.json)


if __name__ == "__main__":
    main()
