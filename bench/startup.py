"""Duration of a second start and memory of an idle daemon: ``python bench/startup.py``.

Goals: ≤0.6 s to ``/health``, ≤1.3 s to the first token, ≤110 MB without an engine loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from harness import Report, call, end, free_port, wait_for


def start(home: Path, docs: Path | None) -> tuple[subprocess.Popen[bytes], str, float]:
    """Start a daemon; return it, its URL, and the seconds from the command to the first answer of ``/health``."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "portico_server",
        "serve",
        "--home",
        str(home),
        "--port",
        str(port),
        "--quiet",
    ]
    # Python compiles a module once and saves the result, unless the environment forbids it, as images often
    # do.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    child = subprocess.Popen(
        [*command, *(("--docs", str(docs)) if docs else ())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environment, "PYTHONPYCACHEPREFIX": str(home / "bytecode")},
    )
    url = f"http://127.0.0.1:{port}"
    wait_for(f"{url}/health", lambda: child.poll() is None)
    return child, url, time.perf_counter() - begin


def settle(url: str) -> None:
    """Wait for the work that the start triggered, and call two APIs, so that late imports have happened."""
    call(f"{url}/v1/models")
    for run in call(f"{url}/api/status")["startup"]:
        urllib.request.urlopen(
            f"{url}/api/runs/{run}/events", timeout=300
        ).read()  # the events end with the run


def first_token(url: str) -> float:
    """Return the seconds from a streamed chat with the default model, not yet loaded, to its first token."""
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "Say a word."}],
        "max_tokens": 4,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    begin = time.perf_counter()
    with urllib.request.urlopen(request, timeout=300) as answer:
        for line in answer:
            if b'"content":' in line and b'"content":""' not in line and b'"content":null' not in line:
                break
        return time.perf_counter() - begin


def main() -> None:
    """Start once to fill the home folder, then measure further starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", type=Path, help="a folder to follow, as with 'portico up --docs'")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    health, processor, token, idle = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds + 1):
            child, url, seconds = start(Path(folder), options.docs)
            try:
                if number == 0:
                    settle(url)
                    first_token(url)
                else:
                    health.append(seconds)
                    times = psutil.Process(child.pid).cpu_times()
                    processor.append(times.user + times.system)
                    settle(url)
                    idle.append(psutil.Process(child.pid).memory_info().rss / 1e6)
                    token.append(first_token(url))
            finally:
                end(child)
    report = Report("Second start", ("what", "median", "worst", "goal"))
    for what, series, goal in (
        ("/health, s", health, 0.6),
        ("/health, processor s", processor, None),
        ("first token, s", token, 1.3),
        ("idle, MB", idle, 110.0),
    ):
        report.add(what=what, median=statistics.median(series), worst=max(series), goal=goal)
    report.show(options.json)


if __name__ == "__main__":
    main()
