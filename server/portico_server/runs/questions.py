"""Questions that runs ask: approvals, functions that a client executes, input from a person."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

from portico.wire import Answered, Asked
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NotFound,
    PorticoError,
)
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.question import SERVED, GivenAnswer, NewQuestion, QuestionStatus
from portico_server.db import questions as rows
from portico_server.db.database import Database
from portico_server.db.questions import QuestionRow
from portico_server.db.rows import RowPage
from portico_server.runs.run import Run

logger = logging.getLogger(__name__)

Approvers: TypeAlias = Literal["owner", "admin"]

POLL_INTERVAL_S: Final = 1.0
"""Seconds between checks for answers that another daemon on the same database received."""

MAX_UNREAD_CHANGES: Final = 1_000
"""Maximum number of changes that a watcher can lag behind. Then the watcher is dropped, reconnects, and reads the
current state.
"""


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """Function questions that a worker has claimed, and those that it has lost."""

    taken: Sequence[QuestionRow]
    lost: Sequence[str]


class QuestionService:
    """Stores every question as a row, and notifies the waiting run of the answer immediately.

    ``approvers``: who can answer approvals: the owner of the run, or only admins. All other questions are answered by
    the owner of the run.
    """

    def __init__(self, database: Database, *, approvers: Approvers = "owner") -> None:
        self._database = database
        self._approvers = approvers
        self._events: dict[str, set[asyncio.Event]] = {}
        self._asked_event: set[str] = set()
        self._watchers: set[asyncio.Queue[QuestionRow | None]] = set()
        self._change_event = asyncio.Event()

    async def start(self, *, is_alone: bool) -> None:
        """Start the service.

        ``is_alone``: no other daemon shares the database. The runs in memory that had open questions no longer exist,
        so these questions are ended.
        """
        if is_alone:
            await self._database.write(rows.end_orphans)

    async def run(self, *, is_alone: bool) -> None:
        """Check for answers that another daemon received, until cancelled. Return if there is no other daemon."""
        while not is_alone:
            await asyncio.sleep(POLL_INTERVAL_S)
            if not self._events:
                continue
            try:
                settled_ids = await self._database.read(rows.settled_ids, list(self._events))
            except PorticoError as error:
                logger.warning("could not check for answers: %s", error.message)
                continue
            for question_id in settled_ids:
                self._wake(question_id)

    async def ask(self, run: Run, question: NewQuestion) -> GivenAnswer:
        """Ask a question and wait for the answer; see `portico_server.core.context.Context.ask`.

        If the question has a ``key``, an answer from before an interruption of the run is returned immediately.
        """
        self._asked_event.add(run.id)
        try:
            with run.pause_deadline():
                row = await self._database.write(rows.ask, _row(run, question))
                if row.status == "pending":
                    row = await self._wait(run, row, withdraw=not question.key)
        finally:
            if run.durable and run.status == "running":
                await self._database.write(rows.resume_run, run.id)
        await run.log.emit(Answered(row.id, row.accepted is True, row.answered_by or ""))
        return GivenAnswer(row.accepted is True, row.value, row.note or "", row.answered_by or "")

    async def _wait(self, run: Run, row: QuestionRow, *, withdraw: bool) -> QuestionRow:
        """Return the row once the question is answered. ``withdraw``: if the wait is cancelled, withdraw the
        question.
        """
        event = asyncio.Event()
        self._events.setdefault(row.id, set()).add(event)
        try:
            self._tell(row)
            async with asyncio.timeout(max(0.0, row.expires_at - time.time())):
                await run.log.emit(asked_event(row))
                while row.status == "pending":
                    event.clear()
                    row = await self._read(row.id)
                    if row.status == "pending":
                        await event.wait()
        except TimeoutError:
            row = await self._end(row.id, "expired")
        except asyncio.CancelledError:
            if withdraw:
                await self._end(row.id, "cancelled")
            raise
        finally:
            events = self._events.get(row.id, set())
            events.discard(event)
            if not events:
                self._events.pop(row.id, None)
        if row.status == "answered":
            return row
        if row.status == "cancelled":
            raise Conflict(f"The question of '{row.name}' was withdrawn.", code="question_cancelled")
        raise DeadlineExceeded(
            f"Nobody answered '{row.name}' within {row.expires_at - row.created_at:g} s. List open questions "
            "with 'portico approvals list'.",
            code="question_expired",
        )

    async def end_of_run(self, run: Run) -> None:
        """Withdraw the open questions of an ended run."""
        if run.id not in self._asked_event:
            return
        self._asked_event.discard(run.id)
        for question_id in await self._database.write(rows.end_of_run, run.id):
            self._tell(await self._read(question_id))

    async def get(
        self, question_id: str, caller: Principal, granted_functions: Collection[str] = ()
    ) -> QuestionRow:
        """Return a question if this caller can see it. Raise `NotFound` otherwise.

        ``granted_functions`` are names of functions that this caller serves for every caller.
        """
        row = await self._database.read(rows.get, question_id)
        if row is None or not (caller.sees(row.owner) or _is_granted(row, granted_functions)):
            raise NotFound(
                f"The question '{question_id[:80]}' does not exist.", code="question_not_found", param="id"
            )
        return row

    def is_awaited_here(self, question_id: str) -> bool:
        """Return whether a run of this daemon waits for the answer."""
        return question_id in self._events

    async def list(
        self,
        caller: Principal,
        *,
        status: QuestionStatus | None = None,
        run_id: str | None = None,
        limit: int = 100,
    ) -> RowPage[QuestionRow]:
        """Return the caller's questions, newest first; for an admin, return all questions."""
        owner = None if caller.admin else caller.id
        return await self._database.read(rows.newest, owner, status=status, run_id=run_id, limit=limit)

    async def answer(
        self,
        question_id: str,
        caller: Principal,
        *,
        is_accepted: bool,
        value: Any = None,
        note: str = "",
        worker: str = "",
        granted_functions: Collection[str] = (),
    ) -> QuestionRow:
        """Answer a question. On return, the run continues. ``worker`` is the name of the client that executed a
        function.

        Raise `NotFound`; `Forbidden` if only an admin can approve, or if the question is a call of a shared function
        that the caller does not serve; `InvalidRequest` if the value does not match the question's schema; `Conflict`
        if the question was answered, has expired or was withdrawn.
        """
        row = await self.get(question_id, caller, granted_functions)
        if _is_call_of_others(row, caller) and not _is_granted(row, granted_functions):
            raise Forbidden(
                f"Only workers that serve '{row.name.removeprefix(SERVED)}' can answer its calls. To end a call, "
                "cancel its run."
            )
        if row.kind == "approval" and self._approvers == "admin" and not caller.admin:
            raise Forbidden(
                "Only an admin can give approvals (setting 'approvals'). Ask the operator to run 'portico "
                f"approvals show {row.id}'."
            )
        if row.status == "pending" and is_accepted:
            _check(row, value)
        by = _holder(caller, worker) if worker and row.kind == "function" else caller.id
        question_row = await self._database.write(
            rows.answer, row.id, is_accepted, value if is_accepted else None, note, by
        )
        if question_row is None:
            raise _too_late(await self._read(row.id))
        self._tell(question_row)
        return question_row

    async def claim(
        self,
        caller: Principal,
        worker: str,
        lease: float,
        *,
        names: Sequence[str],
        granted_functions: Sequence[str] = (),
        run_id: str | None = None,
        limit: int = 1,
        wait: float = 0.0,
        holding: Sequence[str] = (),
    ) -> ClaimResult:
        """Claim up to ``limit`` function questions for ``lease`` seconds, and extend the leases of ``holding``
        equally.

        Eligible are questions with one of the ``names`` from the caller's own runs, except calls of served functions,
        and questions with one of the ``granted_functions`` from any run. Waits up to ``wait`` seconds for the first
        question. A question whose lease expires goes to another worker.
        """
        holder = _holder(caller, worker)
        run_names = [name for name in names if not name.startswith(SERVED)]
        lost_ids = await self._database.write(rows.renew, holding, holder, lease)
        question_rows: list[QuestionRow] = []
        until = asyncio.get_running_loop().time() + wait
        while limit and not lost_ids:
            event = self._change_event
            try:
                question_rows = await self._database.write(
                    rows.claim,
                    holder,
                    lease,
                    names=run_names,
                    served_names=granted_functions,
                    owner=caller.id,
                    run_id=run_id,
                    limit=limit,
                )
            except asyncio.CancelledError:
                await self._let_go(holder, holding)  # nobody receives the questions that were claimed
                raise
            remaining_s = until - asyncio.get_running_loop().time()
            if question_rows or remaining_s <= 0:
                break
            with suppress(TimeoutError):
                # An expired lease sends no notification, so check again soon.
                async with asyncio.timeout(min(remaining_s, POLL_INTERVAL_S)):
                    await event.wait()
        return ClaimResult(question_rows, lost_ids)

    async def let_go(self, caller: Principal, worker: str) -> None:
        """Release the unanswered questions of a worker that leaves."""
        await self._let_go(_holder(caller, worker))

    async def watch(self, caller: Principal) -> AsyncIterator[QuestionRow]:
        """Yield the open questions, oldest first, and then each question that is asked, answered or ended."""
        queue: asyncio.Queue[QuestionRow | None] = asyncio.Queue(MAX_UNREAD_CHANGES)
        self._watchers.add(queue)
        try:
            for row in reversed((await self.list(caller, status="pending", limit=MAX_UNREAD_CHANGES)).data):
                yield row
            while (change := await queue.get()) is not None:
                if caller.sees(change.owner):
                    yield change
        finally:
            self._watchers.discard(queue)

    async def _let_go(self, holder: str, keep: Sequence[str] = ()) -> None:
        await self._database.write(rows.release, holder, keep)
        self._announce()

    async def _read(self, question_id: str) -> QuestionRow:
        row = await self._database.read(rows.get, question_id)
        assert row is not None
        return row

    async def _end(self, question_id: str, status: QuestionStatus) -> QuestionRow:
        row = await self._database.write(rows.end, question_id, status)
        assert row is not None
        if row.status == status:
            self._tell(row)
        return row

    def _wake(self, question_id: str) -> None:
        for event in self._events.get(question_id, ()):
            event.set()

    def _announce(self) -> None:
        """Notify every worker that waits for work."""
        self._change_event.set()
        self._change_event = asyncio.Event()

    def _tell(self, row: QuestionRow) -> None:
        """Notify the waiting run, the workers that wait for work, and the watchers."""
        self._wake(row.id)
        for queue in tuple(self._watchers):
            if queue.full():  # the watcher is too slow: drop its unread changes, and tell it to reconnect
                queue.get_nowait()
                queue.put_nowait(None)
                self._watchers.discard(queue)
            else:
                queue.put_nowait(row)
        self._announce()


def _row(run: Run, question: NewQuestion) -> QuestionRow:
    if question.kind == "function" and not question.served and question.name.startswith(SERVED):
        # The question would be given to workers that serve the function for others, although it does not come
        # from that tool.
        raise InvalidRequest(
            f"'{question.name[:80]}' cannot be the name of a client's function: it begins with '{SERVED}'. "
            "Call a served function as a tool.",
            code="invalid_name",
            param="function",
        )
    question_id = new_id("ask_")
    try:
        # Same form as in the row, so that a repeated question has equal arguments.
        arguments = json.loads(json.dumps(dict(question.arguments), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"The question of '{question.name}' cannot be written as JSON: {error}.", param="arguments"
        ) from error
    now = time.time()
    return QuestionRow(
        id=question_id,
        run_id=run.id,
        key=question.key or question_id,
        owner=run.owner,
        kind=question.kind,
        name=question.name,
        message=question.message,
        arguments=arguments,
        answer_schema=dict(question.answer_schema) if question.answer_schema is not None else None,
        created_at=now,
        expires_at=now + question.limit,
    )


def _holder(caller: Principal, worker: str) -> str:
    """Return the name of a lease's holder. Workers choose their names, so a name is unique only within one key."""
    return f"{caller.id}:{worker}"


def asked_event(row: QuestionRow) -> Asked:
    """Return the event that shows a question to followers of its run."""
    return Asked(
        row.id,
        row.kind,
        row.name,
        row.message,
        row.arguments,
        row.answer_schema,
        row.expires_at,
        row.effect,
    )


def _is_granted(row: QuestionRow, granted_functions: Collection[str]) -> bool:
    return row.kind == "function" and row.name in granted_functions


def _is_call_of_others(row: QuestionRow, caller: Principal) -> bool:
    """Return whether the question is a call of a shared function, whose result the run's owner must not invent."""
    if caller.admin or row.kind != "function" or not row.name.startswith(SERVED):
        return False
    return not row.name.startswith(f"{SERVED}{caller.id}/")


def _check(row: QuestionRow, value: Any) -> None:
    if row.answer_schema is None:
        return
    from portico_server.core.json_schema import JsonSchema

    schema: Mapping[str, Any] = row.answer_schema
    fault = JsonSchema(row.name, schema).fault(value)
    if fault is not None:
        raise InvalidRequest(
            f"Invalid answer to '{row.name}': at value{fault.path}, {fault.message}. Schema path: "
            f"{fault.rule}.",
            code="invalid_answer",
            param=f"value{fault.path}",
        )


def _too_late(row: QuestionRow) -> Conflict:
    match row.status:
        case "answered":
            outcome = "accepted" if row.accepted else "refused"
            return Conflict(f"This was already {outcome}, by '{row.answered_by}'.", code="already_answered")
        case "cancelled":
            return Conflict("The run that asked this question has ended.", code="question_cancelled")
        case _:
            return Conflict(
                f"Nobody answered '{row.name}' in time; the run has given up.", code="question_expired"
            )
