"""The environments of the engine `transformers` and of training, and tiny models, built once and shared."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from tests.daemon import ROOT

from portico_server.core.errors import Unavailable
from portico_server.engines.environments.build import FOLDER, build
from portico_server.engines.environments.built import look, python_in
from portico_server.engines.environments.recipe import RECIPES

ENVIRONMENTS = Path(os.environ.get("PORTICO_TEST_ENVIRONMENTS", ROOT / ".portico-test" / "environments"))
"""Packages that tests install once and share."""

MAKE = Path(__file__).with_name("make_models.py")

PATIENCE = 110
"""Seconds that building may take; what was fetched by then is kept for the next time."""


async def _quiet(_stage: str, _words: str) -> None:
    """Progress that nobody looks at."""


@cache
def interpreter(name: str = "transformers") -> str:
    """A Python that has what `name` needs; skips where it cannot be had without gigabytes."""
    variable = f"PORTICO_TEST_{name.upper()}"
    given = os.environ.get(variable)
    if given:
        return given
    recipe = RECIPES[name]
    place = ENVIRONMENTS / f"{name}-{recipe.fingerprint}"
    if look(place, recipe).state != "ready":
        if sys.platform == "linux" and not recipe.torch:
            pytest.skip(f"PyTorch would bring gigabytes of CUDA: {variable} can name a Python that has it")
        _take_wheels_from_pip()
        try:
            # A fixture may ask in the middle of a loop, which one cannot run another in.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, asyncio.wait_for(build(recipe, place, _quiet), PATIENCE)).result()
        except (Unavailable, TimeoutError) as error:
            pytest.skip(f"the environment of {name} cannot be built here: {error}"[:400])
    return str(python_in(place))


def _take_wheels_from_pip() -> None:
    """Tell uv of a folder that pip is told of."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    found = os.environ.get("PIP_FIND_LINKS") or (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    )
    if found and FOLDER not in os.environ:
        os.environ[FOLDER] = found


@cache
def models() -> Path:
    """A folder with tiny models of random weights: see ``make_models.py``."""
    python = interpreter()
    digest = hashlib.sha256(MAKE.read_bytes() + RECIPES["transformers"].fingerprint.encode()).hexdigest()[:16]
    place = ENVIRONMENTS / f"tiny-models-{digest}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=ENVIRONMENTS) as draft:
            made = Path(draft) / "models"
            made.mkdir()
            subprocess.run([python, "-W", "ignore", str(MAKE), str(made)], check=True, capture_output=True)
            if not place.exists():
                made.rename(place)
    return place


def unpacked() -> Path:
    """A folder for models that were unpacked once."""
    place = ENVIRONMENTS / "unpacked"
    place.mkdir(parents=True, exist_ok=True)
    return place
