"""Growing bodies and flows against one daemon, with requests to ``/health``: ``python bench/growth.py``.

The long version of tests/server/api/test_growth.py: larger, and with figures. Goals: ``/health`` within 0.25 s
throughout, no 5xx, memory below 1.2 GB. Besides the time of ``/health``, which depends on other work on the machine,
it prints the longest uninterrupted computation of the daemon's event loop (``loop``) and the daemon's maximum
processor time for one body (``cpu``). With ``--show S`` it also prints what the loop was doing when it took longer
than ``S`` seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from harness import HERE, daemon

sys.path.insert(0, str(HERE.parent))

from tests.growth import (
    ALONE,
    CONFIGURATION,
    EXISTING,
    WAITS,
    Endpoint,
    Health,
    at,
    body,
    endpoints,
    fields_alone,
    files_that_grow,
    flows,
    forms,
    growths,
)

JSON = {"content-type": "application/json"}


class Watch:
    """The daemon's behaviour since `begin`, seen from outside and from inside."""

    def __init__(self, pid: int, health: Health, marks: Path, show_s: float) -> None:
        self.rows: list[dict[str, Any]] = []
        self._process = psutil.Process(pid)
        self._health = health
        self._marks = marks.open()
        self._show_s = show_s
        self.begin()

    def begin(self) -> None:
        """Start a measurement; its name is passed to `end`."""
        self._asked = self._broken = 0
        self._health_s = self._loop_s = self._cpu_s = 0.0
        self._health_at = self._loop_at = ""

    def before(self) -> None:
        """Record that a body is about to be sent."""
        self._health.since()
        self._marks.read()
        self._computed = sum(self._process.cpu_times()[:2])

    def after(self, where: str, *, broken: bool) -> None:
        """Record that the body was answered."""
        self._asked += 1
        self._broken += broken
        if (slowest := self._health.since()) > self._health_s:
            self._health_s, self._health_at = slowest, where
        self._cpu_s = max(self._cpu_s, sum(self._process.cpu_times()[:2]) - self._computed)
        for line in self._marks.read().splitlines():
            mark = json.loads(line)
            if mark["cpu"] > self._show_s:
                print(f"    {mark['cpu']:.3f} s at {where}: {'; '.join(mark['doing'])}")
            if mark["cpu"] > self._loop_s:
                self._loop_s, self._loop_at = mark["cpu"], where

    def end(self, name: str, said: str = "") -> None:
        """Print and store the measurement."""
        memory = self._process.memory_info().rss / 2**20
        row = {
            "what": name,
            "asked": self._asked,
            "5xx": self._broken,
            "rss_mb": memory,
            "cpu_s": self._cpu_s,
        }
        row |= {"health_s": self._health_s, "health_at": self._health_at}
        self.rows.append(row | {"loop_s": self._loop_s, "loop_at": self._loop_at, "said": said})
        print(
            f"{name:44} {self._asked:5} asked {self._broken:3} 5xx  health ≤ {self._health_s:6.3f} s  "
            f"loop ≤ {self._loop_s:6.3f} s  cpu ≤ {self._cpu_s:6.2f} s  {memory:6.0f} MB  {said or self._loop_at}"
        )
        self.begin()


def send_all(client: httpx.Client, watch: Watch, scale: int) -> None:
    """Send to every endpoint and every flow."""
    document = client.get("/openapi.json").json()
    existing = {name: client.post(path, json=given).json()["id"] for name, (path, given) in EXISTING.items()}
    for how in growths(scale):
        for endpoint in endpoints(document):
            if endpoint.path in WAITS:
                continue
            _send(client, watch, endpoint, at(endpoint.path, {}), endpoint.grown(how))
        watch.end(how.name)
        for endpoint in endpoints(document):
            if endpoint.path.startswith(ALONE):
                for _name, given in fields_alone(endpoint, how):
                    _send(client, watch, endpoint, at(endpoint.path, existing), given)
        watch.end(f"{how.name}, one field alone")
    for name, file in files_that_grow(scale):
        for form in forms(document):
            fields, files = form.grown(growths()[0], file)
            watch.before()
            answer = client.request(form.method, at(form.path, {}), data=fields, files=files)
            watch.after(f"{form.method} {form.path}", broken=answer.status_code >= 500)
        watch.end(f"forms with {name}")
    for name, step, value in flows(scale):
        content = body({"flow": {"portico_flow": 1, "name": "growing", "step": step}, "input": value})
        watch.before()
        with client.stream("POST", "/api/flows/run", content=content, headers=JSON) as answer:
            text = answer.read().decode(errors="replace")
        last = text.strip().rpartition("data: ")[2]
        told = json.loads(last).get("error") or {} if last.startswith("{") else {}
        watch.after(name, broken=answer.status_code >= 500 or told.get("code") == "internal_error")
        watch.end(f"flow: {name}", str(told.get("code") or "finished"))


def _send(client: httpx.Client, watch: Watch, endpoint: Endpoint, path: str, given: Any) -> None:
    content = body(given)
    watch.before()
    with client.stream(endpoint.method, path, content=content, headers=JSON) as answer:
        pass
    watch.after(f"{endpoint.method} {endpoint.path}", broken=answer.status_code >= 500)


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=4, help="how many times as large as in the test")
    parser.add_argument(
        "--show", type=float, default=0.1, help="seconds of the loop from which is said at what"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        configuration, marks = Path(folder) / "growth.yaml", Path(folder) / "marks"
        configuration.write_text(CONFIGURATION)
        marks.touch()
        program = (str(HERE / "growth_inside.py"), str(marks))
        with (
            daemon(Path(folder) / "home", "--file", str(configuration), program=program) as serving,
            httpx.Client(base_url=serving.url, timeout=120) as client,
            Health(serving.url, pause_s=0.005) as health,
        ):
            time.sleep(5)  # remaining work after startup
            watch = Watch(serving.pid, health, marks, options.show)
            send_all(client, watch, options.scale)
    if options.json:
        options.json.write_text(json.dumps(watch.rows, indent=2))


if __name__ == "__main__":
    main()
