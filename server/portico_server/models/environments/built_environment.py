"""An environment on disk: where it is, whether it is whole, and what its receipt says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.environments.build import python_in, receipt_in
from portico_server.models.environments.recipe import MAX_SHEBANG_BYTES, EnvironmentRecipe

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
    environment = inspect_environment(folder, recipe)
    if environment.state in ("ready", "outdated"):
        return python_in(folder)
    if environment.state == "absent":
        path = find_interpreter(recipe.distribution)
        if path is not None:
            return path
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
        f"The environment of the engine '{recipe.name}' is broken: {environment.problem}. Run "
        f"'portico engines install {recipe.name} --rebuild'.",
        code="engine_broken",
    )
