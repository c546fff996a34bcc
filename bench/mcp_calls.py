"""A tool over MCP compared with a plain server of the `mcp` package: ``python bench/mcp_calls.py``.

The tool does almost nothing, so the benchmark measures the path to it: calls one after another, and 100 clients at
once, without sessions and with them. Goals: ≤3 ms a call (p50), and no slower than the bare server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from harness import HERE, Report, daemon, free_port, load, medians, process, ratio

MODERN = "2026-07-28"
ACCEPT = {"Accept": "application/json, text/event-stream"}
CASES = {"2026-07-28 c=1": (1, True), "sessions c=1": (1, False), "2026-07-28 c=100": (100, True)}


def message(method: str, modern: bool, **params: Any) -> bytes:
    """Return a JSON-RPC request."""
    if modern:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def headers(url: str, modern: bool) -> dict[str, str]:
    """Return the headers that a call needs; open a session for it if necessary."""
    if modern:
        return {
            **ACCEPT,
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "current_time",
        }
    client = {"name": "bench", "version": "1"}
    begin = message("initialize", False, protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    asked = urllib.request.Request(url, begin, {"Content-Type": "application/json", **ACCEPT})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        opened = {**ACCEPT, "Mcp-Session-Id": answer.headers["mcp-session-id"]}
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
    asked = urllib.request.Request(url, note, {"Content-Type": "application/json", **opened})
    urllib.request.urlopen(asked, timeout=30).close()
    return opened


def main() -> int:
    """Measure, print and store the results; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    samples: dict[str, dict[str, list[float]]] = {case: {} for case in CASES}
    errors = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        bare = stack.enter_context(
            process(
                (sys.executable, str(HERE / "bare_mcp.py"), str(port)), f"http://127.0.0.1:{port}", "/mcp"
            )
        )
        portico = stack.enter_context(daemon(folder / "home"))
        ends = {"portico": f"{portico.url}/mcp", "bare": f"{bare.url}/mcp"}
        for url in ends.values():  # the first call waits for imports
            load(
                url,
                message("tools/list", True),
                1,
                0.5,
                headers={**headers(url, True), "Mcp-Method": "tools/list"},
            )
        for _ in range(options.rounds):
            for case, (connections, modern) in CASES.items():
                for name, url in ends.items():
                    body = message("tools/call", modern, name="current_time", arguments={"timezone": "UTC"})
                    found = load(url, body, connections, options.seconds, headers=headers(url, modern))
                    errors += found.errors
                    samples[case].setdefault(name, []).append(found.p50)
                    samples[case].setdefault(f"{name}/s", []).append(found.rate)
    report = Report(
        "a call of a tool over MCP", ("case", "portico ms", "bare ms", "portico /s", "bare /s", "ratio")
    )
    good = errors == 0
    for case, series in samples.items():
        middle = medians(series)
        report.add(
            case=case,
            **{f"{name} ms": middle[name] for name in ("portico", "bare")},
            **{f"{name} /s": middle[f"{name}/s"] for name in ("portico", "bare")},
            ratio=ratio(middle, "portico", "bare"),
        )
        good = good and (CASES[case][0] > 1 or middle["portico"] <= 3.0)
    report.notes["errors"] = errors
    report.show(options.json)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
