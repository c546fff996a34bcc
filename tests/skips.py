"""End of a test run: the number of tests skipped for each missing program, and the command that installs them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable

import pytest

PROGRAMS = (
    ("apache2 is not installed", "Apache", "apache2"),
    ("bubblewrap, which is not installed", "bubblewrap", "bubblewrap"),
    ("caddy is not installed", "Caddy", "caddy"),
    ("there is no Chromium here", "Chromium", "chromium"),
    ("no Chromium is installed", "Chromium", "chromium"),
    ("made with gcc", "gcc", "gcc"),
    ("haproxy is not installed", "HAProxy", "haproxy"),
    ("nginx is not installed", "nginx", "nginx"),
    ("no kubectl here", "kubectl", "kubernetes-client openssl"),
    ("npm is not installed", "npm", "npm"),
    ("npx is not installed", "npm", "npm"),
    ("needs npx, which is not installed", "npm", "npm"),
    ("no PostgreSQL here", "PostgreSQL", "postgresql"),
    ("the system has no setpriv", "setpriv", "util-linux"),
    ("no Slurm here", "Slurm", "slurmctld slurmd slurm-client munge"),
    ("tesseract is not installed", "tesseract", "tesseract-ocr tesseract-ocr-chi-sim"),
    ("tmux is not installed", "tmux", "tmux"),
)
"""A phrase of the skip reason, the missing program, and its packages in Debian and Ubuntu."""


def missing_programs(reasons: Iterable[str]) -> list[str]:
    """Return one line for each missing program, and the line that installs them all; nothing if none is missing."""
    skips: Counter[str] = Counter()
    packages: dict[str, None] = {}
    for reason in reasons:
        for words, program, names in PROGRAMS:
            if words in reason:
                skips[program] += 1
                packages.update(dict.fromkeys(names.split()))
                break
    lines = [f"{program}: {count} skipped" for program, count in sorted(skips.items())]
    return [*lines, f"To run them: sudo apt-get install {' '.join(sorted(packages))}"] if lines else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Print the lines below everything else that pytest prints, except its last line."""
    yield
    lines = missing_programs(str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if lines:
        terminalreporter.section("tests that need a program that is not installed")
        for line in lines:
            terminalreporter.line(line)
