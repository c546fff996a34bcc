"""Code shared by the benchmarks: processes that end with us, a load generator, quantiles, tables.

Everything stays on the loopback interface and is bounded in time and count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
START_TIMEOUT_S = 300.0
"""Time limit for a server's first answer, in seconds: on busy cores, imports take minutes."""


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement: requests per second, and milliseconds by quantile."""

    rate: float
    p50: float
    p99: float
    errors: int
    requests: int


@dataclass(frozen=True, slots=True)
class Serving:
    """A process that answers at ``url``."""

    url: str
    pid: int


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str], url: str, ready: str, **env: str) -> Iterator[Serving]:
    """Run a server for the duration of a ``with`` block, which starts when ``url + ready`` answers."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **env},
        )
        try:
            wait_for(url + ready, lambda: child.poll() is None)
            yield Serving(url, child.pid)
        except TimeoutError as error:
            log.seek(0)
            raise SystemExit(
                f"{command[0]} did not start: {log.read()[-2000:].decode('utf-8', 'replace')}"
            ) from error
        finally:
            end(child)


@contextlib.contextmanager
def daemon(
    home: Path,
    *arguments: str,
    program: Sequence[str] = ("-m", "portico_server"),
    python: str = sys.executable,
) -> Iterator[Serving]:
    """Run Portico with its data in ``home``. ``program``: Python's arguments, if not the daemon itself."""
    command = (
        *(python, *program, "serve", "--home", str(home), "--port", "0"),
        *("--parent-watch", "--quiet", *arguments),
    )
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        said = json.loads(child.stdout.readline() or "{}")
        if not said.get("ready"):
            raise SystemExit(f"the daemon did not start: {said}")
        yield Serving(said["url"], child.pid)
    finally:
        end(child)
        child.stdin.close()
        child.stdout.close()


def end(child: subprocess.Popen[Any]) -> None:
    """Send SIGTERM, and SIGKILL if the process ignores it."""
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_for(url: str, alive: Callable[[], bool]) -> float:
    """Return the seconds until a GET of ``url`` is answered. Raise TimeoutError if the process ends or the time is
    up.
    """
    begin = time.perf_counter()
    while time.perf_counter() - begin < START_TIMEOUT_S and alive():
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return time.perf_counter() - begin
        except OSError:
            time.sleep(0.01)  # no event announces that a port is open
        else:
            return time.perf_counter() - begin
    raise TimeoutError(url)


def call(url: str, body: Any = None, *, method: str | None = None, timeout: float = 300) -> Any:
    """Send a JSON request and return the JSON answer; raise errors with the server's message."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(
            f"{url}: HTTP {error.code}: {error.read().decode('utf-8', 'replace')[:500]}"
        ) from error


# --- load ---


def load(
    url: str,
    body: bytes,
    connections: int,
    seconds: float,
    *,
    key: str = "",
    headers: Mapping[str, str] | None = None,
) -> Load:
    """POST ``body`` repeatedly on ``connections`` connections, with wrk if it is installed.

    With ``headers``, always use our own generator.
    """
    if shutil.which("wrk") and not headers:
        return _wrk(url, body, connections, seconds, key)
    return asyncio.run(_own(url, body, connections, seconds, key, headers or {}))


def _wrk(url: str, body: bytes, connections: int, seconds: float, key: str) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        quoted = json.dumps(body.decode()).replace("\\/", "/")
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = {quoted}\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
            + (f'wrk.headers["Authorization"] = "Bearer {key}"\n' if key else "")
        )
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--latency",
            "-s",
            str(script),
            url,
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return parse_wrk(text)


def parse_wrk(text: str) -> Load:
    """Parse the output of wrk."""

    def milliseconds(quantile: str) -> float:
        match = re.search(rf"^\s+{quantile}%\s+([\d.]+)(us|ms|s)", text, re.MULTILINE)
        return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]] if match else 0.0

    def number(pattern: str) -> float:
        match = re.search(pattern, text)
        return float(match[1]) if match else 0.0

    errors = number(r"Non-2xx or 3xx responses: (\d+)") + number(r"timeout (\d+)") + number(r"read (\d+)")
    rate, requests = number(r"Requests/sec:\s+([\d.]+)"), number(r"(\d+) requests in")
    return Load(rate, milliseconds("50"), milliseconds("99"), int(errors), int(requests))


async def _own(
    url: str, body: bytes, connections: int, seconds: float, key: str, headers: Mapping[str, str]
) -> Load:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    times: list[float] = []
    errors = 0
    until = time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal errors
        writer: asyncio.StreamWriter | None = None
        while time.perf_counter() < until:
            begin = time.perf_counter()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.write(request)
                good, keep = await _answer(reader)
            except (OSError, asyncio.IncompleteReadError):
                good = keep = False
            if good:
                times.append(time.perf_counter() - begin)
            else:
                errors += 1
            if not keep and writer is not None:
                writer.close()
                writer = None
        if writer is not None:
            writer.close()

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker())
    return summary(times, time.perf_counter() - begin, errors)


async def _answer(reader: asyncio.StreamReader) -> tuple[bool, bool]:
    """Read one response to its end; return whether it is a 200 and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    match = re.search(rb"\r\ncontent-length: *(\d+)", head)
    if match:
        await reader.readexactly(int(match[1]))
    elif b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    else:
        await reader.read()
        return b" 200 " in head[:16], False
    return b" 200 " in head[:16], b"connection: close" not in head


def summary(times: Sequence[float], seconds: float, errors: int = 0) -> Load:
    """Return the rate and the quantiles of single times in seconds."""
    if not times:
        return Load(0, 0, 0, errors, errors)
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Load(
        len(times) / seconds, statistics.median(ordered) * 1e3, p99 * 1e3, errors, len(times) + errors
    )


# --- reports ---


@dataclass
class Report:
    """Rows of a table that is printed and, on request, stored as JSON."""

    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, **row: Any) -> None:
        self.rows.append(row)

    def show(self, path: Path | None) -> None:
        """Print the table, and write everything to ``path``."""
        cells = [[_cell(row.get(column)) for column in self.columns] for row in self.rows]
        widths = [max(len(text) for text in column) for column in zip(self.columns, *cells, strict=True)]
        print(f"\n{self.title}")
        for line in ([*self.columns], *cells):
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        for name, value in self.notes.items():
            print(f"{name}: {_cell(value)}")
        if path is not None:
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    return str(value)


def ratio(values: Mapping[str, float], name: str, base: str) -> float | None:
    """Return ``name`` as a multiple of ``base``."""
    return values[name] / values[base] if values.get(base) and name in values else None


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each series: interleaved rounds make it fair, the median removes outliers."""
    return {name: statistics.median(series) for name, series in samples.items() if series}
