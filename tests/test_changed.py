"""``scripts/test --changed`` runs the tests that a change touches."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.changed import GUARDS, touched_tests

FILES = {
    "client/portico/wire.py": "",
    "server/portico_server/runs/run.py": "from portico.wire import Usage",
    "server/portico_server/runs/runner.py": "from portico_server.runs import run",
    "server/portico_server/features/tools/late.py": "def call():\n    import portico_server.runs.runner",
    "server/portico_server/features/tools/typed.py": "if TYPE_CHECKING:\n    import portico_server.runs.runner",
    "server/portico_server/features/tools/web/page.py": "PAGE = ROOT / 'page.html'",
    "page/page.html": "",
    "tests/conftest.py": "",
    "tests/server/features/tools/conftest.py": "",
    "tests/server/runs/test_runner.py": "from portico_server.runs.runner import Runner",
    "tests/server/runs/test_end.py": "",
    "tests/server/features/tools/test_late.py": "def test():\n    from portico_server.features.tools import late",
    "tests/server/features/tools/test_typed.py": "from portico_server.features.tools import typed",
    "tests/server/test_page.py": "from portico_server.features.tools.web.page import PAGE",
    GUARDS[0]: "",
}

EVERY = tuple(path for path in FILES if "/test_" in path)


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ("client/portico/wire.py", ("tests/server/runs/test_runner.py", GUARDS[0])),
        (
            "server/portico_server/runs/runner.py",
            ("tests/server/runs/test_runner.py", "tests/server/runs/test_end.py", GUARDS[0]),
        ),
        (
            "server/portico_server/features/tools/web/page.py",
            (
                "tests/server/features/tools/test_late.py",
                "tests/server/features/tools/test_typed.py",
                "tests/server/test_page.py",
                GUARDS[0],
            ),
        ),
        ("page/page.html", ("tests/server/test_page.py", GUARDS[0])),
        ("tests/conftest.py", EVERY),
        (
            "tests/server/features/tools/conftest.py",
            (
                "tests/server/features/tools/test_late.py",
                "tests/server/features/tools/test_typed.py",
                GUARDS[0],
            ),
        ),
        ("tests/server/runs/test_end.py", ("tests/server/runs/test_end.py", GUARDS[0])),
        ("tests/server/runs/test_new.py", ("tests/server/runs/test_new.py", GUARDS[0])),
        ("LICENSE", (GUARDS[0],)),
        (None, ()),
    ],
)
def test_a_change_selects_the_tests_that_import_mirror_or_name_the_file(
    tmp_path: Path, change: str | None, touched: tuple[str, ...]
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=tmp_path, check=True
        )

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    for path, text in FILES.items():
        write(path, text)
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    if change is not None:
        write(change, f"{FILES.get(change, '')}\n")
    git("switch", "-q", "-c", "work")
    git("add", ".")
    git("commit", "-q", "--allow-empty", "-m", "b")
    if change == "tests/server/runs/test_new.py":
        git("reset", "-q", "main")  # a file that git does not know yet

    assert sorted(touched_tests(tmp_path, "main")) == sorted(touched)
