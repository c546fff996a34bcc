"""A daemon on a disk that a test can fill up or stop."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.daemon import Daemon, start


@dataclass(slots=True)
class Disk:
    """The home of a daemon on a disk whose behaviour the test controls."""

    daemon: Daemon
    control: Path
    configuration: Path
    preloaded: dict[str, str]

    def become(self, what: str, part: str = "") -> None:
        """Make the disk ``full``, ``slow`` or ``still`` from now on, for paths that contain ``part``."""
        (self.control / f"{what}.new").write_text(part)
        (self.control / f"{what}.new").rename(self.control / what)

    def recover(self) -> None:
        for path in self.control.iterdir():
            path.unlink()

    def close(self) -> None:
        """Close the pipes to a daemon that has ended."""
        for stream in (self.daemon.process.stdin, self.daemon.process.stdout):
            if stream is not None:
                stream.close()

    def start(self) -> None:
        """Restart the daemon on the disk, as users do."""
        self.close()
        self.daemon = start(
            self.daemon.home, "--file", str(self.configuration), env=self.preloaded, cold=True
        )


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library between a daemon and its disk."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("a faulty disk is made with gcc, on Linux")
    library = tmp_path_factory.mktemp("shim") / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def disk(shim: Path, settled: Path, tmp_path: Path) -> Iterator[Disk]:
    home, control = tmp_path / "home", tmp_path / "control"
    shutil.copytree(settled / "data", home)
    control.mkdir()
    env = {"LD_PRELOAD": str(shim), "SHIM_ROOT": str(home), "SHIM_CONTROL": str(control)}
    arguments = ("--file", str(settled / "test.yaml"))
    disk = Disk(start(home, *arguments, env=env, cold=True), control, settled / "test.yaml", env)
    try:
        yield disk
    finally:
        disk.recover()
        if disk.daemon.process.poll() is None:
            disk.daemon.stop()
        disk.close()
