"""`portico cookbook`: lists the recipes included with Portico, and copies a recipe to a new folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson
from portico.errors import InvalidRequest, NotFound
from portico.spelling import nearest

app = typer.Typer(no_args_is_help=True, epilog="Example: portico cookbook start chat-over-a-folder")

_IN_WHEEL = Path(__file__).parents[1] / "cookbook"
_IN_CHECKOUT = Path(__file__).parents[3] / "docs" / "cookbook"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A folder with a page (``README.md``), a program (``main.py``), ``portico.yaml``, and the data that the recipe
    needs.
    """

    name: str
    title: str
    summary: str
    folder: Path


def recipes() -> dict[str, Recipe]:
    """Return all recipes, keyed and sorted by name."""
    root = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT
    return {page.parent.name: _read(page) for page in sorted(root.glob("*/README.md"))}


def _read(page: Path) -> Recipe:
    title, _, remainder = page.read_text(encoding="utf-8").partition("\n")
    summary = remainder.strip().partition("\n\n")[0]
    return Recipe(page.parent.name, title.removeprefix("# "), " ".join(summary.split()), page.parent)


def _names(incomplete: str) -> list[str]:
    return [name for name in recipes() if name.startswith(incomplete)]


@app.callback()
def cookbook() -> None:
    """Recipes: list, start."""


@app.command("list", epilog="Example: portico cookbook list")
def show_all(as_json: AsJson = False) -> None:
    """List the recipes. No daemon is needed."""
    dict_values = recipes().values()
    if as_json:
        print_json({"data": [{"name": r.name, "title": r.title, "summary": r.summary} for r in dict_values]})
        return
    print_rows(("NAME", "TITLE"), ((r.name, r.title) for r in dict_values))


@app.command(epilog="Example: portico cookbook start chat-over-a-folder ./try")
def start(
    name: Annotated[str, typer.Argument(help="The name of the recipe.", autocompletion=_names)],
    folder: Annotated[
        Path | None,
        typer.Argument(help="A new or empty folder (default: the recipe's name, in the current folder)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a recipe into a new folder, and explain how to run it. No daemon is needed."""
    found_recipes = recipes()
    if name not in found_recipes:
        raise NotFound(
            f"The recipe '{name}' does not exist.{nearest(name, found_recipes)} List all recipes with 'portico "
            "cookbook list'.",
            code="recipe_not_found",
            param="name",
        )
    target = folder or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidRequest(
            f"{target} already exists and is not an empty folder. Choose another folder: portico cookbook "
            f"start {name} FOLDER",
            param="folder",
        )
    shutil.copytree(
        found_recipes[name].folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    if as_json:
        print_json({"name": name, "folder": str(target), "files": files})
        return
    typer.echo(f"{found_recipes[name].title}\n\n{target}: {', '.join(files)}\n")
    typer.echo(
        f"  cd {target}\n  portico up --file portico.yaml\n\nThen, in another terminal:\n\n  python main.py"
    )
