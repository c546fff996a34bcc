"""Bodies and flows that grow against one daemon, while ``/health`` is asked: ``python bench/growth.py``.

The long version of tests/server/api/test_growth.py: larger, and with figures. Goals: ``/health`` within 0.25 s
throughout, no 5xx, memory below 1.2 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import httpx
import psutil
from harness import HERE, daemon

sys.path.insert(0, str(HERE.parent))

from tests.growth import WAITS, Health, body, endpoints, flows, growths

CONFIGURATION = """
models:
  - {name: default, source: "fake://"}
  - {name: default-embedding, source: "fake://", task: embedding, parameters: {dimensions: 16}}
"""
JSON = {"content-type": "application/json"}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=4, help="how many times as large as in the test")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "growth.yaml"
        configuration.write_text(CONFIGURATION)
        with (
            daemon(Path(folder) / "home", "--file", str(configuration)) as serving,
            httpx.Client(base_url=serving.url, timeout=120) as client,
            Health(serving.url, pause_s=0.005) as health,
        ):
            process = psutil.Process(serving.pid)

            def report(name: str, asked: int, broken: int, worst: float, where: str) -> None:
                memory = process.memory_info().rss / 2**20
                rows.append(
                    {
                        "what": name,
                        "asked": asked,
                        "5xx": broken,
                        "health_s": worst,
                        "at": where,
                        "rss_mb": memory,
                    }
                )
                print(
                    f"{name:44} {asked:5} asked {broken:3} 5xx  health ≤ {worst:6.3f} s  {memory:6.0f} MB  {where}"
                )

            document = client.get("/openapi.json").json()
            health.since()
            for how in growths(options.scale):
                asked, broken, worst, where = 0, 0, 0.0, ""
                for endpoint in endpoints(document):
                    if endpoint.path in WAITS:
                        continue
                    path = "/".join("nothing" if "{" in part else part for part in endpoint.path.split("/"))
                    content = body(endpoint.grown(how))
                    health.since()
                    with client.stream(endpoint.method, path, content=content, headers=JSON) as answer:
                        broken += answer.status_code >= 500
                    asked += 1
                    if (slowest := health.since()) > worst:
                        worst, where = slowest, f"{endpoint.method} {endpoint.path}"
                report(how.name, asked, broken, worst, where)
            for name, step, value in flows(options.scale):
                content = body({"flow": {"portico_flow": 1, "name": "growing", "step": step}, "input": value})
                health.since()
                with client.stream("POST", "/api/flows/run", content=content, headers=JSON) as answer:
                    text = answer.read().decode(errors="replace")
                last = text.strip().rpartition("data: ")[2]
                told = json.loads(last).get("error") or {} if last.startswith("{") else {}
                broken = answer.status_code >= 500 or told.get("code") == "internal_error"
                report(f"flow: {name}", 1, broken, health.since(), str(told.get("code") or "finished"))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
