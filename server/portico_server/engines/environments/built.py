"""An environment on disk: where it is, whether it is whole, and what its receipt says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from portico_server.core.errors import Unavailable
from portico_server.engines.environments.recipe import Recipe
from portico_server.environments.build import python_in, receipt_in

State: TypeAlias = Literal["absent", "ready", "outdated", "broken"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was built, and when (seconds since 1970)."""

    name: str
    version: str
    python: str
    packages: int
    fingerprint: str
    built_at: float


@dataclass(frozen=True, slots=True)
class Built:
    """What is in the place of an environment; ``problem`` says what is wrong with a broken one."""

    state: State
    receipt: Receipt | None = None
    problem: str = ""


def look(folder: Path, recipe: Recipe) -> Built:
    """What is in ``folder``. Reads the receipt and looks for the parts; runs nothing."""
    if not folder.exists():
        return Built("absent")
    try:
        receipt = Receipt(**(receipt_in(folder) or {}))
    except TypeError:
        return Built("broken", None, "its receipt is missing or cannot be read, so it was never finished")
    if not python_in(folder).exists():
        return Built("broken", receipt, "its Python is gone; perhaps the system's was upgraded")
    plain = recipe.distribution.replace("-", "_")
    if not any(folder.glob(f"lib/python*/site-packages/{plain}-*.dist-info/RECORD")):
        return Built("broken", receipt, f"the package {recipe.distribution} is not in it")
    return Built("ready" if receipt.fingerprint == recipe.fingerprint else "outdated", receipt)


def require(folder: Path, recipe: Recipe) -> Path:
    """The interpreter of a whole environment. Raises `Unavailable` with the command that makes it."""
    built = look(folder, recipe)
    if built.state in ("ready", "outdated"):
        return python_in(folder)
    if built.state == "absent":
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
