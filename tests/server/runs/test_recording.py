"""What a recording keeps of a run, and when it stops."""

from __future__ import annotations

import pytest

from portico.wire import Cited, Delta, Event, Usage
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import AppInput, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.runs.recording import (
    MAX_BYTES,
    MAX_STEPS,
    RecordedApp,
    RecordedError,
    Recording,
    merge_deltas,
    new_step,
)

CARD = Card("sum", "tool")


def recording() -> Recording:
    return Recording(RecordedApp("clerk"), AppInput("hi"))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], []),
        ([Delta("a"), Delta("b"), Delta("c")], [Delta("abc")]),
        ([Delta("a"), Delta("b", 1), Delta("c", 1)], [Delta("a"), Delta("bc", 1)]),
        ([Cited(()), Delta("a"), Usage(), Delta("b")], [Cited(()), Delta("a"), Usage(), Delta("b")]),
    ],
    ids=["none", "one choice", "two choices", "other events between"],
)
def test_pieces_of_one_text_are_joined(events: list[Event], expected: list[Event]) -> None:
    assert merge_deltas(events) == expected


@pytest.mark.parametrize(
    ("count", "size", "is_complete"),
    [(MAX_STEPS, 1, True), (MAX_STEPS + 1, 1, False), (2, MAX_BYTES // 4, True), (2, MAX_BYTES, False)],
    ids=["as many calls as allowed", "too many calls", "large results", "too large results"],
)
def test_a_recording_beyond_a_limit_is_empty(count: int, size: int, is_complete: bool) -> None:
    run = recording()
    for _ in range(count):
        with run.step(run.steps, new_step("tool/sum", CARD, ToolCall({}))) as step:
            step.outcome = ToolResult("x" * size, None, False)
    assert run.is_complete is is_complete
    assert len(run.steps) == (count if is_complete else 0)


def test_the_error_of_a_call_is_kept_with_its_class() -> None:
    run = recording()
    with (
        pytest.raises(InvalidRequest),
        run.step(run.steps, new_step("tool/sum", CARD, ToolCall({}))),
    ):
        raise InvalidRequest("No.", code="no", param="x")
    [step] = run.steps
    assert isinstance(step.outcome, RecordedError)
    assert (step.outcome.kind, step.outcome.body.code) == ("InvalidRequest", "no")


def test_a_call_interrupted_by_its_caller_has_no_recorded_outcome() -> None:
    run = recording()
    with pytest.raises(KeyboardInterrupt), run.step(run.steps, new_step("tool/sum", CARD, ToolCall({}))):
        raise KeyboardInterrupt
    assert run.steps[0].outcome is None
