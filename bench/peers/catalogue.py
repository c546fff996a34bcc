"""The ten tasks: how each is started, its correct result, and where its programs are stored.

A program is copied as ``main.py`` beside the task's data into an empty folder, is started there once for each entry of
``starts``, and prints its result as JSON on its last line. The model's address is in ``OPENAI_BASE_URL`` and
``OPENAI_API_BASE``, its key in ``OPENAI_API_KEY``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OURS = "portico"
PEERS = ("langgraph", "llamaindex", "lazyllm", "lagent")
CONFIGURATION = HERE / "portico.yaml"
EFFECTS = "effects.txt"
"""File in which a task's tools write a line for every action, so that repeated actions are visible."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task. ``kill_after``: the number of model answers that a program has received when it is killed."""

    name: str
    title: str
    right: Callable[[Any], bool]
    kill_after: int = 1
    starts: Sequence[Sequence[str]] = ((),)
    effects: int = 0

    @property
    def folder(self) -> Path:
        """The folder of its programs and data."""
        return HERE / "tasks" / self.name

    def program(self, name: str) -> Path:
        """Return our program or a peer's program, which may be missing."""
        return self.folder / f"{name}.py"

    def names(self) -> Sequence[str]:
        """Return the names that have a program for the task, ours first."""
        return [name for name in (OURS, *PEERS) if self.program(name).exists()]

    def lay_out(self, name: str, folder: Path) -> None:
        """Copy the program and its data into an empty ``folder``."""
        data = self.folder / "data"
        if data.exists():
            shutil.copytree(data, folder, dirs_exist_ok=True)
        shutil.copy(self.program(name), folder / "main.py")


def result_of(output: str) -> Any:
    """Return the JSON on the last line of a program's output, or None if that line has none."""
    lines = [line for line in output.splitlines() if line.strip()]
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def effects_in(folder: Path) -> int:
    """Return how often the tools of a task acted."""
    file = folder / EFFECTS
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


def _says(*parts: str) -> Callable[[Any], bool]:
    return lambda result: isinstance(result, str) and all(part in result for part in parts)


def _folder(result: Any) -> bool:
    wanted = [("230 degrees", "bread.md"), ("300 mooncakes", "mooncakes.md"), ("at six", "hours.md")]
    return (
        isinstance(result, list)
        and len(result) == 3
        and all(
            said in one["answer"] and one["source"].endswith(file)
            for one, (said, file) in zip(result, wanted, strict=True)
        )
    )


INVOICES = [
    {"number": "2026-09", "seller": "Northern Power", "total": 312.5, "currency": "EUR"},
    {"number": "2026-17", "seller": "Mill by the River", "total": 840.0, "currency": "EUR"},
    {"number": "2026-21", "seller": "Beijing Knives", "total": 460.0, "currency": "CNY"},
]

TASKS = {
    task.name: task
    for task in (
        Task("folder", "Chat over a folder: three questions, each answer with its file", _folder),
        Task("agent", "An agent that calls two tools", _says("90 euros")),
        Task("extraction", "Three invoices as objects of a schema", lambda result: result == INVOICES),
        Task(
            "routing",
            "Three wishes, each answered by whoever is in charge",
            lambda result: result == [f"Answered by {name}." for name in ("billing", "repair", "chat")],
            kill_after=3,
        ),
        Task(
            "summary",
            "Sixteen reports summed up at once, then their sums",
            _says("16 branches", "2536 loaves"),
            kill_after=8,
        ),
        Task("handoff", "A desk hands over to the agent who sells tickets", _says("18 euros")),
        Task(
            "memory",
            "A conversation over three starts of the program",
            _says("Ada", "rye"),
            starts=(
                ("My name is Ada.",),
                ("I like rye bread.",),
                ("What is my name, and which bread do I like?",),
            ),
        ),
        Task(
            "approval",
            "A person approves before a tool acts; the program is started again in between",
            _says("12 euros"),
            starts=((), ("approve",)),
            effects=1,
        ),
        Task("order", "An order of five steps, two of which have effects", _says("on the way"), effects=2),
        Task(
            "rerank",
            "A search over documents, put in order by a model",
            lambda result: isinstance(result, list) and len(result) == 3 and result[0].endswith("flat.md"),
            kill_after=0,
        ),
    )
}
