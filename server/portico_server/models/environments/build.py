"""Builds the environment of an engine by its recipe."""

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
    """Build ``recipe`` in ``place``, in exchange for what is there. Raises `Unavailable` with uv's own words.

    PyTorch comes from where the user takes packages from, if that was set up and has it, else from its own index, else,
    where ``large``, in its ordinary build with CUDA's gigabytes. What uv has fetched stays in its cache, so that a
    build that was cut off continues from there.
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
        again=f"What was fetched is kept; 'portico engines install {recipe.name}' continues from there.",
        python=recipe.python,
        install=ways[0][1],
        instead=ways[1:],
    )
    await environments.build(packages, place, report, furnish=furnish, index=index)
    return receipts[0]


def ways_of(
    recipe: EnvironmentRecipe, *, is_own: bool, large: bool
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """uv's arguments in the order in which they are tried, each with what is told of it."""
    locked_arguments = ("--requirement", str(recipe.lock), "--require-hashes", "--only-binary", ":all:")
    if not recipe.torch:
        return (("", locked_arguments),)
    ways: list[tuple[str, tuple[str, ...]]] = [
        ("PyTorch's own index is asked", (*locked_arguments, "--torch-backend", recipe.torch))
    ]
    if is_own:
        ways.insert(0, ("Your own package indexes are asked", locked_arguments))
    if large and recipe.ordinary is not None:
        words = f"The ordinary build of PyTorch is taken, {recipe.larger:g} GB more, as the small one is out of reach"
        ordinary = ("--requirement", str(recipe.ordinary), "--require-hashes", "--only-binary", ":all:")
        ways.append((words, ordinary))
    return tuple(ways)


async def _is_set_up(place: Path) -> bool:
    """Whether the user's uv or pip was told where packages come from."""
    folder = next(above for above in place.absolute().parents if above.is_dir())  # noqa: ASYNC240  # quick
    return await own_sources(folder) is not None


async def _version(draft: Path) -> str:
    """Of the interpreter, as it says itself."""
    ask = run_isolated(
        "-c", "import sys; print(sys.version.split()[0])", python=environments.python_in(draft)
    )
    words = await run_step(ask, "check", silent, folder=draft)
    return words[-1] if words else ""
