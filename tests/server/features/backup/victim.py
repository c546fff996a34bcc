"""The process of `killing`, from the side of a test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Literal

KILLING = Path(__file__).with_name("killing.py")


class Victim(AbstractContextManager["Victim"]):
    """Runs commands of the daemon's program, or of ``portico``, in processes that are killed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(KILLING)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environment),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(
        self, point: int, *arguments: str, events: Literal["calls", "transactions"] = "calls"
    ) -> int | None:
        """Run a command that is killed at an event. If it ended before, return its number of events."""
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"point": point, "events": events, "arguments": arguments}
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        status, *number = map(int, self._process.stdout.readline().split())
        assert status in (0, -signal.SIGKILL), f"{arguments} ended with {status}"
        return number[0] if number else None
