"""What limits cost a call: ``python bench/limits.py --database postgresql://USER@HOST/EMPTY``.

Two daemons on one PostgreSQL count the calls of a key together; a daemon with SQLite counts in memory. Each round
measures, over one instant upstream, a key without limits and a key with limits that it never reaches, alone and while
the second daemon has as many calls of the same key. Goal: ≤1 ms added by limits on PostgreSQL (p50, c=1).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import HERE, Load, Report, call, daemon, free_port, load, medians, process

LIMITS = {"requests_per_minute": 10**9, "tokens_per_minute": 10**11, "concurrency": 10**6}
BODY = json.dumps({"model": "up", "messages": [{"role": "user", "content": "Hello."}]}).encode()
CONNECTIONS = (1, 16)


def key(url: str, limits: dict[str, int]) -> str:
    """Return a new key."""
    answer: dict[str, Any] = call(
        f"{url}/api/keys", {"name": f"bench-{len(limits)}", "scopes": ["chat"], "limits": limits}
    )
    return str(answer["key"])


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True, help="an empty database, postgresql://USER@HOST/NAME")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        command = (sys.executable, str(HERE / "upstream.py"), str(port))
        upstream = stack.enter_context(process(command, f"http://127.0.0.1:{port}", "/v1/models")).url
        config = folder / "portico.yaml"
        config.write_text(json.dumps({"models": [{"name": "up", "source": f"{upstream}/v1#up"}]}))
        shared = ("--database", options.database, "--files", str(folder / "files"))
        single, first, second = (
            stack.enter_context(daemon(folder / name, "--file", str(config), *arguments)).url
            for name, arguments in (("single", ()), ("first", shared), ("second", shared))
        )
        limited, unlimited = key(first, LIMITS), key(first, {})
        targets = {
            "SQLite, no limits": (single, key(single, {}), ""),
            "SQLite, limits": (single, key(single, LIMITS), ""),
            "PostgreSQL, no limits": (first, unlimited, ""),
            "PostgreSQL, limits": (first, limited, ""),
            "PostgreSQL, no limits, both busy": (first, unlimited, second),
            "PostgreSQL, limits, both busy": (first, limited, second),
        }
        samples: dict[int, dict[str, list[Load]]] = {
            count: {name: [] for name in targets} for count in CONNECTIONS
        }
        threads = stack.enter_context(ThreadPoolExecutor(1))
        for number in range(options.rounds + 1):
            for connections, by_name in samples.items():
                for name, (url, secret, other) in targets.items():
                    seconds = options.seconds if number else min(1.0, options.seconds)
                    beside = other and threads.submit(
                        load, f"{other}/v1/chat/completions", BODY, connections, seconds, key=secret
                    )
                    measured = load(f"{url}/v1/chat/completions", BODY, connections, seconds, key=secret)
                    if beside:
                        beside.result()
                    if number:  # the first round is a warm-up
                        by_name[name].append(measured)
    report = Report("Limits", ("connections", "calls", "req/s", "p50 ms", "p99 ms", "added ms", "errors"))
    for connections, by_name in samples.items():
        p50 = medians({name: [item.p50 for item in items] for name, items in by_name.items()})
        for name, items in by_name.items():
            rate, p99 = (
                medians({name: [getattr(item, field) for item in items]})[name] for field in ("rate", "p99")
            )
            report.add(
                connections=connections,
                calls=name,
                errors=sum(item.errors for item in items),
                **{"req/s": rate, "p50 ms": p50[name], "p99 ms": p99},
                **{"added ms": p50[name] - p50[name.replace(", limits", ", no limits")]},
            )
    report.show(options.json)


if __name__ == "__main__":
    main()
