"""The link to the daemon: an order in a JSON file, events and commands as JSON lines."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingOrder:
    """A training order. ``name`` is the daemon's name for the base model, ``model`` the folder with its weights,
    ``folder`` the job's own folder for checkpoints and the result. ``recipe`` uses the names of the daemon's
    recipe; ``nice`` is the priority of the process relative to all other processes on the machine.
    """

    method: str
    name: str
    model: Path
    folder: Path
    training: Path
    validation: Path | None
    recipe: dict[str, Any]
    nice: int

    @classmethod
    def read(cls, path: Path) -> TrainingOrder:
        """Read an order that the daemon has written."""
        document = json.loads(path.read_text(encoding="utf-8"))
        validation = document.get("validation")
        return cls(
            **{
                **{field.name: document[field.name] for field in fields(cls)},
                "model": Path(document["model"]),
                "folder": Path(document["folder"]),
                "training": Path(document["training"]),
                "validation": Path(validation) if validation else None,
            }
        )

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The folder in which the trained adapter or model is written."""
        return self.folder / "adapter"

    @property
    def result(self) -> Path:
        """The file that is written last, which marks the training as finished."""
        return self.folder / "result.json"


# The link to the daemon: events go out as JSON lines on the original standard output, commands come in as
# JSON lines on standard input. Out: ``step``, ``checkpoint``, ``say``, ``grade``, ``done``, ``error``. In:
# ``pause``, ``grades``. If standard input closes, the daemon has ended, and this process exits immediately;
# the next attempt continues from the complete data on disk.


STARTER_VARIABLE = "PORTICO_STARTER"
"""Environment variable with the id of the process that started this process as one of several, see
`portico_server.launchers.node_task`.
"""

_PR_SET_PDEATHSIG_CODE = 1


def end_with_starter() -> None:
    """Make this process exit when its parent ends for any reason, because torchrun puts each process in its own
    session.
    """
    starter = os.environ.get(STARTER_VARIABLE)
    if starter is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG_CODE, signal.SIGKILL)
    if os.getppid() != int(starter):  # the parent has already ended
        os._exit(1)


class DaemonLink:
    """The link to the daemon. ``first`` is true in the first of several processes, the only one that sends and
    receives.
    """

    def __init__(self, *, first: bool = True) -> None:
        self.paused = threading.Event()
        """Set when the daemon has asked this process to write a checkpoint and exit."""
        self.first = first
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # output that libraries print goes to the log
        self._lock = threading.Lock()
        self._grades: queue.Queue[list[float]] = queue.Queue()
        if first:
            threading.Thread(target=self._listen, daemon=True, name="daemon").start()

    def send(self, event: str, **values: Any) -> None:
        """Send an event to the daemon."""
        if not self.first:
            return
        with self._lock:
            self._out.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
            self._out.flush()

    def grade(self, answers: list[dict[str, Any]]) -> list[float]:
        """Return the scores that the daemon's grader gives to answers, in order. Each answer has a ``text`` and the
        ``item`` of its line.
        """
        self.send("grade", answers=answers)
        return self._grades.get()

    def _listen(self) -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "pause":
                self.paused.set()
            elif command["do"] == "grades":
                self._grades.put(command["rewards"])
        os._exit(1)  # the other processes end with this process
