"""Daemons for the terminal UI."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import textual.app
import textual.pilot
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.tui.terminal import process_input

CONFIGURATION = """
models:
  - name: talker
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {match: "be silent", content: "one two three four", hang: 2}
        - {match: "break", error: {status: 400, message: "The prompt is too long.", code: context_length_exceeded}}
        - {match: "mark", content: "[b]bold[/b] \\e[2Jand `code`"}
  - {name: vectors, source: "fake://", task: embedding, parameters: {dimensions: 64}, aliases: [default-embedding]}
"""


@pytest.fixture(scope="session", autouse=True)
def _no_waiting() -> Iterator[None]:
    """Let the pilots of Textual wait for the app's tasks, and not until the process uses no processor time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (textual.app, textual.pilot):
            patch.setattr(module, "wait_for_idle", process_input)
        yield


@pytest.fixture(scope="module")
def busy_daemon(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Daemon]:
    """Yield a daemon over ``handbook``, including a broken file; its model ``talker`` can fall silent and fail."""
    home = tmp_path_factory.mktemp("home")
    folder = home / docs.name
    shutil.copytree(docs, folder)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    configuration = home / "tui.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration), "--docs", str(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def empty_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon that contains only the defaults."""
    with daemons.running(tmp_path_factory.mktemp("home") / "data") as running:
        yield running
