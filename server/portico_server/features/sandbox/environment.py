"""The environment of notebooks: separate Python packages, pinned by hash, which uv installs on first use."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.environments.build import PackageSet, build, is_whole, python_in
from portico_server.environments.uv import run_step
from portico_server.features.sandbox.protocol import Report
from portico_server.subprocesses import base, run_isolated

LOCK: Final = Path(__file__).with_name("notebook.lock")


class Environment:
    """A virtual environment in a folder named after its contents. The folder is either complete or does not exist."""

    def __init__(self, folder: Path, *, index: str = "", offline: bool = False) -> None:
        self._folder = folder.absolute()
        self._index = index
        self._offline = offline
        self._building = asyncio.Lock()

    @property
    def path(self) -> Path:
        """Return the folder of the environment, even if it does not exist yet."""
        return self._folder / f"notebook-{_fingerprint()}"

    @property
    def ready(self) -> bool:
        return is_whole(self.path)

    async def ensure(self, report: Report) -> Path:
        """Return the folder of the environment, and build it first if it does not exist.

        Raise `Unavailable` with what to do.
        """
        async with self._building:
            if not await pools.FILES.run(lambda: self.ready):
                await self._build(report)
        return self.path

    async def _build(self, report: Report) -> None:
        if self._offline:
            raise Unavailable(
                f"The packages of notebooks are not in {self.path}, and the setting 'offline' forbids "
                "fetching them. Call the tool once with network access, or copy that folder from a machine "
                "of the same kind.",
                code="environment_missing",
            )

        async def on_step(_stage: str, words: str) -> None:
            await report(words)

        async def furnish(draft: Path) -> Mapping[str, Any]:
            await report("Listing fonts")
            fonts = {"MPLCONFIGDIR": str(draft / "matplotlib")}
            ask = run_isolated("-c", "import matplotlib.font_manager", python=python_in(draft))
            await run_step(ask, "fonts", on_step, folder=draft, env=fonts)
            await pools.FILES.run(_open_to_kernels, draft)
            return {"python": sys.version.split()[0], "lock": _fingerprint()}

        await report("Building an environment for notebooks, once")
        await build(_packages(), self.path, on_step, furnish=furnish, index=self._index, replace=False)
        await pools.FILES.run(_drop_others, self.path)


def _packages() -> PackageSet:
    lock = ("--requirement", str(LOCK), "--require-hashes", "--only-binary", ":all:", "--compile-bytecode")
    return PackageSet(
        name="notebook",
        what="The environment of notebooks",
        again="The next call tries again.",
        python=base(),
        install=lock,
    )


def _open_to_kernels(draft: Path) -> None:
    """Make the environment readable for the user ids of kernels."""
    if os.geteuid() == 0:
        for folder, _folders, files in os.walk(draft):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode):
                    path.chmod(stat.S_IMODE(mode) | (0o555 if mode & 0o100 else 0o444))


def _drop_others(place: Path) -> None:
    """Delete environments with other packages or for another version of Python."""
    for path in place.parent.glob("notebook-*"):
        if path != place:
            shutil.rmtree(path, ignore_errors=True)


def _fingerprint() -> str:
    """Return a fingerprint of the pinned packages and the Python version."""
    base = f"{sys.base_prefix} {sys.version}".encode()
    return hashlib.sha256(LOCK.read_bytes() + base).hexdigest()[:16]
