"""A store whose documents are read by workers of a launcher, which the test kills."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import psutil
from tests.daemon import Daemon

from portico import Client

FILES = 8


def reads_documents(
    daemon: Daemon, folder: Path, launcher: str, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Check that every file is found once, although workers are killed."""
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.md").write_text(f"# Pier {number}\n\nThe boat{number} has a berth.\n")
    (folder / "long.txt").write_text("A berth lies east of the pier.\n\n" * 40_000)

    def workers() -> list[int]:
        """Return the process ids of the reading workers."""
        results = []
        for path in (daemon.home / "jobs").glob("*/address.json"):
            with contextlib.suppress(
                FileNotFoundError, psutil.NoSuchProcess
            ):  # a process that has ended meanwhile
                agent = psutil.Process(json.loads(path.read_text())["pid"])
                if json.loads(path.with_name("job.json").read_text())["name"] == "documents":
                    results += [child.pid for child in agent.children()]
        return results

    with Client(daemon.url) as client:
        client.stores.add("harbour", folder=folder, embedding_model="")
        wait_until(lambda: bool(workers()))
        jobs = [job for job in client.cluster.status().jobs if job.name == "documents"]
        assert jobs and {job.launcher for job in jobs} == {launcher}
        with contextlib.suppress(psutil.NoSuchProcess):
            for pid in workers():
                psutil.Process(pid).kill()
        client.stores.wait("harbour", timeout=300)
        files = client.stores.files("harbour").data
        assert [(file.status, file.error) for file in files] == [("completed", None)] * (FILES + 1)
        for number in range(FILES):
            results = client.stores.search("harbour", f"boat{number}").passages
            assert [passage.filename for passage in results if f"boat{number} " in passage.text] == [
                f"{number}.md"
            ]
