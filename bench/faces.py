"""The APIs of one model compared, on one daemon with one instant upstream: ``python bench/faces.py``.

A relayed chat is passed on unchanged; a message of Anthropic's API and a response are parsed and rewritten, piece by
piece, and a response is also stored. Every round measures each API once. Goals, relative to chat: ≤1 ms added by any
of them (p50, c=1), of which storing takes ≤0.5; stored responses at c=16 ≥0.75 × plain and ≥0.85 × streamed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import HERE, Load, Report, daemon, free_port, load, medians, process, ratio

TEXT = "Say a word sixty-four times."
MESSAGES = [{"role": "user", "content": TEXT}]
FACES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"messages": MESSAGES}),
    "messages": ("messages", {"messages": MESSAGES, "max_tokens": 100}),
    "responses": ("responses", {"input": TEXT}),
    "responses, not stored": ("responses", {"input": TEXT, "store": False}),
}
CASES = {
    "plain c=1": (1, False),
    "plain c=16": (16, False),
    "stream c=1": (1, True),
    "stream c=16": (16, True),
}


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    samples: dict[str, dict[str, list[Load]]] = {case: {name: [] for name in FACES} for case in CASES}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        command = (sys.executable, str(HERE / "upstream.py"), str(port))
        upstream = stack.enter_context(process(command, f"http://127.0.0.1:{port}", "/v1/models")).url
        config = folder / "portico.yaml"
        config.write_text(json.dumps({"models": [{"name": "up", "source": f"{upstream}/v1#up"}]}))
        url = stack.enter_context(daemon(folder / "home", "--file", str(config))).url
        for number in range(options.rounds + 1):
            for case, (connections, stream) in CASES.items():
                for name, (path, body) in FACES.items():
                    asked = json.dumps({"model": "up", "stream": stream, **body}).encode()
                    seconds = options.seconds if number else min(1.0, options.seconds)
                    measured = load(f"{url}/v1/{path}", asked, connections, seconds)
                    if number:  # the first round is a warm-up
                        samples[case][name].append(measured)
    report = Report("Faces", ("case", "face", "req/s", "p50 ms", "p99 ms", "errors", "of chat"))
    for case, by_name in samples.items():
        rates = medians({name: [item.rate for item in items] for name, items in by_name.items()})
        p50 = medians({name: [item.p50 for item in items] for name, items in by_name.items()})
        p99 = medians({name: [item.p99 for item in items] for name, items in by_name.items()})
        for name, items in by_name.items():
            errors = sum(item.errors for item in items)
            row = {"case": case, "face": name, "req/s": rates[name], "p50 ms": p50[name], "p99 ms": p99[name]}
            report.add(**row, errors=errors, **{"of chat": ratio(rates, name, "chat")})
    report.show(options.json)


if __name__ == "__main__":
    main()
