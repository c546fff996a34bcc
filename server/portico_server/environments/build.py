"""Builds an environment: as a draft next to its final folder, completed with a receipt, then moved into place as a
whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.environments.package_sources import own_sources
from portico_server.environments.uv import StepFailedError, StepReport, find_uv, run_step, silent

DRAFT_PREFIX: Final = ".draft-"
"""Prefix of the folder of an unfinished build."""

RECEIPT_FILE: Final = "portico.json"
"""The file that a build writes last: a folder without it is not a complete environment."""

Furnish: TypeAlias = Callable[[Path], Awaitable[Mapping[str, Any]]]
"""A function that performs the last steps in the draft and returns the receipt. May raise `StepFailedError`."""


@dataclass(frozen=True, slots=True)
class PackageSet:
    """The contents of an environment, and its description in errors.

    ``name`` is the prefix of its drafts; the builder must run only one build per name at a time. ``what`` is the
    subject of an error's sentence, such as "The environment of the engine 'vllm'"; ``again`` says what to do after a
    failure. ``python`` is the version requested from uv; ``install`` contains uv's arguments: requirements and
    options. ``instead`` lists further arguments to try in order after a failure, each with a message that reports the
    retry.
    """

    name: str
    what: str
    again: str
    python: str
    install: tuple[str, ...]
    instead: tuple[tuple[str, tuple[str, ...]], ...] = ()


async def build(
    packages: PackageSet,
    place: Path,
    report: StepReport,
    *,
    furnish: Furnish,
    index: str = "",
    replace: bool = True,
) -> None:
    """Build ``packages`` in ``place``. If this fails, raise `Unavailable` with uv's own message, and change nothing.

    Packages come from ``index`` or, if it is empty, from the sources configured for the user's uv or pip.

    An existing environment is replaced. If ``replace`` is false and another daemon has completed the environment in
    the meantime, that environment is kept. uv's downloads stay in its cache, so that an interrupted build continues
    from them. Cancellation stops uv.
    """
    uv, place = find_uv(), place.absolute()  # noqa: ASYNC240  # asks for the working folder alone
    async with _draft(packages, place) as draft:
        python = str(python_in(draft))
        try:
            await report("python", f"Python {packages.python}")
            venv = (
                "venv",
                "--quiet",
                "--no-project",
                "--relocatable",
                "--allow-existing",
                "--python",
                packages.python,
            )
            await run_step([uv, *venv, str(draft)], "python", report, folder=draft)
            source = ("--default-index", index) if index else (await own_sources(draft) or ())
            await _install([uv, "pip", "install", "--python", python, *source], packages, draft, report)
            await report("check", "Checking the installed packages")
            await run_step([uv, "pip", "check", "--python", python], "check", report, folder=draft)
            receipt = await furnish(draft)
        except StepFailedError as error:
            raise Unavailable(
                f"{packages.what} could not be built: {error.message}. {packages.again}",
                code="environment_failed",
            ) from error
        await pools.MODELS.run(_place, draft, place, packages.name, receipt, replace)


async def _install(command: list[str], packages: PackageSet, draft: Path, report: StepReport) -> None:
    """Install with the first of the arguments that succeeds. Raises `StepFailedError` with the messages of all
    failures.
    """
    failures: list[str] = []
    for words, arguments in (("", packages.install), *packages.instead):
        if words:
            await report("packages", words)
        # Use the best version of all indexes, as pip does, instead of the first index only: safe if the
        # digests are pinned.
        strategy_options = (
            ("--index-strategy", "unsafe-best-match") if "--require-hashes" in arguments else ()
        )
        try:
            await run_step([*command, *strategy_options, *arguments], "packages", report, folder=draft)
            return
        except StepFailedError as error:
            failures.append(f"{words}: {error.message}" if words else error.message)
    raise StepFailedError(" ".join(failures), code="environment_failed")


@contextlib.asynccontextmanager
async def _draft(packages: PackageSet, place: Path) -> AsyncIterator[Path]:
    """Yield a folder for a build; it is deleted afterwards unless it was moved."""
    try:
        await pools.MODELS.run(_sweep, place.parent, packages.name)
        draft = Path(
            await pools.MODELS.run(tempfile.mkdtemp, dir=place.parent, prefix=_prefix(packages.name))
        )
    except OSError as error:
        raise Unavailable(
            f"{packages.what} cannot be created in {place.parent}: {error.strerror or error}.",
            code="environment_failed",
        ) from error
    try:
        yield draft
    finally:
        await pools.MODELS.run(shutil.rmtree, draft, ignore_errors=True)


async def findings(place: Path) -> str:
    """Return the problems that uv reports for the packages in ``place``; empty if it reports none."""
    check = [find_uv(), "pip", "check", "--python", str(python_in(place))]
    try:
        await run_step(check, "check", silent, folder=place)
    except StepFailedError as error:
        return error.message
    return ""


def python_in(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def receipt_in(place: Path) -> Mapping[str, Any] | None:
    """Return the receipt of an environment, or ``None`` if the environment is not complete."""
    try:
        receipt = json.loads((place / RECEIPT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return receipt if isinstance(receipt, dict) else None


def is_whole(place: Path) -> bool:
    """Return whether ``place`` contains a complete environment, including its interpreter."""
    return receipt_in(place) is not None and python_in(place).exists()


def remove_environment(place: Path, name: str) -> None:
    """Delete the environment in ``place``. It is renamed first, so that a half-deleted environment never seems
    complete.
    """
    path = Path(tempfile.mkdtemp(dir=place.parent, prefix=_prefix(name)))
    with contextlib.suppress(FileNotFoundError):
        place.rename(path / "old")  # the open files of a process that runs from it stay usable
    shutil.rmtree(path, ignore_errors=True)


def _prefix(name: str) -> str:
    return f"{DRAFT_PREFIX}{name}-{os.getpid()}-"


def _sweep(folder: Path, name: str) -> None:
    """Create the folder, and delete the drafts of killed builds; builds of other running daemons are not touched.

    A draft with this process's id was left by an earlier process with the same id, because this daemon runs only one
    build per name at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{DRAFT_PREFIX}{name}-*"):
        owner = path.name.removeprefix(f"{DRAFT_PREFIX}{name}-").partition("-")[0]
        if owner.isdecimal() and (int(owner) == os.getpid() or not _alive(int(owner))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _place(draft: Path, place: Path, name: str, receipt: Mapping[str, Any], replace: bool) -> None:
    (draft / RECEIPT_FILE).write_text(json.dumps(receipt), encoding="utf-8")
    draft.chmod(0o755)
    if not replace and is_whole(place):
        return
    if place.exists():
        remove_environment(place, name)
    draft.rename(place)
