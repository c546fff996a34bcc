"""Values as text for a terminal. What comes from documents, models and file names is made harmless here."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from portico.cli.curve import lasts as spell
from portico.cli.render import amount, count_reasons, one_line, safe, shorten
from portico_tui.daemon import Model, Passage, Progress, Store

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
    "safe",
    "shorten",
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


def cell(value: object, style: str = "", width: int | None = None) -> Text:
    """One line that is never read as markup; cut to ``width`` characters if that is given."""
    line = one_line(value)
    return Text(line if width is None else shorten(line, width), style, no_wrap=True, end="")


def model_state(state: str) -> Text:
    """A model's state as a sign and a word."""
    word, style = _MODEL.get(state, (state, ""))
    return cell(word, style)


def file_state(state: str) -> Text:
    """A file's state as a sign and a word."""
    word, style = _FILE.get(state, (state, ""))
    return cell(word, style)


def tuning_state(state: str) -> Text:
    """A fine-tuning job's state as a sign and a word."""
    word, style = _TUNING.get(state, (state, ""))
    return cell(word, style)


def batch_state(state: str) -> Text:
    """A batch's state as a sign and a word."""
    word, style = _BATCH.get(state, (state, ""))
    return cell(word, style)


def lasts(end: float | None) -> str:
    """How long it is until a moment: ``about 12 min left``."""
    if not end:
        return ""
    return f"about {spell(max(0.0, end - datetime.now(UTC).timestamp()))} left"


def counts(store: Store) -> Text:
    """How many files are ready, and of how many; failures in red; behind a minus how many were skipped."""
    files = store.file_counts
    waiting = f"/{files.total - files.failed}" if files.in_progress else ""
    line = Text(f"{files.completed}{waiting}", "yellow" if waiting else "", no_wrap=True)
    if files.failed:
        line.append(f" ✗{files.failed}", "red")
    if store.skipped:
        line.append(f" −{sum(store.skipped.values())}", "dim")
    return line


def clock(seconds: float | None) -> str:
    """The time of a moment in local time, with the day if that is not today."""
    if not seconds:
        return ""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M")


def measure(progress: Progress) -> str:
    """How far a run is: ``12.1 MB of 98.3 MB``, ``3 of 8 files``, or what the run says."""
    if progress.done is None:
        return one_line(progress.message)
    if progress.unit == "bytes":
        done = amount(progress.done)
        return f"{done} of {amount(progress.total)}" if progress.total else done
    of = f" of {progress.total:g}" if progress.total else ""
    return f"{progress.done:g}{of} {one_line(progress.unit)}".rstrip()


def heading(passage: Passage) -> str:
    """Where a passage stands: ``guide.md · line 12 · Install``."""
    place = passage.place.label()
    return one_line(f"{passage.filename} · {place}" if place else passage.filename)


def about(model: Model) -> str:
    """What there is to know about a model beside its state, on one line."""
    known = [
        f"context {model.context_length:,} tokens" if model.context_length else "",
        f"{model.dimensions} dimensions" if model.dimensions else "",
        f"process {model.pid}" if model.pid else "",
        f"loaded {clock(model.loaded_at)}" if model.loaded_at else "",
        f"last used {clock(model.last_used_at)}" if model.last_used_at else "",
    ]
    return " · ".join(part for part in known if part)
