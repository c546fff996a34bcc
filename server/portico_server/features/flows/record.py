"""Journal entries of finished steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from portico_server.db.steps import StepRow, StepStatus, cut
from portico_server.features.flows.note import StepNote
from portico_server.features.flows.scope import Scope
from portico_server.features.flows.spec import FlowStep
from portico_server.runs.journal import Journal, for_trace


def completed(journal: Journal, step: FlowStep, scope: Scope, note: StepNote, started_at: float) -> StepRow:
    """Return the row of a successful step. If the step is a combinator, its input and output are in the rows of its
    inner steps.
    """
    if note.text is None:
        return _row(journal, step, note, "completed", started_at)
    output, is_redacted = _redacted(journal, note.text.decode())
    if not journal.durable:
        output = cut(output)
    return _row(
        journal,
        step,
        note,
        "completed",
        started_at,
        _open_question(journal, scope, note),
        output,
        is_redacted=is_redacted,
    )


def swept_rows(
    journal: Journal,
    step: FlowStep,
    paths: Sequence[str],
    inputs: Sequence[Any],
    texts: Sequence[bytes],
    started_at: float,
    milliseconds: float,
) -> list[StepRow]:
    """Return the rows of many successful items of one step, given their paths, inputs and outputs as JSON.

    The function is a single loop, because creating a row costs as much as calling a small function.
    """
    kind, next, durable, hides = step.kind, journal.next, journal.durable, journal.redaction.active
    rows = []
    for path, value, text in zip(paths, inputs, texts, strict=True):
        output, is_redacted = text.decode(), False
        if hides:
            output, is_redacted = _redacted(journal, output)
            value = journal.redaction.of(value)
        if not durable:
            output = cut(output)
        rows.append(
            StepRow(
                path,
                next(),
                kind,
                "completed",
                1,
                for_trace(value),
                output,
                None,
                started_at,
                milliseconds,
                redacted=is_redacted,
            )
        )
    return rows


def skipped_row(journal: Journal, step: FlowStep, path: str) -> StepRow:
    """Return the row of a step whose ``when`` was false."""
    return _row(journal, step, StepNote(path), "skipped", time.time())


def failed_row(
    journal: Journal,
    step: FlowStep,
    scope: Scope,
    note: StepNote,
    started_at: float,
    error: Mapping[str, Any],
    instead: str | None,
) -> StepRow:
    """Return the row of a failed step; ``instead`` is the output that replaces its own, as JSON, or ``None``."""
    error_text, is_redacted = _redacted(journal, orjson.dumps(error).decode())
    if instead is not None:
        instead, has_more = _redacted(journal, instead)
        is_redacted = is_redacted or has_more
    waiting_for = _open_question(journal, scope, note)
    return _row(
        journal, step, note, "failed", started_at, waiting_for, instead, error_text, is_redacted=is_redacted
    )


def _open_question(journal: Journal, scope: Scope, note: StepNote) -> str | None:
    """Return the input of a step as JSON for the trace."""
    value = note.input if note.input is not None else scope.value
    return for_trace(journal.redaction.of(value) if journal.redaction.active else value)


def _redacted(journal: Journal, text: str) -> tuple[str, bool]:
    """Return JSON with the values replaced that must not be recorded, and whether any value was replaced."""
    if not journal.redaction.active:
        return text, False
    value = orjson.loads(text)
    redacted_value = journal.redaction.of(value)
    return (text, False) if redacted_value is value else (orjson.dumps(redacted_value).decode(), True)


def _row(
    journal: Journal,
    step: FlowStep,
    note: StepNote,
    status: StepStatus,
    started_at: float,
    input: str | None = None,
    output: str | None = None,
    error: str | None = None,
    *,
    is_redacted: bool = False,
) -> StepRow:
    usage = note.usage
    return StepRow(
        note.path,
        journal.next(),
        step.kind,
        status,
        note.attempt,
        input,
        output,
        error,
        started_at,
        note.milliseconds,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        note.hit,
        usage.cost,
        is_redacted,
    )
