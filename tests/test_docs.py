"""The documentation is tested: every block of a page is executed or parsed, in order, against a real daemon.

A fenced block names its language. ``bash`` and ``python`` blocks run against a daemon over the pages of the docs
folder, ``json`` and ``yaml`` are parsed, ``text`` and ``mermaid`` are not checked. The comment ``<!-- skip: reason
-->`` above a block skips it; pytest lists it with its reason.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import portico
from portico import Client, PorticoError, agent, flow, simulation
from portico_server import config
from portico_server.settings import Settings
from tests import daemon as daemons
from tests import forked_python
from tests.daemon import ROOT, Daemon

PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

RUN = {"bash", "python"}
PARSED = {"json", "yaml"}
FOR_PEOPLE = {"text", "mermaid"}

ADDRESS = "http://127.0.0.1:8642"
"""The daemon's address in the documentation; the daemon under test uses a free port."""

MODELS = """
models:
  - {name: echo, source: "fake://", aliases: [default]}
"""

INDEXED = (
    "architecture.md",
    "durability.md",
    "interfaces.md",
    "security.md",
    "tutorial.md",
    "tutorial.zh.md",
)
"""The pages in the daemon's store ``docs``: those whose names or contents the blocks expect there."""

_FENCE = re.compile(
    r"(?:<!-- skip: (?P<skip>[^>]+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    skip: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}:{self.language}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    block_list = []
    for match in _FENCE.finditer(text):
        indent = match["indent"]
        code = re.sub(rf"^{indent}", "", match["code"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("language")) + 1
        block_list.append(Block(page, line, match["language"].strip(), code, match["skip"]))
    return block_list


COOKBOOK = ROOT / "docs" / "cookbook"
"""Pages that tests/cookbook runs, each with its own daemon."""

BLOCKS = [block for page in PAGES if not page.is_relative_to(COOKBOOK) for block in blocks(page)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon that has indexed the pages `INDEXED`, with the scripted model as ``default``."""
    home = tmp_path_factory.mktemp("house")
    docs = home / "docs"
    docs.mkdir()
    for name in INDEXED:
        shutil.copy(ROOT / "docs" / name, docs)
    configuration = home / "models.yaml"
    configuration.write_text(MODELS, encoding="utf-8")
    arguments = ("--file", str(configuration), "--docs", str(docs))
    with daemons.running(home / "data", *arguments) as running:
        with Client(running.url) as client:
            while unfinished := [run for run in client.runs.list() if not run.ended]:
                for run in unfinished:
                    for _event in client.runs.events(run.id):
                        pass
        yield running


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the blocks of all pages run; like a clone, it has a ``.venv``."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="module")
def turned() -> list[Path]:
    """Return a list with only the page whose blocks run now."""
    return []


def turn_to(page: Path, turned: list[Path], served: Daemon) -> None:
    """Start a page as a reader would: remove everything that the previous pages created."""
    if turned == [page]:
        return
    turned[:] = [page]
    with Client(served.url) as client:
        for canary in client.canaries.list():
            if canary.status == "running":
                client.canaries.rollback(canary.alias)
        for app in client.apps.list():
            if app.kind != "store":
                client.apps.remove(app.name)
        for store in client.stores.list():
            if store.name != "docs":
                client.stores.remove(store.name)
        for group in client.stores.groups("docs"):
            if group.parent:
                client.stores.remove_group("docs", group.name)


def execute(block: Block, served: Daemon, desk: Path) -> None:
    """Run a block in its own process. ``python`` and ``portico`` are forked, ``.venv/bin/portico`` is installed."""
    forked = forked_python.launcher()
    code = block.code.replace(ADDRESS, served.url)
    command = ["bash", "-euo", "pipefail", "-c", code]
    if block.language == "python":
        # Python treats it like a notebook cell, as a file, so that its definitions have source code.
        cell = desk / "cell.py"
        cell.write_text(code, encoding="utf-8")
        command = [*forked, str(cell)]
    path = os.pathsep.join(
        (str(Path(forked[-1]).parent), str(Path(sys.executable).parent), os.environ["PATH"])
    )
    variables = daemons.environment(PATH=path, PORTICO_URL=served.url, PORTICO_HOME=str(served.home))
    done = subprocess.run(
        command,
        cwd=desk,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


ORIGINALS = {
    ROOT / "README.zh.md": ROOT / "README.md",
    ROOT / "docs" / "tutorial.zh.md": ROOT / "docs" / "tutorial.md",
}
"""Translated pages. A test below checks that their blocks match the originals, so only the originals run."""


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language in RUN and b.page not in ORIGINALS], ids=str
)
def test_each_documented_code_block_runs(block: Block, request: pytest.FixtureRequest) -> None:
    if block.skip is not None:
        pytest.skip(block.skip)
    server = request.getfixturevalue("served")
    turn_to(block.page, request.getfixturevalue("turned"), server)
    execute(block, server, request.getfixturevalue("desk"))


@pytest.mark.slow
def test_every_public_class_of_the_sdk_has_an_example_that_runs(served: Daemon, desk: Path) -> None:
    """All examples run in one process, one after another."""
    examples: dict[type, str] = {}
    for package in (portico, agent, flow, simulation):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) and (value is PorticoError or not issubclass(value, PorticoError)):
                text = inspect.getdoc(value) or ""
                examples[value] = inspect.cleandoc(f"\n{text.partition('Example::')[2]}")
    assert [kind for kind, example in examples.items() if not example] == []
    code = "\n\n".join(f"# {kind.__qualname__}\n{example}\n" for kind, example in examples.items())
    execute(Block(ROOT / "client", 1, "python", code, None), served, desk)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in PARSED], ids=str)
def test_a_block_is_well_formed(block: Block, tmp_path: Path) -> None:
    if block.language == "json":
        json.loads(block.code)
        return
    path = tmp_path / "portico.yaml"
    path.write_text(block.code, encoding="utf-8")
    names = re.findall(r"\$\{(\w+)", block.code)
    config.read(path, dict.fromkeys(names, "a value"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_documented_block_has_a_supported_language(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= RUN | PARSED | FOR_PEOPLE
    assert text.count("<!-- skip:") == sum(block.skip is not None for block in blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        place = "".join(target).partition("#")[0]
        if place and "://" not in place and not place.startswith("mailto:"):
            assert (page.parent / place).exists(), f"{page.name} links to {place}"


_WORDS = r"(?<=<<'TEXT'\n).*?(?=^TEXT$)|\"[^\"\n]*\"|'[^'\n]*'"
"""Pattern of a here-document or a quoted text."""

_HAN = re.compile(r"[\u4e00-\u9fff]")


def original_of(code: str) -> re.Pattern[str]:
    """Return a pattern for the original of a translated block: the same block, with any text in place of Chinese
    text.
    """
    parts = re.split(f"({_WORDS})", code, flags=re.DOTALL | re.MULTILINE)
    pattern = "".join(f"(?:{_WORDS})" if _HAN.search(part) else re.escape(part) for part in parts)
    return re.compile(pattern, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ORIGINALS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_translated_page_has_the_blocks_of_its_original(page: Path) -> None:
    translated, original = blocks(page), blocks(ORIGINALS[page])
    assert original
    assert [(b.language, b.skip) for b in translated] == [(b.language, b.skip) for b in original]
    for ours, theirs in zip(translated, original, strict=True):
        assert original_of(ours.code).fullmatch(theirs.code), f"{ours} is not {theirs}"


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the table under ``heading``, without its two header lines."""
    section = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_documented_settings_table_matches_the_settings_class() -> None:
    table_rows = []
    for item in fields(Settings):
        default = "" if item.default is MISSING or item.default in ("", Path()) else str(item.default)
        default_text = (
            f"`{default.lower() if isinstance(item.default, bool) else default}`" if default else "–"
        )
        choices = item.metadata["choices"]
        doc = item.metadata["doc"] + (f": {', '.join(choices)}" if choices else "")
        table_rows.append([f"`{item.name}`", f"`PORTICO_{item.name.upper()}`", default_text, doc])
    table = "\n".join(f"| {' | '.join(row)} |" for row in table_rows)
    assert rows(ROOT / "docs" / "configuration.md", "Settings") == table_rows, f"the table must be:\n{table}"


def test_every_dependency_is_listed_with_a_reason_and_a_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        *project["dependencies"],
        *(x for extra in project["optional-dependencies"].values() for x in extra),
    ]
    dependency_names = {Requirement(line).name.lower() for line in lines} - {"portico-ai"}
    page = ROOT / "docs" / "dependencies.md"
    cells_by_name: dict[str, list[str]] = {}
    for heading in (
        "SDK",
        "Command line",
        "Daemon",
        "PDF files",
        "Speech in Realtime sessions",
        "Vector index",
        "PostgreSQL",
        "Databases",
        "Traces",
        "Drawings",
        "Pictures and scanned pages",
        "Terminal UI",
        "Editors",
        "Development",
    ):
        for row in rows(page, heading):
            cells_by_name[row[0].strip("`").lower()] = row[1:]
    assert cells_by_name.keys() == dependency_names
    package = json.loads((ROOT / "page" / "package.json").read_text(encoding="utf-8"))
    for heading, table in (("The page", "dependencies"), ("Development of the page", "devDependencies")):
        bundled = {row[0].strip("`"): row[1:] for row in rows(page, heading)}
        assert bundled.keys() == package[table].keys()
        cells_by_name |= bundled
    assert all(len(cells) == 2 and all(cells) for cells in cells_by_name.values())
