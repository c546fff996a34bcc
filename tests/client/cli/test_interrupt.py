"""Ctrl-C: it ends a command, and in a conversation first the answer."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.daemon import Daemon, environment

from portico import Client

LIMIT = 60
"""Seconds after which a test gives up on a process."""

COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module", autouse=True)
def _stuck(daemon: Daemon) -> None:
    """A model that says three words of its answer to 'wait' and then no more."""
    script = {"replies": [{"match": "wait", "content": "one two three four five six", "hang": 3}]}
    with Client(daemon.url) as client:
        client.deployments.add("stuck", "fake://", parameters={"script": script})


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env=environment(PORTICO_URL=url, TERM="dumb"),
        )
        os.close(terminal)
        self._text = codecs.getincrementaldecoder("utf-8")()
        self.seen = ""
        self._after = 0

    def until(self, words: str) -> None:
        """Read until ``words`` are printed after the ones that were waited for before."""
        while (found := self.seen.find(words, self._after)) < 0:
            self.seen += self._text.decode(os.read(self._controller, 4096))
        self._after = found + len(words)

    def type(self, line: str) -> None:
        os.write(self._controller, f"{line}\n".encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def leave(self) -> int:
        """Interrupt until it ends; the exit code.

        CPython's readline misses a signal between printing the prompt and waiting for a key, as a person who presses
        again may notice.
        """
        for _ in range(LIMIT):
            self.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(1)
        raise AssertionError("it does not end")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._controller)


@pytest.fixture
def chat(daemon: Daemon) -> Iterator[Terminal]:
    terminal = Terminal(daemon.url, "chat", "--model", "stuck")
    yield terminal
    terminal.close()


def test_in_a_conversation_the_first_stops_the_answer_and_the_second_leaves(
    chat: Terminal, daemon: Daemon
) -> None:
    chat.until("› ")
    chat.type("wait for it")
    chat.until("three")
    chat.interrupt()
    chat.until("Stopped.")
    chat.until("› ")
    chat.type("and on")
    chat.until("and on\r\n")
    chat.until("and on")
    chat.until("› ")
    assert chat.leave() == 130
    assert "Traceback" not in chat.seen
    with Client(daemon.url) as client:
        stopped = next(run for run in client.runs.list() if run.status == "cancelled")
        assert stopped.name == "stuck"


def test_elsewhere_it_ends_the_command_with_130_and_no_traceback(daemon: Daemon) -> None:
    with subprocess.Popen(
        [*COMMAND, "chat", "--model", "stuck"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PORTICO_URL=daemon.url),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("wait\n")
        process.stdin.flush()
        assert process.stdout.read(3) == "one"
        process.send_signal(signal.SIGINT)
        _rest, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert "Traceback" not in errors


READING = """
import builtins, os, signal
taken = builtins.__import__
def interrupted(name, *rest):
    if name == "portico.cli.root":
        os.kill(os.getpid(), signal.SIGINT)
    return taken(name, *rest)
builtins.__import__ = interrupted
"""


def test_ctrl_c_before_the_command_has_been_read_leaves_no_traceback_either() -> None:
    done = subprocess.run([*COMMAND[:2], READING + COMMAND[2], "version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_closed_standard_output_is_no_reason_to_fail(daemon: Daemon) -> None:
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, "status"]
    assert subprocess.run(command, env=environment(PORTICO_URL=daemon.url)).returncode == 0


def test_the_terminal_ui_without_a_terminal_says_so(daemon: Daemon) -> None:
    done = subprocess.run(
        [*COMMAND, "tui"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(PORTICO_URL=daemon.url),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs a terminal" in done.stderr
