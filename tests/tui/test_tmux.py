"""The terminal UI in a real terminal, tmux: typed into, read, resized, closed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.client.cli.terminal import COMMAND
from tests.daemon import Daemon, environment

LIMIT_S = 90
"""Time limit for the screen, in seconds."""

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Tmux:
    """One session of its own tmux server."""

    def __init__(self, folder: Path, url: str, size: tuple[int, int]) -> None:
        self._socket = folder / "tmux"
        shell = shlex.join([*COMMAND, "tui"])
        width, height = map(str, size)
        variables = environment(PORTICO_URL=url, XDG_CONFIG_HOME=str(folder), TERM="xterm-256color")
        # If these are set, as readline sets them for workers of a test run, they override the terminal's real
        # size.
        for size_variable in ("COLUMNS", "LINES"):
            variables.pop(size_variable, None)
        # The shell keeps running, so that the test can read the terminal after the app ends.
        self._do("-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, "sh", env=variables)
        self.keys(f"{shell}; echo left with $?", "Enter")

    def _do(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            capture_output=True,
            text=True,
            env=env,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Press keys, given by tmux's names or as text."""
        self._do("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._do("resize-window", "-x", str(width), "-y", str(height))

    @property
    def screen(self) -> list[str]:
        """Return the visible lines."""
        return self._do("capture-pane", "-p").splitlines()

    @property
    def modes(self) -> dict[str, str]:
        """Return the modes that a program may leave on: alternate screen, captured mouse, hidden cursor."""
        names = ("alternate_on", "mouse_any_flag", "cursor_flag")
        output = self._do("display-message", "-p", " ".join(f"#{{{name}}}" for name in names))
        return dict(zip(names, output.split(), strict=True))

    def until(self, condition: Callable[[str], object]) -> list[str]:
        """Read the screen until the condition is true; return its lines."""
        end = time.monotonic() + LIMIT_S
        while not condition("\n".join(lines := self.screen)):
            assert time.monotonic() < end, "\n".join(lines)
        return lines

    def kill(self) -> None:
        self._do("kill-server")


@pytest.fixture
def tmux(busy_daemon: Daemon, tmp_path: Path) -> Iterator[Tmux]:
    busy_daemon.settle()  # ensures that the first chat partner exists
    session = Tmux(tmp_path, busy_daemon.url, (80, 24))
    yield session
    session.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_terminal_ui_works_in_tmux_and_restores_the_terminal_on_exit(
    tmux: Tmux, busy_daemon: Daemon
) -> None:
    lines = tmux.until(lambda text: "talker" in text and "Portico" in text)
    assert "1 Models" in lines[0] and len(lines) == 24
    tmux.keys("2")
    tmux.until(lambda text: "port.md" in text)
    tmux.keys("/")
    tmux.keys("hand", "Enter")
    tmux.keys("3")
    tmux.until(lambda text: "Talking to handbook" in text)
    tmux.keys("Which port does Lighthouse listen on?", "Enter")
    tmux.until(lambda text: "tokens" in text and "7419" in text)
    tmux.resize(130, 40)
    lines = tmux.until(lambda text: busy_daemon.url in text)
    assert len(lines) == 40 and "Portico" in lines[0]
    tmux.keys("C-g")
    tmux.until(lambda text: "Type to search" in text)
    tmux.keys("usage", "Enter")
    tmux.until(lambda text: "in the last day" in text)
    tmux.keys("q")
    lines = tmux.until(lambda text: "left with 0" in text)
    assert not any("Traceback" in line for line in lines), "\n".join(lines)
    # What tmux shows after a resize is not always the earlier contents, so the test checks only the modes.
    assert tmux.modes == {"alternate_on": "0", "mouse_any_flag": "0", "cursor_flag": "1"}
