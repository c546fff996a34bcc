"""The programs of ``bench/peers``, each run against the scripted model and one daemon, return correct results."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests import forked_python
from tests.daemon import ROOT, Daemon, environment, running

FOLDER = ROOT / "bench" / "peers"


def module(name: str) -> ModuleType:
    """Import a module of the benchmark, which is not a package."""
    module_spec = importlib.util.spec_from_file_location(f"peers_{name}", FOLDER / f"{name}.py")
    assert module_spec is not None and module_spec.loader is not None
    imported_module = sys.modules[module_spec.name] = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(imported_module)
    return imported_module


catalogue, reading = module("catalogue"), module("reading")
TASKS = catalogue.TASKS


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """The address of the scripted model."""
    child = subprocess.Popen(
        [sys.executable, "-W", "error", str(FOLDER / "model.py")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}/v1"
    finally:
        child.terminate()
        child.wait(20)
        child.stdout.close()


@pytest.fixture(scope="module")
def served(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the configuration that all programs share."""
    variables = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "right"}
    home = tmp_path_factory.mktemp("peers") / "home"
    with running(home, "--file", str(catalogue.CONFIGURATION), env=variables) as daemon:
        yield daemon


@pytest.mark.parametrize("name", list(TASKS))
def test_our_program_has_the_right_result(name: str, served: Daemon, tmp_path: Path) -> None:
    task = TASKS[name]
    task.lay_out("portico", tmp_path)
    for arguments in task.starts:
        done = subprocess.run(
            [*forked_python.launcher(), "main.py", *arguments],
            cwd=tmp_path,
            env=environment(PORTICO_URL=served.url, PYTHONDONTWRITEBYTECODE="1", PATH=os.environ["PATH"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert task.right(catalogue.result_of(done.stdout)), done.stdout
    assert catalogue.effects_in(tmp_path) == task.effects


def test_the_stand_in_model_refuses_a_wrong_key_and_cannot_answer_incomplete_requests(model: str) -> None:
    body = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is my name?"}]}'
    for key in ("wrong", "right"):
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{model}/chat/completions", body, headers)
        if key == "wrong":
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(request, timeout=60)
        else:
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert b"I do not know." in answer.read()


def test_each_task_is_done_by_a_peer_and_the_programs_of_peers_are_python() -> None:
    folders = {path.name for path in (FOLDER / "tasks").iterdir() if path.is_dir()}
    assert folders == set(TASKS)
    for task in TASKS.values():
        assert task.names()[0] == "portico" and len(task.names()) > 1
        for name in task.names():
            source = task.program(name).read_text(encoding="utf-8")
            assert reading.count_lines(source) > 3 and reading.concepts(source)


def test_requirements_of_peers_are_pinned() -> None:
    for name in catalogue.PEERS:
        lines = (FOLDER / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.+!]+", line) for line in lines if not line.startswith("#"))


def test_line_and_concept_counts_include_only_framework_usage() -> None:
    source = '''"""A program."""

import json
from other import Thing  # one


def mine(text: str) -> str:
    """What it does."""
    return text.upper()


print(json.dumps(Thing(mine, size=2).work({"kind": "x"})))
'''
    assert reading.count_lines(source) == 6
    assert reading.concepts(source) == ["Thing", "kind", "size", "work"]


def test_the_page_names_the_versions_and_claims_nothing_but_what_was_printed() -> None:
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    preamble, _, remainder = page.partition("<!-- tables -->")
    tables, _, claims = remainder.partition("<!-- end of tables -->")
    pinned = "\n".join(path.read_text(encoding="utf-8") for path in (FOLDER / "requirements").glob("*.txt"))
    versions = re.findall(r"([\w-]+) (\d[\w.]*)", preamble.partition("Versions: ")[2].partition("\n")[0])
    assert len(versions) >= len(catalogue.PEERS)
    assert all(f"\n{name}=={version}\n" in pinned for name, version in versions), versions
    for task in TASKS.values():
        section = tables.partition(f"### {task.title}\n")[2].partition("### ")[0]
        for name in task.names():
            source = task.program(name).read_text(encoding="utf-8")
            row = f"| {name} | {reading.count_lines(source)} | {len(reading.concepts(source))} |"
            assert row in section, (task.name, row)
    printed = set(re.findall(r"\d+(?:\.\d+)?", tables))
    assert set(re.findall(r"\d+(?:\.\d+)?", claims)) <= printed
