"""Builds the environment of an engine from its recipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portico_server.environments import build as environments
from portico_server.environments.build import PackageSet
from portico_server.environments.package_sources import own_sources
from portico_server.environments.uv import StepReport, run_step, silent
from portico_server.models.environments.built_environment import (
    EnvironmentReceipt,
)
from portico_server.models.environments.recipe import EnvironmentRecipe
from portico_server.subprocesses import run_isolated


async def build_environment(
    recipe: EnvironmentRecipe, place: Path, report: StepReport, *, index: str = "", large: bool = True
) -> EnvironmentReceipt:
    """Build ``recipe`` in ``place``, replacing its contents. Raise `Unavailable` with uv's own message.

    PyTorch comes from the first source that has it: the user's package indexes, if configured; PyTorch's own index;
    and, if ``large``, the ordinary build, which includes gigabytes of CUDA. Downloads stay in uv's cache, so that an
    interrupted build can continue.
    """
    receipts: list[EnvironmentReceipt] = []

    async def furnish(draft: Path) -> Mapping[str, Any]:
        python = await _version(draft)
        receipts.append(
            EnvironmentReceipt(
                recipe.name, recipe.version, python, recipe.packages, recipe.fingerprint, time.time()
            )
        )
        return asdict(receipts[0])

    ways = ways_of(recipe, is_own=bool(index) or await _is_set_up(place), large=large)
    packages = PackageSet(
        name=recipe.name,
        what=f"The environment of the engine '{recipe.name}'",
        again=f"Downloads are kept; 'portico engines install {recipe.name}' continues from them.",
        python=recipe.python,
        install=ways[0][1],
        instead=ways[1:],
    )
    await environments.build(packages, place, report, furnish=furnish, index=index)
    return receipts[0]


def ways_of(
    recipe: EnvironmentRecipe, *, is_own: bool, large: bool
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return uv's arguments in the order of attempts, each with its progress message."""
    locked_arguments = ("--requirement", str(recipe.lock), "--require-hashes", "--only-binary", ":all:")
    if not recipe.torch:
        return (("", locked_arguments),)
    ways: list[tuple[str, tuple[str, ...]]] = [
        ("Trying PyTorch's own index", (*locked_arguments, "--torch-backend", recipe.torch))
    ]
    if is_own:
        ways.insert(0, ("Trying your own package indexes", locked_arguments))
    if large and recipe.ordinary is not None:
        words = (
            f"Using the ordinary build of PyTorch, {recipe.larger:g} GB larger, because the small build is "
            "not reachable"
        )
        ordinary = ("--requirement", str(recipe.ordinary), "--require-hashes", "--only-binary", ":all:")
        ways.append((words, ordinary))
    return tuple(ways)


async def _is_set_up(place: Path) -> bool:
    """Return whether package indexes are configured for the user's uv or pip."""
    folder = next(above for above in place.absolute().parents if above.is_dir())  # noqa: ASYNC240  # quick
    return await own_sources(folder) is not None


async def _version(draft: Path) -> str:
    """Return the version that the interpreter reports."""
    ask = run_isolated(
        "-c", "import sys; print(sys.version.split()[0])", python=environments.python_in(draft)
    )
    words = await run_step(ask, "check", silent, folder=draft)
    return words[-1] if words else ""
