"""Builds the environment of an engine, as its recipe says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portico_server.engines.environments.built import Receipt
from portico_server.engines.environments.recipe import Recipe
from portico_server.environments import build as environments
from portico_server.environments.build import Packages
from portico_server.environments.uv import Report, silent, step
from portico_server.interpreter import run_isolated

FOLDER = "UV_FIND_LINKS"
"""The variable by which uv is told of a folder with wheels. Whoever has one has PyTorch in it."""


async def build(recipe: Recipe, place: Path, report: Report, *, index: str = "") -> Receipt:
    """Build ``recipe`` in ``place``, in exchange for what is there. Raises `Unavailable` with uv's own words.

    What uv has fetched stays in its cache, so that a build that was cut off goes on from there.
    """
    made: list[Receipt] = []

    async def furnish(draft: Path) -> Mapping[str, Any]:
        python = await _version(draft)
        made.append(
            Receipt(recipe.name, recipe.version, python, recipe.packages, recipe.fingerprint, time.time())
        )
        return asdict(made[0])

    packages = Packages(
        name=recipe.name,
        what=f"The environment of the engine '{recipe.name}'",
        again=f"What was fetched is kept; 'portico engines install {recipe.name}' goes on from there.",
        python=recipe.python,
        install=(
            *("--requirement", str(recipe.lock), "--require-hashes", "--only-binary", ":all:"),
            *(("--torch-backend", recipe.torch) if recipe.torch and FOLDER not in os.environ else ()),
        ),
    )
    await environments.build(packages, place, report, furnish=furnish, index=index)
    return made[0]


async def _version(draft: Path) -> str:
    """Of the interpreter, as it says itself."""
    ask = run_isolated(
        "-c", "import sys; print(sys.version.split()[0])", python=environments.python_in(draft)
    )
    words = await step(ask, "check", silent, folder=draft)
    return words[-1] if words else ""
