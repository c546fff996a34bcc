"""The actions of an agent's turn, as separate steps in the journal of a durable run.

Each model call and tool call is recorded under its place, such as ``clerk.ask.refund[0]``: the step of the turn, the
tool, the number of the call. A restarted turn reads the recorded calls from the journal, and continues with the first
call that is missing. A record belongs to one request: if the request at the same place has changed, the run fails
instead of using the record.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson

from portico.wire import Usage
from portico_server.core.errors import Conflict, PorticoError
from portico_server.core.ids import new_id
from portico_server.db.steps import CALLED_FLOW, StepRow
from portico_server.runs.enclosing_step import GIVEN, EnclosingStep, durable_step, enclosed
from portico_server.runs.journal import Journal, effect_key, for_trace

ASKED: Final = "asked"
"""Key under which the output of a recorded call stores the digest of the request."""


STEP_CHANGED: Final = "step_changed"
"""Error code of a run that would no longer do what it did before its interruption."""


class TurnCutOff(Exception):
    """The turn cannot continue: its journal cannot be written, or contains another request.

    This is not an error of a call, which would be reported to the model.
    """

    def __init__(self, error: PorticoError) -> None:
        super().__init__(error.message)
        self.error = error


_Found = TypeVar("_Found")


class TurnSteps:
    """The calls of one agent's turn. Without a durable journal, calls get places but are not recorded."""

    __slots__ = ("_around", "_counts", "_ids", "_journal", "_path", "_run")

    def __init__(self, run: str, around: EnclosingStep, path: str) -> None:
        self._run = run
        self._around = around
        self._journal = around.journal if around.journal is not None and around.journal.durable else None
        self._path = path
        self._counts: Counter[str] = Counter()
        self._ids = 0

    @classmethod
    def here(cls, run: str) -> TurnSteps:
        """Return the steps of the next turn within the current step. Without a journal, the name of the steps is
        unique to the turn.
        """
        around = durable_step(run)
        if around is None:
            return cls(run, EnclosingStep(""), new_id("call_"))
        return cls(run, around, around.turn_path())

    @property
    def durable(self) -> bool:
        """Return whether calls are recorded."""
        return self._journal is not None

    def place(self, name: str) -> str:
        """Return the place of the next call of ``name``."""
        self._counts[name] += 1
        return self.place_of(f"{name}[{self._counts[name] - 1}]")

    def place_of(self, name: str) -> str:
        """Return the place of an action that occurs only once in a turn."""
        return f"{self._path}.{name}" if self._path else name

    def below(self, place: str) -> TurnSteps:
        """Return the steps of another agent's turn, which was called at ``place``."""
        return TurnSteps(self._run, self._around, place)

    def key(self, place: str) -> str:
        """Return a key that identifies the effect of a call. A repetition of the call has the same key."""
        return effect_key(self._run, self._around.turn, place)

    def call_id(self) -> str:
        """Return an id for a call to which the model gave none. After a restart of the turn, the id is the same."""
        if self._journal is None:
            return new_id("call_")
        self._ids += 1
        return f"call_{hashlib.sha256(self.key(f'{self._path}#{self._ids}').encode()).hexdigest()[:24]}"

    def is_recorded(self, place: str) -> bool:
        """Return whether a call was recorded before the run was interrupted."""
        return self._journal is not None and self._journal.find(place) is not None

    async def once(
        self,
        place: str,
        kind: str,
        request: Any,
        work: Callable[[], Awaitable[_Found]],
        dump: Callable[[_Found], dict[str, Any]],
        load: Callable[[Any], _Found],
        *,
        shown_request: Any = None,
        settle: bool = True,
    ) -> _Found:
        """Return the recorded result of ``work``. If there is none, call ``work`` and record its result.

        ``settle``: wait until all writes are finished before and after the call. ``request`` is the input on which the
        result depends, as JSON; ``shown_request`` is the version for the trace, if the trace shows more. Raise
        `TurnCutOff`.
        """
        if self._journal is None:
            return await work()
        recorded_output = self.find(place, request)
        if recorded_output is not None:
            return load(recorded_output)
        self._around.answered = None
        if settle:
            await self._wait_until_written(self._journal)
        started_at, clock = time.time(), time.perf_counter()
        inner = EnclosingStep(place, self._around.turn, "", self._journal, self._around.take)
        inner.within = self._around.start
        with enclosed(inner):
            result = await work()
        elapsed_ms = (time.perf_counter() - clock) * 1e3
        await self.record(
            place,
            kind,
            request,
            dump(result),
            started_at,
            elapsed_ms,
            shown_request=shown_request,
            settle=settle,
        )
        return result

    def find(self, place: str, request: Any) -> dict[str, Any] | None:
        """Return the record of a call. Raise `TurnCutOff` if the recorded request differs."""
        row = self._journal.find(place) if self._journal is not None else None
        if row is None or self._journal is None:
            return None
        recorded_output: dict[str, Any] = orjson.loads(row.output or b"{}")
        if recorded_output.pop(ASKED, None) != _digest(self._journal, request):
            raise TurnCutOff(_change_conflict(place, self._around.start))
        self._around.answered = row if row.kind == "llm" else None
        if row.kind == "llm":
            self._journal.replayed += Usage(**recorded_output["usage"])
        return recorded_output

    async def record(
        self,
        place: str,
        kind: str,
        request: Any,
        output_document: dict[str, Any],
        started_at: float,
        milliseconds: float,
        *,
        shown_request: Any = None,
        settle: bool = True,
    ) -> None:
        """Record the output of a call. ``settle``: the record is written on return. Raise `TurnCutOff`."""
        journal = self._journal
        if journal is None:
            return
        redaction, is_redacted = journal.redaction, False
        shown_request = request if shown_request is None else shown_request
        if redaction.active:
            hidden = redaction.of(output_document)
            output_document, is_redacted, shown_request = (
                hidden,
                hidden is not output_document,
                redaction.of(shown_request),
            )
        output = orjson.dumps({**output_document, ASKED: _digest(journal, request)})
        try:
            self._around.take(len(output), place)
        except PorticoError as error:
            raise TurnCutOff(error) from error
        row = StepRow(
            place,
            journal.next(),
            kind,
            "completed",
            1,
            for_trace(shown_request),
            output.decode(),
            None,
            started_at,
            milliseconds,
            redacted=is_redacted,
        )
        await self._add(journal, row, settle=settle)
        self._around.answered = row if kind == "llm" else None

    async def reject(self, error: PorticoError) -> None:
        """End the turn with an error after an unusable answer of the model. A restarted turn requests the answer
        again.
        """
        row = self._around.answered
        if self._journal is not None and row is not None and row.path.rpartition(".")[0] == self._path:
            error_text = orjson.dumps(error.body().to_json()["error"]).decode()
            failed_row = row._replace(
                seq=self._journal.next(), status="failed", output=None, error=error_text
            )
            await self._add(self._journal, failed_row, settle=True)

    @staticmethod
    async def _add(journal: Journal, row: StepRow, *, settle: bool) -> None:
        try:
            journal.add(row, settle=settle, is_announced=False)
        except PorticoError as error:
            raise TurnCutOff(error) from error
        if settle or journal.ahead:
            await TurnSteps._wait_until_written(journal)

    @staticmethod
    async def _wait_until_written(journal: Journal) -> None:
        try:
            await journal.wait_until_written()
        except PorticoError as error:
            raise TurnCutOff(error) from error


def _digest(journal: Journal, request: Any) -> str:
    redacted_request = journal.redaction.of(request) if journal.redaction.active else request
    text = orjson.dumps(redacted_request, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


async def place_of_flow(
    around: EnclosingStep, journal: Journal, name: str, spec: Any, input_value: Any
) -> str:
    """Return the place of the steps of a flow that is called within a step of a durable run.

    If an earlier attempt called the flow with the same input, reuse that place. Raise `Conflict` if the flow's
    specification has changed since then.
    """
    digest = _digest(journal, [name, input_value])
    place = around.flow_place(journal, digest)
    steps = TurnSteps(journal.run_id, EnclosingStep(place, around.turn, "", journal, around.take), place)
    request = [spec, digest]
    try:
        if steps.find(place, request) is None:
            output_document = {GIVEN: digest}
            await steps.record(
                place,
                CALLED_FLOW,
                request,
                output_document,
                time.time(),
                0.0,
                shown_request=input_value,
                settle=False,
            )
    except TurnCutOff as cutoff:
        raise cutoff.error from cutoff
    return place


def _change_conflict(place: str, step: str) -> Conflict:
    """Return the error for a turn whose request differs from the request before the interruption."""
    return Conflict(
        f"'{place}' was recorded before this run was interrupted, and its request differs now: the agent, "
        "one of its hooks, its session, its tools or the flow that it calls has changed since. The record was "
        "not used, and nothing was repeated. Start a new run, or repeat everything: resume the run from "
        f"'{step}'.",
        code=STEP_CHANGED,
        param="from",
    )
