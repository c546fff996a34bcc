"""Ctrl-C ends a command; in a conversation it first ends the answer."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.client.cli.terminal import COMMAND, LIMIT, Terminal
from tests.daemon import Daemon, environment

from portico import Client

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def _stuck(daemon: Daemon) -> None:
    """A model that answers 'wait' with three words and then stalls."""
    script = {"replies": [{"match": "wait", "content": "one two three four five six", "hang": 3}]}
    with Client(daemon.url) as client:
        client.deployments.add("stuck", "fake://", parameters={"script": script})


@pytest.fixture
def chat(daemon: Daemon) -> Iterator[Terminal]:
    terminal = Terminal(daemon.url, "chat", "--model", "stuck")
    yield terminal
    terminal.close()


@pytest.mark.slow
def test_in_a_chat_the_first_ctrl_c_stops_the_answer_and_the_second_exits(
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
        cancelled_run = next(run for run in client.runs.list() if run.status == "cancelled")
        assert cancelled_run.name == "stuck"


def test_ctrl_c_without_a_terminal_exits_with_130_and_no_traceback(daemon: Daemon) -> None:
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


AT_EACH_LINE = """
import os, signal, subprocess, sys
from portico.cli.session import until_exit

def interrupted(moment):
    process, lines = subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True), 0

    def interrupt():
        sys.settrace(None)
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)

    def trace(_frame, event, _value):
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == moment:
                interrupt()
        return trace

    def profile(_frame, event, function):
        if event == "c_call" and function is os.read:
            interrupt()

    with process:
        try:
            sys.setprofile(profile)
            sys.settrace(trace)
            with until_exit(process) as wait:
                wait()
        except KeyboardInterrupt:
            return lines
        finally:
            process.stdin.close()

last = interrupted(0)
assert last > 20
for moment in range(1, last):
    assert interrupted(moment) == moment
"""


def test_ctrl_c_at_any_moment_of_the_wait_for_a_process_is_noticed() -> None:
    done = subprocess.run(
        [*COMMAND[:2], AT_EACH_LINE], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
    )
    assert (done.returncode, done.stderr) == (0, "")


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
