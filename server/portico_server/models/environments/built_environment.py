"""An environment on disk: its location, its state, and its receipt."""

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
    """A record of what was built, and when (in seconds since 1970)."""

    name: str
    version: str
    python: str
    packages: int
    fingerprint: str
    built_at: float


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """The state of an environment. ``problem`` says what is wrong if the environment is broken."""

    state: State
    receipt: EnvironmentReceipt | None = None
    problem: str = ""


def inspect_environment(folder: Path, recipe: EnvironmentRecipe) -> BuiltEnvironment:
    """Return the state of ``folder``. Reads the receipt and checks that the necessary files exist; runs nothing."""
    if not folder.exists():
        return BuiltEnvironment("absent")
    try:
        receipt = EnvironmentReceipt(**(receipt_in(folder) or {}))
    except TypeError:
        return BuiltEnvironment(
            "broken", None, "its receipt is missing or unreadable, so the build never finished"
        )
    if not python_in(folder).exists():
        return BuiltEnvironment(
            "broken", receipt, "its Python is missing; perhaps the system's Python was upgraded"
        )
    plain = recipe.distribution.replace("-", "_")
    if not any(folder.glob(f"lib/python*/site-packages/{plain}-*.dist-info/RECORD")):
        return BuiltEnvironment("broken", receipt, f"its package {recipe.distribution} is missing")
    return BuiltEnvironment("ready" if receipt.fingerprint == recipe.fingerprint else "outdated", receipt)


def find_interpreter(distribution: str) -> Path | None:
    """Return the interpreter of the user's own installation of ``distribution``, or ``None`` if there is none.

    The path is in the first line of the script that the installation puts on the PATH.
    """
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
    """Return the interpreter of a complete environment or, without an environment, that of the user's own
    installation.

    Raise `Unavailable` with the command that builds the environment.
    """
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
                f"The engine '{recipe.name}' is not installed, and cannot be installed on this machine: "
                f"{reason}. If you have {recipe.distribution} in a separate environment, such as a build for "
                "the CPU, name its interpreter: portico models set NAME --python /path/to/python. Or run it "
                "on another machine and add its models as http://HOST/v1#MODEL.",
                code="engine_unsuited",
            )
        raise Unavailable(
            f"The engine '{recipe.name}' is not installed (about {recipe.gigabytes:g} GB): run 'portico "
            f"engines install {recipe.name}', or set the model's parameter 'python' to the path of an "
            f"interpreter that has {recipe.distribution}.",
            code="engine_not_installed",
        )
    raise Unavailable(
        f"The environment of the engine '{recipe.name}' is broken: {environment.problem}. Run "
        f"'portico engines install {recipe.name} --rebuild'.",
        code="engine_broken",
    )
