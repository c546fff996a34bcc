"""Conversion of values to text for a terminal. This module also makes text from documents, models and file names
safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from rich.text import Text

from portico.cli.curve import lasts as span
from portico.cli.render import amount, count_reasons, one_line, safe, shorten
from portico_tui.daemon import Model, Passage, Progressed, Store

__all__ = [
    "about",
    "amount",
    "batch_state",
    "cell",
    "clock",
    "count_reasons",
    "counts",
    "file_state",
    "heading",
    "lasts",
    "measure",
    "model_state",
    "one_line",
    "run_state",
    "safe",
    "shorten",
    "source_state",
    "span",
    "tuning_state",
]

_MODEL = {
    "cold": ("○ cold", "dim"),
    "downloading": ("↓ fetching", "yellow"),
    "loading": ("◐ loading", "yellow"),
    "unloading": ("◑ unloading", "yellow"),
    "ready": ("● ready", "green"),
    "failed": ("✗ failed", "red"),
}

_BATCH = {
    "validating": ("○ checking", "dim"),
    "in_progress": ("◐ at work", "yellow"),
    "finalizing": ("◐ writing", "yellow"),
    "completed": ("● completed", "green"),
    "cancelling": ("◑ cancelling", "yellow"),
    "cancelled": ("○ cancelled", "dim"),
    "expired": ("✗ expired", "red"),
    "failed": ("✗ failed", "red"),
}

_FILE = {
    "completed": ("● ready", "green"),
    "in_progress": ("◐ reading", "yellow"),
    "failed": ("✗ failed", "red"),
    "cancelled": ("○ cancelled", "dim"),
    "skipped": ("− skipped", "dim"),
}

_TUNING = {
    "validating_files": ("◐ checking", "yellow"),
    "queued": ("○ queued", "dim"),
    "running": ("◐ training", "yellow"),
    "paused": ("◑ paused", "dim"),
    "succeeded": ("● done", "green"),
    "failed": ("✗ failed", "red"),
    "cancelled": ("○ cancelled", "dim"),
}

_RUN = {
    "queued": ("○ queued", "dim"),
    "running": ("◐ running", "yellow"),
    "in_progress": ("◐ running", "yellow"),
    "waiting": ("◑ waiting", "yellow"),
    "completed": ("● completed", "green"),
    "failed": ("✗ failed", "red"),
    "skipped": ("− skipped", "dim"),
    "stopped": ("○ stopped", "dim"),
    "cancelled": ("○ cancelled", "dim"),
    "canceled": ("○ cancelled", "dim"),
}

_SOURCE = {
    "ready": ("● ready", "green"),
    "starting": ("◐ starting", "yellow"),
    "waiting": ("◑ waiting", "yellow"),
    "stopped": ("○ stopped", "dim"),
    "failed": ("✗ failed", "red"),
}


def cell(value: object, style: str = "", width: int | None = None) -> Text:
    """Format a value as one line, which is never parsed as markup. If ``width`` is given, truncate the line to that
    many characters.
    """
    line = one_line(value)
    return Text(line if width is None else shorten(line, width), style, no_wrap=True, end="")


def _state_of(words: Mapping[str, tuple[str, str]], state: str) -> Text:
    word, style = words.get(state, (state, ""))
    return cell(word, style)


model_state = partial(_state_of, _MODEL)
"""Return a model's state as a symbol and a word."""

file_state = partial(_state_of, _FILE)
"""Return a file's state as a symbol and a word."""

tuning_state = partial(_state_of, _TUNING)
"""Return a fine-tuning job's state as a symbol and a word."""

batch_state = partial(_state_of, _BATCH)
"""Return a batch's state as a symbol and a word."""

run_state = partial(_state_of, _RUN)
"""Return the state of a run, of a step or of an evaluation as a symbol and a word."""

source_state = partial(_state_of, _SOURCE)
"""Return the state of an MCP server or of another tool source as a symbol and a word."""


def lasts(end: float | None) -> str:
    """Format the time that remains until ``end``, such as ``about 12 min left``."""
    if not end:
        return ""
    return f"about {span(max(0.0, end - datetime.now(UTC).timestamp()))} left"


def counts(store: Store) -> Text:
    """Return the number of ready files, and also the expected number while files are being read. Failed files follow
    in red, skipped files after a minus sign.
    """
    files = store.file_counts
    expected_count = f"/{files.total - files.failed}" if files.in_progress else ""
    line = Text(f"{files.completed}{expected_count}", "yellow" if expected_count else "", no_wrap=True)
    if files.failed:
        line.append(f" ✗{files.failed}", "red")
    if store.skipped:
        line.append(f" −{sum(store.skipped.values())}", "dim")
    return line


def clock(seconds: float | None) -> str:
    """Format a time as local time, with the day if that is not today."""
    if not seconds:
        return ""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M")


def measure(progress: Progressed) -> str:
    """Format the progress of a run: ``12.1 MB of 98.3 MB``, ``3 of 8 files``, or the run's own message."""
    if progress.done is None:
        return one_line(progress.message)
    if progress.unit == "bytes":
        done_text = amount(progress.done)
        return f"{done_text} of {amount(progress.total)}" if progress.total else done_text
    of = f" of {progress.total:g}" if progress.total else ""
    return f"{progress.done:g}{of} {one_line(progress.unit)}".rstrip()


def heading(passage: Passage) -> str:
    """Return the file and location of a passage, such as ``guide.md · line 12 · Install``."""
    place = passage.place.label()
    return one_line(f"{passage.filename} · {place}" if place else passage.filename)


def about(model: Model) -> str:
    """Return details of a model other than its state, on one line."""
    facts = [
        f"context {model.context_length:,} tokens" if model.context_length else "",
        f"{model.dimensions} dimensions" if model.dimensions else "",
        f"process {model.pid}" if model.pid else "",
        f"loaded {clock(model.loaded_at)}" if model.loaded_at else "",
        f"last used {clock(model.last_used_at)}" if model.last_used_at else "",
    ]
    return " · ".join(part for part in facts if part)
