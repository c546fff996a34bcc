"""Which engines have an environment, what goes into it, on which machines, and what is on disk."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from portico_server.core.dataclass import dataclass

LOCKS = Path(__file__).parent / "locks"

PYTHON = "{}.{}".format(*min(sys.version_info[:2], (3, 12)))
"""The daemon's own, which is there, up to the last that the pinned packages are for."""

MAX_SHEBANG_BYTES = 512
"""Bytes of a script in which the path of its interpreter is found."""

CUDA_GB = 4.7
"""What PyTorch's build for NVIDIA GPUs takes beyond the one without, in gigabytes."""

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*) ?(?:==|@)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EnvironmentRecipe:
    """One environment: ``lock`` pins every package by hash, ``distribution`` is the engine's own.

    ``python`` is what uv is asked for, ``gigabytes`` what it takes on disk; ``unsuited`` says in a sentence
    why it cannot work on this machine, or nothing. ``torch``: the build of PyTorch that its own index has, such as
    ``cpu``; empty for the one on PyPI. ``ordinary``: the lock with PyPI's build instead, which takes ``larger``
    gigabytes more.
    """

    name: str
    distribution: str
    lock: Path
    python: str
    gigabytes: float
    unsuited: Callable[[], str]
    torch: str = ""
    ordinary: Path | None = None
    larger: float = 0.0

    @property
    def version(self) -> str:
        """Of the engine, as pinned; empty for a pin that is a file."""
        match = re.search(rf"^{re.escape(self.distribution)}==(\S+)", self._text(), re.MULTILINE)
        return match.group(1) if match else ""

    @property
    def packages(self) -> int:
        return len(_PIN.findall(self._text()))

    @property
    def pinned(self) -> frozenset[str]:
        """The names of its packages."""
        return frozenset(name.lower().replace("-", "_") for name in _PIN.findall(self._text()))

    @property
    def fingerprint(self) -> str:
        """Changes whenever what would be installed changes."""
        return hashlib.sha256(f"{self.python}\n{self._text()}".encode()).hexdigest()[:16]

    def _text(self) -> str:
        return self.lock.read_text(encoding="utf-8")


def _without_cuda() -> str:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "its pinned packages are for Linux on x86-64"
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists():
        return "its pinned packages need an NVIDIA GPU, and there is none here"
    return ""


def _anywhere() -> str:
    return "" if sys.platform in ("linux", "darwin") else "its pinned packages are for Linux and macOS"


def _torch(name: str, distribution: str, gigabytes: float) -> EnvironmentRecipe:
    """PyTorch and what stands on it: on a GPU with CUDA's gigabytes, elsewhere without."""
    small = sys.platform == "linux" and platform.machine() == "x86_64" and bool(_without_cuda())
    lock = LOCKS / f"{name}{'-cpu' if small else ''}.lock"
    size = gigabytes if small or sys.platform == "darwin" else gigabytes + CUDA_GB
    recipe = EnvironmentRecipe(name, distribution, lock, PYTHON, size, _anywhere)
    if not small:
        return recipe
    return replace(recipe, torch="cpu", ordinary=LOCKS / f"{name}.lock", larger=CUDA_GB)


RECIPES: Mapping[str, EnvironmentRecipe] = {
    recipe.name: recipe
    for recipe in (
        EnvironmentRecipe("vllm", "vllm", LOCKS / "vllm.lock", PYTHON, 10.0, _without_cuda),
        EnvironmentRecipe("lmdeploy", "lmdeploy", LOCKS / "lmdeploy.lock", PYTHON, 8.0, _without_cuda),
        _torch("transformers", "transformers", 1.5),
        # No engine: what models are trained with.
        _torch("finetune", "trl", 1.6),
    )
}
