"""A killed run that writes a group is continued by the next start after its last stored chunk."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

pytestmark = pytest.mark.process

CONFIGURATION = r"""
models:
  - name: slow
    source: "fake://"
    aliases: [default]
    parameters: {script: [{match: "<text>.*keeper(\\d+) ", content: "Of number\\1 alone.", delay: 0.1}]}
"""
PIECES = 24
STORY = "\n\n".join(
    f"## Part {n}\n\nHere is keeper{n} now. " + "He kept the lamps of the coast. " * 60 for n in range(PIECES)
)


def groups(http: httpx.Client) -> dict[str, Any]:
    group_rows: list[dict[str, Any]] = http.get("/api/stores/story/groups").json()["data"]
    return next(group for group in group_rows if group["name"] == "brief")


def killed_while_writing(daemon: Daemon) -> int:
    """Start a group, kill the daemon once some pieces are done, and return the number of stored chunks."""
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        group_request = {
            "name": "brief",
            "chunking_strategy": {"type": "summary", "size": 2_000},
            "embedding_model": "",
        }
        run = http.post("/api/stores/story/groups", json=group_request).json()["run"]
        with http.stream("GET", f"/api/runs/{run}/events") as events:
            for line in events.iter_lines():
                if line.startswith("data: ") and json.loads(line[6:]).get("unit") == "pieces":
                    break
        chunk_count: int = groups(http)["chunks"]
    daemon.stop(signal.SIGKILL)
    return chunk_count


@pytest.mark.slow
def test_after_a_kill_each_piece_is_summarised_exactly_once(tmp_path: Path) -> None:
    folder = tmp_path / "story"
    folder.mkdir()
    (folder / "story.md").write_text(STORY, encoding="utf-8")
    configuration = tmp_path / "slow.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    arguments = ("--file", str(configuration), "--docs", str(folder))
    with daemons.running(tmp_path / "data", *arguments) as first:
        first.settle()
        assert 0 < killed_while_writing(first) < PIECES
    with daemons.running(tmp_path / "data", *arguments) as second:
        second.settle()
        with httpx.Client(base_url=second.url, timeout=60) as http:
            for kind in ("ingest", "write"):  # the first starts the second
                for run in http.get("/api/runs").json()["data"]:
                    if run["kind"] == kind:
                        http.get(f"/api/runs/{run['id']}/events")
            brief = groups(http)
            assert (brief["completed"], brief["failed"], brief["chunks"]) == (1, 0, PIECES)
            for number in (0, 7, 8, PIECES // 2, PIECES - 1):
                body = {"query": f"number{number}", "groups": ["brief"], "max_num_results": 50}
                passages = http.post("/api/stores/story/search", json=body).json()["data"]
                assert [passage["text"] for passage in passages] == [f"Of number{number} alone."]
