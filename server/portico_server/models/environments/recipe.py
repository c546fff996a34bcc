"""Which engines have an environment, what goes into it, on which machines, and what is on disk."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.environments.build import python_in, receipt_in

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
        found = re.search(rf"^{re.escape(self.distribution)}==(\S+)", self._text(), re.MULTILINE)
        return found.group(1) if found else ""

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


# An environment on disk: where it is, whether it is whole, and what its receipt says.


State: TypeAlias = Literal["absent", "ready", "outdated", "broken"]


@dataclass(frozen=True, slots=True)
class EnvironmentReceipt:
    """What was built, and when (seconds since 1970)."""

    name: str
    version: str
    python: str
    packages: int
    fingerprint: str
    built_at: float


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """What is in the place of an environment; ``problem`` says what is wrong with a broken one."""

    state: State
    receipt: EnvironmentReceipt | None = None
    problem: str = ""


def inspect_environment(folder: Path, recipe: EnvironmentRecipe) -> BuiltEnvironment:
    """What is in ``folder``. Reads the receipt and looks for the parts; runs nothing."""
    if not folder.exists():
        return BuiltEnvironment("absent")
    try:
        receipt = EnvironmentReceipt(**(receipt_in(folder) or {}))
    except TypeError:
        return BuiltEnvironment(
            "broken", None, "its receipt is missing or cannot be read, so it was never finished"
        )
    if not python_in(folder).exists():
        return BuiltEnvironment("broken", receipt, "its Python is gone; perhaps the system's was upgraded")
    plain = recipe.distribution.replace("-", "_")
    if not any(folder.glob(f"lib/python*/site-packages/{plain}-*.dist-info/RECORD")):
        return BuiltEnvironment("broken", receipt, f"the package {recipe.distribution} is not in it")
    return BuiltEnvironment("ready" if receipt.fingerprint == recipe.fingerprint else "outdated", receipt)


def find_interpreter(distribution: str) -> Path | None:
    """The interpreter of a program of this name that the user has installed: the one that its script names."""
    script = shutil.which(distribution)
    if script is None:
        return None
    try:
        with Path(script).open("rb") as file:
            first = file.readline(MAX_SHEBANG_BYTES)
    except OSError:
        return None
    path = Path(first[2:].strip().decode("utf-8", "replace")) if first.startswith(b"#!/") else None
    return path if path is not None and path.name.startswith("python") and path.is_file() else None


def require_built(folder: Path, recipe: EnvironmentRecipe) -> Path:
    """The interpreter of a whole environment, or of the user's own. Raises `Unavailable` with the command that makes
    it."""
    built = inspect_environment(folder, recipe)
    if built.state in ("ready", "outdated"):
        return python_in(folder)
    if built.state == "absent":
        found = find_interpreter(recipe.distribution)
        if found is not None:
            return found
        reason = recipe.unsuited()
        if reason:
            raise Unavailable(
                f"The engine '{recipe.name}' is not installed, and cannot be installed here: {reason}. If you have "
                f"{recipe.distribution} in an environment of your own, such as a build for the CPU, name its "
                "interpreter: portico models set NAME --python /path/to/python. Or run it on another machine and add "
                "its models as http://HOST/v1#MODEL.",
                code="engine_unsuited",
            )
        raise Unavailable(
            f"The engine '{recipe.name}' is not installed (about {recipe.gigabytes:g} GB): run "
            f"'portico engines install {recipe.name}', or give the model the parameter 'python' with the path of "
            f"an interpreter that has {recipe.distribution}.",
            code="engine_not_installed",
        )
    raise Unavailable(
        f"The environment of the engine '{recipe.name}' is broken: {built.problem}. Run "
        f"'portico engines install {recipe.name} --rebuild'.",
        code="engine_broken",
    )
