"""The tie to the daemon: JSON lines out on what was standard output, JSON lines in on standard input.

Out: ``step``, ``checkpoint``, ``say``, ``grade``, ``done``, ``error``. In: ``pause``, ``grades``. When standard input
closes the daemon is gone, and so are we at once; what is whole on disk is what the next attempt goes on from.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any


class Voice:
    """``first`` is set in the first of several processes, which alone speaks and listens."""

    def __init__(self, *, first: bool = True) -> None:
        self.paused = threading.Event()
        """Set once the daemon has asked for a checkpoint and the end."""
        self._first = first
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # a library that prints goes to the log
        self._lock = threading.Lock()
        self._grades: queue.Queue[list[float]] = queue.Queue()
        if first:
            threading.Thread(target=self._listen, daemon=True, name="daemon").start()

    def say(self, event: str, **values: Any) -> None:
        """Tell the daemon."""
        if not self._first:
            return
        with self._lock:
            self._out.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
            self._out.flush()

    def grade(self, answers: list[dict[str, Any]]) -> list[float]:
        """What the daemon's grader gives for answers (``text`` and the line's ``item``), in order."""
        self.say("grade", answers=answers)
        return self._grades.get()

    def _listen(self) -> None:
        for line in sys.stdin:
            given = json.loads(line)
            if given["do"] == "pause":
                self.paused.set()
            elif given["do"] == "grades":
                self._grades.put(given["rewards"])
        os._exit(0)
