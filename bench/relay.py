"""Portico as a relay compared with a bare relay and, if installed, LiteLLM's proxy: ``python bench/relay.py``.

One instant upstream; every round measures each relay alternately. Goals: plain at c=64 ≥80 % of the bare relay,
streams at c=16 ≥95 %; ≥10 × LiteLLM; ≤1 ms added at c=1 (p50).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from harness import HERE, Load, Report, daemon, free_port, load, medians, process, ratio

BODY = {"model": "up", "messages": [{"role": "user", "content": "Say a word sixty-four times."}]}
CASES = {
    "plain c=1": (1, False),
    "plain c=64": (64, False),
    "stream c=16": (16, True),
    "stream c=64": (64, True),
}


def litellm(stack: contextlib.ExitStack, command: str, upstream: str, folder: Path) -> str:
    """Start LiteLLM's proxy in front of the upstream, from a separate environment."""
    port = free_port()
    model = {"model": "openai/up", "api_base": f"{upstream}/v1", "api_key": "none"}
    config = {"model_list": [{"model_name": "up", "litellm_params": model}]}
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))
    arguments = (command, "--config", str(path), "--host", "127.0.0.1", "--port", str(port))
    # It serves only loopback here, and refuses to start without a key unless this is set.
    env = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    return stack.enter_context(
        process(arguments, f"http://127.0.0.1:{port}", "/health/liveliness", **env)
    ).url


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--litellm", default="", help="path of the litellm command in an environment of its own"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up, bare = free_port(), free_port()
        upstream = stack.enter_context(
            process(
                (sys.executable, str(HERE / "upstream.py"), str(up)), f"http://127.0.0.1:{up}", "/v1/models"
            )
        ).url
        command = (sys.executable, str(HERE / "bare_relay.py"), str(bare), upstream)
        targets = {
            "direct": upstream,
            "bare relay": stack.enter_context(process(command, f"http://127.0.0.1:{bare}", "/health")).url,
        }
        config = folder / "portico.yaml"
        config.write_text(json.dumps({"models": [{"name": "up", "source": f"{upstream}/v1#up"}]}))
        targets["portico"] = stack.enter_context(daemon(folder / "home", "--file", str(config))).url
        if options.litellm:
            targets["litellm"] = litellm(stack, options.litellm, upstream, folder)
        samples: dict[str, dict[str, list[Load]]] = {case: {name: [] for name in targets} for case in CASES}
        for number in range(options.rounds + 1):
            for case, (connections, stream) in CASES.items():
                body = json.dumps({**BODY, "stream": stream}).encode()
                for name, url in targets.items():
                    seconds = options.seconds if number else min(1.0, options.seconds)
                    measured = load(f"{url}/v1/chat/completions", body, connections, seconds)
                    if number:  # the first round is a warm-up
                        samples[case][name].append(measured)
    report = Report(
        "Relay", ("case", "relay", "req/s", "p50 ms", "p99 ms", "errors", "of bare", "of litellm")
    )
    for case, by_name in samples.items():
        rates = medians({name: [item.rate for item in items] for name, items in by_name.items()})
        p50 = medians({name: [item.p50 for item in items] for name, items in by_name.items()})
        p99 = medians({name: [item.p99 for item in items] for name, items in by_name.items()})
        for name, items in by_name.items():
            report.add(
                **{
                    "case": case,
                    "relay": name,
                    "req/s": rates[name],
                    "p50 ms": p50[name],
                    "p99 ms": p99[name],
                },
                **{"errors": sum(item.errors for item in items), "of bare": ratio(rates, name, "bare relay")},
                **{"of litellm": ratio(rates, name, "litellm")},
            )
        report.notes[f"{case}: added p50 over direct, ms"] = p50["portico"] - p50["direct"]
    report.show(options.json)


if __name__ == "__main__":
    main()
