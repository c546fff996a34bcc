"""Which engines have an environment, which packages they need, and on which machines they work."""

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
"""Python version to install: the daemon's own, but at most the newest that the pinned packages support."""

MAX_SHEBANG_BYTES = 512
"""Maximum number of bytes that are read from a script to find the path of its interpreter."""

CUDA_GB = 4.7
"""Additional size of PyTorch's build for NVIDIA GPUs, in gigabytes."""

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*) ?(?:==|@)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EnvironmentRecipe:
    """One environment: ``lock`` pins every package by hash; ``distribution`` is the engine's own package.

    ``python`` is the version that uv installs, and ``gigabytes`` is the size on disk. ``unsuited`` returns a sentence
    that says why the environment cannot work on this machine, or an empty string. ``torch`` names the build on
    PyTorch's own index, such as ``cpu``; empty means PyPI's build. ``ordinary`` is an alternative lock with PyPI's
    build, which is ``larger`` gigabytes larger.
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
        """Return the pinned version of the engine, or an empty string if the pin is a file."""
        match = re.search(rf"^{re.escape(self.distribution)}==(\S+)", self._text(), re.MULTILINE)
        return match.group(1) if match else ""

    @property
    def packages(self) -> int:
        return len(_PIN.findall(self._text()))

    @property
    def pinned(self) -> frozenset[str]:
        """Return the names of the pinned packages."""
        return frozenset(name.lower().replace("-", "_") for name in _PIN.findall(self._text()))

    @property
    def fingerprint(self) -> str:
        """Return a fingerprint that changes whenever the installed packages would change."""
        return hashlib.sha256(f"{self.python}\n{self._text()}".encode()).hexdigest()[:16]

    def _text(self) -> str:
        return self.lock.read_text(encoding="utf-8")


def _without_cuda() -> str:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "its pinned packages support only Linux on x86-64"
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists():
        return "its pinned packages need an NVIDIA GPU, and this machine has none"
    return ""


def _anywhere() -> str:
    return "" if sys.platform in ("linux", "darwin") else "its pinned packages support only Linux and macOS"


def _torch(name: str, distribution: str, gigabytes: float) -> EnvironmentRecipe:
    """Return a recipe for packages based on PyTorch. Without an NVIDIA GPU, it uses the smaller build without CUDA."""
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
        # Not an engine: the packages that train models.
        _torch("finetune", "trl", 1.6),
    )
}
