"""The environment of notebooks: Python packages of their own, built by uv on first use, pinned by hash."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from portico_server.core.errors import Unavailable

LOCK: Final = Path(__file__).with_name("notebook.lock")

Report: TypeAlias = Callable[[str], Awaitable[None]]
"""Told what is going on, in a few words."""

_RECEIPT: Final = "portico.json"
"""The last file that is written: a folder without it is not an environment."""


class Environment:
    """A virtual environment in a folder whose name says what is in it: it is whole there or not there."""

    def __init__(self, folder: Path, *, index: str = "", offline: bool = False) -> None:
        self._folder = folder.absolute()
        self._index = index
        self._offline = offline
        self._building = asyncio.Lock()

    @property
    def path(self) -> Path:
        """Where it is or will be."""
        return self._folder / f"notebook-{_fingerprint()}"

    @property
    def ready(self) -> bool:
        return (self.path / _RECEIPT).is_file()

    async def ensure(self, report: Report) -> Path:
        """Its path, built first if it is not there. Raises `Unavailable` with what to do."""
        async with self._building:
            if not await asyncio.to_thread(lambda: self.ready):
                await self._build(report)
        return self.path

    async def _build(self, report: Report) -> None:
        if self._offline:
            raise Unavailable(
                f"The packages of notebooks are not in {self.path} and 'offline' forbids to fetch them. Call the tool "
                "once with a network, or copy that folder from a machine of the same kind.",
                code="environment_missing",
            )
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            draft = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder, prefix=".notebook-"))
        except OSError as error:
            raise Unavailable(
                f"No environment can be made in {self._folder}: {error.strerror}.", code="environment_failed"
            ) from error
        try:
            await report("Making an environment for notebooks, once")
            await self._fill(draft, report)
            await asyncio.to_thread(_finish, draft, self.path)
        finally:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    async def _fill(self, draft: Path, report: Report) -> None:
        uv = _uv()
        base = str(getattr(sys, "_base_executable", "") or sys.executable)
        await _run(
            [uv, "venv", "--quiet", "--no-project", "--allow-existing", "--python", base, str(draft)], report
        )
        python = str(draft / "bin" / "python")
        await _run(
            [
                *(uv, "pip", "install", "--python", python, "--requirement", str(LOCK)),
                *("--require-hashes", "--only-binary", ":all:", "--compile-bytecode"),
                *(("--default-index", self._index) if self._index else ()),
            ],
            report,
        )
        await report("Listing fonts")
        fonts = {"MPLCONFIGDIR": str(draft / "matplotlib")}
        await _run([python, "-I", "-c", "import matplotlib.font_manager"], report, fonts)


def _uv() -> str:
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise Unavailable(
            "The packages of notebooks need uv, which is not where its package says. Install it again: "
            f"'{sys.executable} -m pip install --force-reinstall uv'.",
            code="uv_missing",
        ) from error


async def _run(command: Sequence[str], report: Report, more: dict[str, str] | None = None) -> None:
    """Run one step to its end, its words passed on. Raises `Unavailable` with the last of them."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PORTICO_")}
    ours.setdefault("UV_SYSTEM_CERTS", "1")  # trust what the system trusts, as pip does
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**ours, **(more or {})},
        start_new_session=True,  # Ctrl-C is for the daemon, which then ends this
    )
    assert process.stderr is not None
    words: list[str] = []
    try:
        async for line in process.stderr:
            said = line.decode("utf-8", "replace").strip()
            if said:
                words = [*words[-19:], said]
                if not said.startswith("+"):
                    await report(said[:200])
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        reason = " ".join(words)[-600:] or f"exit status {code}"
        raise Unavailable(
            f"The packages of notebooks could not be installed: {reason}. The next call tries again.",
            code="environment_failed",
        )


def _finish(draft: Path, final: Path) -> None:
    """Make it readable for the user ids that kernels take, sign it, put it in its place, and drop older ones."""
    draft.chmod(0o755)
    if os.geteuid() == 0:
        for folder, _folders, files in os.walk(draft):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode):
                    path.chmod(stat.S_IMODE(mode) | (0o555 if mode & 0o100 else 0o444))
    receipt = {"python": sys.version.split()[0], "lock": _fingerprint()}
    (draft / _RECEIPT).write_text(json.dumps(receipt), encoding="utf-8")
    if (final / _RECEIPT).is_file():
        return  # another daemon was quicker
    shutil.rmtree(final, ignore_errors=True)
    draft.replace(final)
    for other in final.parent.glob("notebook-*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def _fingerprint() -> str:
    """What the environment is made of: the pinned packages, and this Python."""
    base = f"{sys.base_prefix} {sys.version}".encode()
    return hashlib.sha256(LOCK.read_bytes() + base).hexdigest()[:16]
