"""Every recipe of the cookbook runs as its page describes: the program prints what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests import forked_python
from tests.daemon import ROOT, environment, running
from tests.server.features.gpu_engines.transformers.environment import interpreter

from portico.cli import root

FOLDER = ROOT / "docs" / "cookbook"
RECIPES = sorted(page.parent.name for page in FOLDER.glob("*/README.md"))
TRAINING = "search-that-learns"
"""The recipe that trains a model in the environments that tests share."""

MARKS = {
    TRAINING: (pytest.mark.slow, pytest.mark.timeout(900)),
}

RUN = [pytest.param(name, marks=MARKS.get(name, ())) for name in RECIPES]

LANGUAGES = ("README.md", "README.zh.md")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(name: str, page: str = "README.md") -> list[tuple[str, str]]:
    """Return the fenced blocks of a page, each with its language."""
    return _BLOCK.findall((FOLDER / name / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RUN)
def test_the_program_prints_what_its_page_shows(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    assert root.run(["cookbook", "start", name, str(folder)]) == 0
    if name == TRAINING:
        environments = tmp_path / "home" / "environments"
        environments.mkdir(parents=True)
        for kind in ("finetune", "transformers"):
            (environments / kind).symlink_to(Path(interpreter(kind)).parents[1])
    with running(tmp_path / "home", "--file", str(folder / "portico.yaml")) as daemon:
        daemon.settle()
        done = subprocess.run(
            [*forked_python.launcher(), "main.py"],
            cwd=folder,
            env=environment(
                PORTICO_URL=daemon.url,
                PORTICO_HOME=str(daemon.home),
                PYTHONDONTWRITEBYTECODE="1",
                PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=800 if name == TRAINING else 120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [code for language, code in blocks(name) if language == "text"] == [done.stdout]


@pytest.mark.parametrize("name", RECIPES)
def test_a_page_says_how_to_begin_in_both_languages(name: str) -> None:
    begin = f"portico cookbook start {name}\ncd {name}\nportico up --file portico.yaml\n"
    for page in LANGUAGES:
        code_blocks = blocks(name, page)
        assert code_blocks[:2] == [("bash", begin), ("bash", "python main.py\n")]
        assert code_blocks[2][0] == "text"
    assert blocks(name, "README.zh.md") == blocks(name)


def test_the_list_of_recipes_names_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    for page in LANGUAGES:
        recipe_links = re.findall(
            rf"\]\(([\w-]+)/{re.escape(page)}\)", (FOLDER / page).read_text(encoding="utf-8")
        )
        assert sorted(recipe_links) == RECIPES
    assert root.run(["cookbook", "list", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["data"]
    assert [recipe["name"] for recipe in recipes] == RECIPES
    assert all(recipe["title"] and recipe["summary"] for recipe in recipes)


def test_an_unknown_recipe_is_refused_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["cookbook", "start", "chat-over-a-foldr"]) == 1
    assert "Did you mean 'chat-over-a-folder'" in capsys.readouterr().err


def test_starting_a_recipe_in_a_non_empty_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert root.run(["cookbook", "start", RECIPES[0], str(tmp_path)]) == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
