"""A Portico command on its own terminal, which tests type into and read."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import signal
import subprocess
import sys

from tests.daemon import environment

LIMIT = 60
"""Seconds after which a test gives up on a process."""

COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]


class Terminal:
    """A command on its own terminal."""

    def __init__(self, url: str, *arguments: str, **variables: str) -> None:
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env=environment(PORTICO_URL=url, TERM="dumb", **variables),
        )
        os.close(terminal)
        self._text = codecs.getincrementaldecoder("utf-8")()
        self.seen = ""
        self._after = 0

    def until(self, words: str) -> None:
        """Read until ``words`` are printed after the words of the previous wait."""
        while (position := self.seen.find(words, self._after)) < 0:
            self.seen += self._text.decode(os.read(self._controller, 4096))
        self._after = position + len(words)

    def type(self, line: str) -> None:
        os.write(self._controller, f"{line}\n".encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def leave(self) -> int:
        """Interrupt the command until it ends, and return the exit code.

        CPython's readline misses a signal that arrives between printing the prompt and waiting for a key. A person
        notices this too and presses again.
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
