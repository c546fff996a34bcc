"""Neither the daemon nor any process that it starts imports anything from the folder where the daemon is started."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import httpx
import pytest
from tests.daemon import ROOT, environment

from portico_server import subprocesses
from portico_server.child_environment import inherited

LIMIT = 90
"""Time limit for a process, in seconds."""

MAKERS = {
    "client/portico/_installed.py",
    "server/portico_server/subprocesses.py",
    "client/portico/cli/session.py",
    "client/portico/connect/bundle.py",
    "server/portico_server/launchers/node_task.py",  # has none of our code on its path
}
"""The files that may build the command line of an interpreter."""

CONFIGURATION = """
models:
  - {{name: echo, source: "fake://", aliases: [default]}}
tools:
  - {{name: twice, function: "toolshed:twice", folder: "{tools}", parameters: {{}}}}
  - {{name: shop, database: "{database}"}}
"""


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """Return a folder with a file for every module that we could import; an imported file writes its name to
    ``ran``.
    """
    folder = tmp_path / "decoys"
    folder.mkdir()
    names = {
        *importlib.metadata.packages_distributions(),
        *sys.stdlib_module_names,
        "toolshed",
        "child",
        "worker",
    }
    body = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(97)\n"
    for name in names:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(body, encoding="utf-8")
    return folder


@pytest.fixture
def served(tmp_path: Path, decoys: Path) -> Iterator[str]:
    """Yield the URL of a daemon started with `portico up` in the folder of decoys."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "toolshed.py").write_text("def twice(n: int) -> int:\n    return 2 * n\n")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("create table items as select 7 as n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "bread.md").write_text("# Bread\n\nBread is baked at 230 degrees.\n")
    file = tmp_path / "portico.yaml"
    file.write_text(CONFIGURATION.format(tools=tmp_path / "tools", database=tmp_path / "shop.duckdb"))
    code = "import sys; from portico.cli import main; sys.exit(main())"  # -P: as in the installed command
    options = ["--json", "--file", str(file), "--docs", str(tmp_path / "docs")]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "up", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=decoys,
        env=environment(PORTICO_HOME=str(tmp_path / "home"), PORTICO_PORT="0", PORTICO_OFFLINE="1"),
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.strip(), "the daemon did not start"
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            process.wait(LIMIT)


@pytest.mark.slow
def test_the_daemon_and_its_children_import_nothing_from_the_current_folder(
    served: str, tmp_path: Path
) -> None:
    with httpx.Client(base_url=served, timeout=LIMIT) as client:
        for run in client.get("/api/status").json()["startup"]:
            client.get(f"/api/runs/{run}/events").raise_for_status()
        chat = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
        client.post("/v1/chat/completions", json=chat).raise_for_status()
        client.post("/v1/embeddings", json={"model": "default-embedding", "input": "x"}).raise_for_status()
        results = client.post("/api/stores/docs/search", json={"query": "bread"}).raise_for_status().json()
        assert "230 degrees" in json.dumps(results)
        doubled = client.post("/api/tools/twice/call", json={"arguments": {"n": 4}}).raise_for_status().json()
        assert "8" in json.dumps(doubled)
        response = client.post("/api/tools/shop/call", json={"arguments": {"query": "select n from items"}})
        assert "7" in response.raise_for_status().text
        hello = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        accept = {"Accept": "application/json, text/event-stream"}
        client.post("/mcp", json=hello, headers=accept)  # its package is imported by then
    ran = tmp_path / "ran"
    assert not ran.exists(), ran.read_text()


def test_python_processes_started_by_a_child_ignore_the_current_folder(decoys: Path, tmp_path: Path) -> None:
    code = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-m', 'json.tool', '--help']).returncode)"
    process = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=decoys, env=inherited(), capture_output=True, timeout=LIMIT
    )
    assert process.returncode == 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "command",
    [
        subprocesses.run_module("json.tool", "--help"),
        subprocesses.run_isolated("-c", "import json"),
        [sys.executable, *subprocesses.module("json.tool", "--help")],
    ],
)
def test_each_interpreter_command_line_excludes_the_current_folder_from_imports(
    command: list[str], decoys: Path, tmp_path: Path
) -> None:
    assert subprocess.run(command, cwd=decoys, capture_output=True, timeout=LIMIT).returncode == 0
    assert not (tmp_path / "ran").exists()


def test_command_lines_of_interpreters_are_made_in_one_place() -> None:
    """No other file contains ``-m`` or the path of an interpreter."""
    wrong = []
    for tree in ("server", "client", "tui"):
        for path in sorted((ROOT / tree).rglob("*.py")):
            place = str(path.relative_to(ROOT))
            text = path.read_text(encoding="utf-8")
            if place in MAKERS or not any(word in text for word in ("-m", "executable")):
                continue
            for node in ast.walk(ast.parse(text)):
                flag = isinstance(node, ast.Constant) and node.value in ("-m", "-mpip", "_base_executable")
                is_interpreter = isinstance(node, ast.Attribute) and node.attr in (
                    "executable",
                    "_base_executable",
                )
                if isinstance(node, ast.expr) and (flag or is_interpreter):
                    wrong.append(f"{place}:{node.lineno}")
    assert not wrong, f"use portico_server.subprocesses: {', '.join(wrong)}"


@pytest.mark.parametrize("name", ["Dockerfile", "scripts/run", "scripts/install"])
def test_scripts_and_dockerfile_start_python_without_the_current_folder(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace('", "', " ").replace('"', "")
    final = text.rpartition("\nFROM ")[2]
    for line in final.splitlines():
        for word, following in pairwise(line.split()):
            if word.removeprefix("[").endswith(("bin/python", "python")) and following in ("-m", "-c"):
                pytest.fail(f"{name}: {line}: give it -P or -I")
