"""Builds an environment with uv: in a draft beside its place, then moved there whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from portico_server.core.errors import Unavailable
from portico_server.engines.environments.built import Receipt, python_in
from portico_server.engines.environments.recipe import Recipe

Report: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Told the stage (python, packages, check) and what goes on, in a few words."""

DRAFT = ".draft-"
"""How a folder begins that a build has not finished."""


async def build(recipe: Recipe, place: Path, report: Report, *, index: str = "") -> Receipt:
    """Build ``recipe`` in ``place``, in exchange for what is there. Raises `Unavailable` with uv's own words.

    What uv has fetched stays in its cache, so that a build that was cut off goes on from there.
    """
    await asyncio.to_thread(_sweep, place.parent, recipe.name)
    draft = Path(
        await asyncio.to_thread(
            tempfile.mkdtemp, dir=place.parent, prefix=f"{DRAFT}{recipe.name}-{os.getpid()}-"
        )
    )
    try:
        await report("python", f"Python {recipe.python}")
        await _uv(
            recipe,
            report,
            "python",
            *("venv", "--no-project", "--relocatable", "--allow-existing", "--python", recipe.python),
            str(draft),
        )
        python = python_in(draft)
        await _uv(
            recipe,
            report,
            "packages",
            *("pip", "install", "--python", str(python), "--requirement", str(recipe.lock)),
            *("--require-hashes", "--only-binary", ":all:"),
            *(("--default-index", index) if index else ()),
        )
        await report("check", "Looking at what was installed")
        await _uv(recipe, report, "check", "pip", "check", "--python", str(python))
        receipt = Receipt(
            recipe.name,
            recipe.version,
            await _version(python, recipe),
            recipe.packages,
            recipe.fingerprint,
            time.time(),
        )
        await asyncio.to_thread(_place, draft, place, receipt)
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
    return receipt


def _sweep(folder: Path, name: str) -> None:
    """Make the folder, without what a build left that was killed; another daemon's build is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{DRAFT}{name}-*"):
        owner = left.name.removeprefix(f"{DRAFT}{name}-").partition("-")[0]
        if not owner.isdecimal() or int(owner) == os.getpid() or not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _place(draft: Path, place: Path, receipt: Receipt) -> None:
    receipt.write(draft)
    draft.chmod(0o755)
    if place.exists():
        old = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{DRAFT}{receipt.name}-old-"))
        place.rename(old / "old")  # a process that runs from it keeps its open files
        draft.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(place)


async def findings(recipe: Recipe, place: Path) -> str:
    """What uv says is wrong with the packages in ``place``; empty if nothing."""

    async def silent(_stage: str, _words: str) -> None:
        """Nobody listens to a check."""

    try:
        await _uv(recipe, silent, "check", "pip", "check", "--python", str(python_in(place)))
    except Unavailable as error:
        return error.message
    return ""


async def _version(python: Path, recipe: Recipe) -> str:
    words = await _run(
        recipe, None, "check", [str(python), "-I", "-c", "import sys; print(sys.version.split()[0])"]
    )
    return words[-1] if words else ""


async def _uv(recipe: Recipe, report: Report, stage: str, *arguments: str) -> None:
    from uv import find_uv_bin  # only who builds an environment needs it

    try:
        uv = find_uv_bin()
    except FileNotFoundError as error:
        raise Unavailable(
            "Environments of engines are built by uv, which is not where its package says. Install it again: "
            f"'{sys.executable} -m pip install --force-reinstall uv'.",
            code="uv_missing",
        ) from error
    await _run(recipe, report, stage, [uv, "--no-config", *arguments])


async def _run(recipe: Recipe, report: Report | None, stage: str, command: Sequence[str]) -> list[str]:
    """Run one step to its end; its last words."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "VIRTUAL_ENV"))
    }
    ours.setdefault("UV_SYSTEM_CERTS", "1")  # trust what the system trusts, as pip does
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=ours,
        start_new_session=True,  # Ctrl-C is for the daemon, which then ends this
    )
    assert process.stdout is not None
    words: list[str] = []
    try:
        async for line in process.stdout:
            said = line.decode("utf-8", "replace").strip()
            if said:
                words = [*words[-19:], said]
                if report is not None:
                    await report(stage, said[:200])
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        reason = " ".join(words)[-800:] or f"exit status {code}"
        raise Unavailable(
            f"The environment of the engine '{recipe.name}' could not be built: {reason}. What was fetched is kept; "
            f"'portico engines install {recipe.name}' goes on from there.",
            code="environment_failed",
        )
    return words
