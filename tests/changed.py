"""Print the tests that a change touches: ``python -m tests.changed [REF]``, which ``scripts/test --changed`` runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCES = ("client", "server", "tui")

GUARDS = (
    *("tests/test_docs.py", "tests/test_imports.py", "tests/test_parity.py", "tests/server/test_outside.py"),
    *("tests/server/core/test_template.py", "tests/server/core/test_words.py"),
)
"""Tests that read files of the whole repository, so every change touches them."""


def touched_tests(root: Path, reference: str) -> list[str]:
    """Return the paths of the tests that the changes since ``reference`` touch.

    These are changed tests, tests that import a changed module through any number of modules, tests in the folder that
    mirrors the folder of a changed module, tests that name a changed file of another kind, and `GUARDS`.
    """
    changes = {
        *_git(root, "diff", "--name-only", "--merge-base", reference),
        *_git(root, "ls-files", "--others", "--exclude-standard"),
    }
    paths = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "*.py")
    texts = {path: (root / path).read_text("utf-8") for path in paths if (root / path).is_file()}
    importers: dict[str, set[str]] = defaultdict(set)
    for path, text in texts.items():
        is_test = path.startswith("tests/")
        for name in _imports(ast.parse(text), within_functions=is_test):
            importers[name].add(path)
        for folder in Path(path).parents if is_test else ():
            importers[_module(f"{folder}/conftest.py")].add(path)
    names = "|".join(re.escape(Path(path).name) for path in changes if not path.endswith(".py"))
    mention = re.compile(rf"""["'/]({names or "(?!)"})["'#]""")
    touched = changes | {path for path, text in texts.items() if mention.search(text)}
    unread = list(touched)
    while unread:
        further = importers[_module(unread.pop())] - touched
        touched |= further
        unread += further
    mirrors = {_mirror(root, path) for path in changes if path.startswith(SOURCES)}
    guards = GUARDS if changes else ()
    return [
        path
        for path in texts
        if re.match(r"tests/(.*/)?test_\w+\.py$", path)
        and (path in touched or path in guards or Path(path).parent in mirrors)
    ]


def _git(root: Path, *arguments: str) -> list[str]:
    command = ["git", "-c", "core.quotePath=false", *arguments]
    process = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(process.returncode)  # git has printed the reason
    return process.stdout.splitlines()


def _module(path: str) -> str:
    """Return the name by which other modules import a file."""
    top, _, relative_path = path.partition("/")
    inner = relative_path if top in SOURCES else path
    return inner.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(tree: ast.AST, *, within_functions: bool) -> Iterator[str]:
    """Yield the names of imported modules, without imports for the type checker."""
    nodes = [tree]
    while nodes:
        match node := nodes.pop():
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                continue
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not within_functions:
                continue
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (module, *(f"{module}.{alias.name}" for alias in names))
        nodes += ast.iter_child_nodes(node)


def _mirror(root: Path, path: str) -> Path:
    """Return the folder of tests for a module: ``server/portico_server/db/runs.py`` has ``tests/server/db``."""
    top, _package, *folders = Path(path).parent.parts or ("",)
    mirror = Path("tests", top, *folders)
    while not (root / mirror).is_dir():
        mirror = mirror.parent
    return mirror


if __name__ == "__main__":
    print("\n".join(touched_tests(Path.cwd(), *sys.argv[1:2] or ["HEAD"])))
