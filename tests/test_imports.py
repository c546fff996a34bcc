"""The modules that an import loads, measured in a fresh process, because imports determine the startup time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *(
        "aiohttp",
        "alembic",
        "fastapi",
        "hnswlib",
        "httpx",
        "lxml",
        "mcp",
        "numpy",
        "opencc",
        "qdrant_edge",
        "rjieba",
    ),
    *("tantivy", "torch", "transformers", "voyager", "wordllama", "xllamacpp"),
}
"""Packages that are slow to import. The daemon answers /health before it needs any of them."""


def modules_after(code: str) -> set[str]:
    """Return the modules that are loaded once ``code`` has run in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_the_sdk_brings_nothing_beyond_what_httpx_brings() -> None:
    new_modules = modules_after("import portico") - modules_after("import httpx")
    assert packages(new_modules) == {"portico"}, sorted(new_modules)


def test_every_name_of_the_sdk_needs_httpx_and_the_standard_library_alone() -> None:
    code = "import portico\nfor name in portico.__all__: getattr(portico, name)"
    package_names = packages(modules_after(code) - modules_after("import httpx"))
    assert package_names - sys.stdlib_module_names == {"portico"}


def test_the_sdk_clients_import_no_package_of_an_extra() -> None:
    package_names = packages(modules_after("import portico; portico.Client; portico.AsyncClient"))
    assert package_names.isdisjoint({"typer", "textual", "portico_server", "portico_tui"})


def test_the_wire_module_imports_only_the_standard_library() -> None:
    package_names = packages(modules_after("import portico.wire"))
    assert package_names - {"portico", "__main__"} <= sys.stdlib_module_names | packages(
        modules_after("pass")
    )


def test_the_document_parser_worker_starts_without_asyncio_and_numpy() -> None:
    module_names = modules_after("import portico_server.features.readers.worker")
    assert packages(module_names) & {"asyncio", "numpy", "rjieba"} == set()
    assert "portico_server.core.request" not in module_names


def test_the_daemon_starts_without_its_heavy_packages() -> None:
    module_names = modules_after("import portico_server.app")
    assert packages(module_names) & HEAVY == set()
    assert "portico_server.features.answers.tables.lexicon" not in module_names
    assert "sqlalchemy.dialects.postgresql" not in module_names


START = """
import json, os, sys

importers = {}

class Recorder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        frame = sys._getframe(1)
        while "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        importers.setdefault(name, frame.f_globals["__name__"])

class Output:
    def write(self, text):
        if '"ready"' in text:
            os.write(1, json.dumps({name: importers.get(name) for name in sys.modules}).encode())
            os._exit(0)
        os.write(2, text.encode())

    def flush(self):
        pass

sys.meta_path.insert(0, Recorder)
sys.stdout = Output()
from portico_server.__main__ import main
main(["serve", "--home", sys.argv[1], "--port", "0", "--quiet", "--offline", "true"])
"""
"""A script that runs a daemon until it serves, then prints its modules as JSON, each with its first importer."""

BEFORE_HEALTH = {
    *("anyio", "click", "cronsim", "httptools", "orjson", "psutil", "python_multipart"),
    *("sniffio", "sqlalchemy", "starlette", "typing_extensions", "uvicorn", "uvloop", "watchfiles", "yaml"),
    *("email", "imaplib", "importlib.metadata", "multiprocessing", "zoneinfo"),
}
"""Modules that a warm start may import before it answers /health: packages, and slow modules of the standard
library.
"""

HEAVY_STANDARD = {
    *("ctypes", "email", "imaplib", "importlib.metadata", "lib2to3", "multiprocessing", "pydoc", "smtplib"),
    *("tkinter", "unittest", "urllib.request", "xml", "xmlrpc", "zoneinfo"),
}
"""Modules of the standard library that are slower to import than most others."""


@pytest.mark.slow
def test_a_warm_start_imports_only_what_is_listed_before_it_answers(tmp_path: Path) -> None:
    modules: dict[str, str | None] = {}
    for _ in range(2):  # the first start creates the database
        done = subprocess.run(
            [sys.executable, "-c", START, str(tmp_path)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        modules = json.loads(done.stdout)
    own_packages = {"cython_runtime", "portico", "portico_server"}
    looked_at = {name for name in modules if name in HEAVY_STANDARD} | (
        packages({name for name in modules if not name.startswith("_")})
        - sys.stdlib_module_names
        - own_packages
    )
    unlisted = {name: f"imported by {modules.get(name)}" for name in looked_at - BEFORE_HEALTH}
    assert unlisted == {}
    assert "sqlalchemy.dialects.postgresql" not in modules
    assert "sqlalchemy.orm" not in modules


HEAVY_FOR_A_COMMAND = {"asyncio", "click", "markdown_it", "pydantic", "pygments"}
"""Packages that typer, rich and httpx import for features that the command does not use. Each is slower than typer."""


def modules_after_command(*arguments: str, **environment: str) -> set[str]:
    """Return the modules that are loaded once ``portico ARGUMENTS`` has ended in a new interpreter."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from portico.cli import main; main(); print(*sys.modules, file=sys.stderr)",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PORTICO_URL": "http://127.0.0.1:9", **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split())


def commands(modules: set[str]) -> set[str]:
    """Return the command-line modules, without those that every command needs."""
    always = {"render", "root", "session"}
    return {name.removeprefix("portico.cli.") for name in modules if name.startswith("portico.cli.")} - always


def test_the_version_command_imports_httpx_but_no_client() -> None:
    module_names = modules_after_command("version")
    assert "httpx" in module_names
    assert packages(module_names).isdisjoint({*HEAVY, *HEAVY_FOR_A_COMMAND, "rich"} - {"asyncio", "httpx"})
    assert module_names.isdisjoint({"portico.client", "portico._sync.client", "portico._async.client"})
    assert commands(module_names) == {"version"}


@pytest.mark.parametrize(("arguments", "imported"), [((), set()), (("models",), {"models"})])
def test_help_imports_the_command_that_is_asked_about_alone(
    arguments: tuple[str, ...], imported: set[str]
) -> None:
    module_names = modules_after_command(*arguments, "--help")
    assert packages(module_names).isdisjoint({*HEAVY, *HEAVY_FOR_A_COMMAND})
    assert commands(module_names) >= imported
    assert bool(commands(module_names)) == bool(imported)


@pytest.mark.parametrize(
    ("words", "found", "imported"),
    [("portico mod", "models", set()), ("portico version --js", "--json", {"version"})],
)
def test_completion_imports_the_command_that_is_completed_alone(
    words: str, found: str, imported: set[str]
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import atexit, sys; from portico.cli import main\n"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "_PORTICO_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
    )
    assert done.stdout.split() == [found]
    module_names = set(done.stderr.split())
    assert packages(module_names).isdisjoint({*HEAVY, *HEAVY_FOR_A_COMMAND})
    assert commands(module_names) == imported


def test_the_terminal_ui_knows_the_daemon_only_through_the_client() -> None:
    package_names = packages(modules_after("import portico_tui.app"))
    assert "textual" in package_names
    assert package_names.isdisjoint(
        {"portico_server", "sqlalchemy", "starlette", "aiohttp", "fastapi", "mcp"}
    )
