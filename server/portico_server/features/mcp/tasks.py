"""Long calls as tasks: the extension ``io.modelcontextprotocol/tasks`` of revision 2026-07-28.

For clients that declare the extension, the server decides whether a call becomes a task. A task is a run: it has the
run's state, the run's questions are its ``inputRequests``, and only the caller that started it can see it. How a task
ended is stored in its row, and announced after the row is written. https://github.com/modelcontextprotocol/ext-tasks
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from portico.wire import ErrorBody
from portico_server.core import app_functions
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import AppOutput, ChatReply, Result, SearchResult, ToolResult
from portico_server.db import runs
from portico_server.db import tasks as rows
from portico_server.db.database import Database
from portico_server.db.runs import RunRow
from portico_server.db.tasks import TaskRow, TaskStatus
from portico_server.features.mcp import follow, inquiry, result
from portico_server.features.mcp.follow import ClientGone
from portico_server.features.mcp.held import RESULT_LIFETIME_S, HeldRun, HeldRuns
from portico_server.features.mcp.incoming import caller_of, extension_of
from portico_server.features.mcp.library import Library
from portico_server.features.mcp.result import failure
from portico_server.runs.questions import QuestionService
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

EXTENSION: Final = "io.modelcontextprotocol/tasks"

POLL_INTERVAL_MS: Final = 500
"""Milliseconds that clients should wait between polls."""


class TaskParams(types.RequestParams):
    """Parameters that identify a task."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to the questions of a task, under the same keys as in its ``inputRequests``."""

    input_responses: dict[str, dict[str, Any]]


class TaskNotification(BaseModel):
    """The state of a task, sent to listeners."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


class TaskCalls:
    """Handlers of ``tasks/get``, ``tasks/update`` and ``tasks/cancel``."""

    def __init__(
        self,
        held_runs: HeldRuns,
        tasks: KeptTasks,
        registry: Registry,
        runner: Runner,
        library: Library,
        questions: QuestionService,
    ) -> None:
        self._held_runs = held_runs
        self._task_store = tasks
        self._registry = registry
        self._runner = runner
        self._library = library
        self._questions = questions

    def is_supported_by(self, context: ServerRequestContext[Any]) -> bool:
        """Return whether the client of this request accepts a task as the response to a call."""
        return context.protocol_version in MODERN_PROTOCOL_VERSIONS and extension_of(context, EXTENSION)

    def require(self, context: ServerRequestContext[Any]) -> None:
        """Raise `MCPError` unless the client has declared the extension."""
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(
                types.METHOD_NOT_FOUND, "Tasks require revision 2026-07-28 or later.", context.method
            )
        if not extension_of(context, EXTENSION):
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"This method requires the extension {EXTENSION}, which the client did not declare.",
                {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
            )

    async def begin(
        self, context: ServerRequestContext[Any], run: Run, client_gone: ClientGone
    ) -> dict[str, Any]:
        """Continue a call as a task, and return the response to the call. Raise `PorticoError` if the task cannot be
        stored.
        """
        held_run = self._held_runs.hold(run, client_gone.seen, client_gone.message, at_end=self._end)
        try:
            await self._task_store.begin(held_run)
        except PorticoError:
            self._held_runs.release(held_run)
            raise
        return {"resultType": "task", **_state(context, held_run)}

    async def get(self, context: ServerRequestContext[Any], params: TaskParams) -> dict[str, Any]:
        """Handle ``tasks/get``."""
        self.require(context)
        return await self.describe(context, await self._find(context, params))

    async def update(self, context: ServerRequestContext[Any], params: UpdateParams) -> dict[str, Any]:
        """Handle ``tasks/update``. Ignore answers to questions that are not open."""
        self.require(context)
        task = await self._find(context, params)
        if isinstance(task, TaskRow):
            _require_local(task)
            return {}
        responses = {
            question: inquiry.read(task.questions[question], response)
            for question, response in params.input_responses.items()
            if question in task.questions
        }
        try:
            await follow.answer_all(self._questions, context, task, responses)
        except PorticoError as error:
            raise MCPError(types.INVALID_PARAMS, error.message) from error
        return {}

    async def cancel(self, context: ServerRequestContext[Any], params: TaskParams) -> dict[str, Any]:
        """Handle ``tasks/cancel``. A task that has ended stays unchanged."""
        self.require(context)
        task = await self._find(context, params)
        if isinstance(task, TaskRow):
            _require_local(task)
        else:
            await task.run.cancel()
        return {}

    async def describe(self, context: ServerRequestContext[Any], task: HeldRun | TaskRow) -> dict[str, Any]:
        """Return a task with the details of its status: its result, its questions, or its error."""
        if isinstance(task, TaskRow):
            return await self._task_of_row(task, caller_of(context))
        state = _state(context, task)
        match state["status"]:
            case "completed":
                state["result"] = _json(await self._result(task, caller_of(context)))
            case "input_required":
                questions = inquiry.requests(context, task.questions.values())
                state["inputRequests"] = {key: _json(request) for key, request in questions.items()}
        return state

    async def visible(self, context: ServerRequestContext[Any], task_id: str) -> HeldRun | TaskRow | None:
        """Return a task if it belongs to this caller, otherwise ``None``."""
        caller = caller_of(context)
        held_run = self._held_runs.get(task_id, caller)
        if held_run is not None:
            return held_run
        row = await self._task_store.find(task_id, caller)
        if row is None or row.status != "working":
            return row
        run = self._runner.get(row.run_id)
        if run is not None and run.durable:
            # The task was resumed on this daemon. While this request read the database, another request may
            # have found that out.
            again = self._held_runs.get(task_id, caller)
            return again or self._held_runs.hold(run, 0, at_end=self._end, held_id=task_id)
        run_row = await self._task_store.run_of(row.run_id)
        if run_row is not None and run_row.finished_at is not None:
            await self._note(row.id, row.run_id, self._ending(run_row, caller), caller)
            return await self._task_store.find(task_id, caller)
        return row

    async def _find(self, context: ServerRequestContext[Any], params: TaskParams) -> HeldRun | TaskRow:
        task = await self.visible(context, params.task_id)
        if task is None:
            raise MCPError(
                types.INVALID_PARAMS,
                f"The task '{params.task_id[:100]}' does not exist. Results are kept for "
                f"{RESULT_LIFETIME_S / 60:g} minutes.",
            )
        return task

    async def _end(self, held_run: HeldRun) -> None:
        run = held_run.run
        if run.recorded is not None:
            await run.recorded.wait()
            row = await self._task_store.run_of(run.id)
            if row is not None and row.finished_at is None:
                return  # the daemon's shutdown interrupted the run: the run and its task will be resumed
        outcome = run.error if run.error is not None else self._outcome(run.name, run.result, run.caller)
        await self._note(held_run.id, run.id, outcome, run.caller, held_run.message)

    async def _note(
        self, task_id: str, run: str, outcome: ErrorBody | Result, caller: Principal, message: str = ""
    ) -> None:
        """Store how a task ended: with a result, or with the error that stopped its run."""
        if not isinstance(outcome, ErrorBody):
            result_document = await result.to_stored(outcome, run, caller, self._library)
            await self._task_store.end(task_id, "completed", message, result_document)
        elif outcome.code == "cancelled":
            await self._task_store.end(task_id, "cancelled", outcome.message)
        else:
            failure_document = {"answer": _json(failure(outcome.message)), "artifacts": []}
            await self._task_store.end(task_id, "completed", outcome.message, failure_document)

    def _ending(self, row: RunRow, caller: Principal) -> ErrorBody | Result:
        """Return how a durable run ended, according to its row."""
        if row.status == "completed":
            return self._outcome(row.name, row.result, caller)
        error = row.error or {}
        message = str(error.get("message") or "The run failed.")
        return ErrorBody(
            message, "server_error", "cancelled" if row.status == "cancelled" else error.get("code")
        )

    def _outcome(self, name: str, outcome: Any, caller: Principal) -> Result:
        """Return the outcome of a run as a result. After a resumed run, the outcome is only the plain output of
        its flow.
        """
        if isinstance(outcome, AppOutput | SearchResult | ChatReply | ToolResult):
            return outcome
        app = self._registry.get(name, caller)
        if app is None or app_functions.has_schema(app.card):
            return AppOutput(outcome)
        return ChatReply(outcome if isinstance(outcome, str) else json.dumps(outcome, ensure_ascii=False))

    async def _task_of_row(self, row: TaskRow, caller: Principal) -> dict[str, Any]:
        """Return a task that runs on another daemon, or whose row is all that remains."""
        state = _fields(row.id, row.status, row.created_at, row.finished_at, row.run_id, row.message)
        if row.status == "failed":
            state["error"] = {"code": types.INTERNAL_ERROR, "message": row.message}
        if row.result is not None:
            try:
                state["result"] = _json(await result.restored(row.result, caller, self._library))
            except PorticoError as error:
                state["result"] = _json(failure(error.message))
        return state

    async def _result(self, held_run: HeldRun, caller: Principal) -> types.CallToolResult:
        if held_run.run.error is not None:
            return failure(held_run.run.error.message)
        try:
            outcome = self._outcome(held_run.run.name, held_run.run.result, caller)
            return await result.result_of(outcome, held_run.run.id, caller, self._library)
        except PorticoError as error:
            return failure(error.message)


def _state(context: ServerRequestContext[Any], held_run: HeldRun) -> dict[str, Any]:
    """Return the state of a task without the details of its status. The task has ended once its row is written."""
    run = held_run.run
    status = "working"
    if held_run.settled:
        status = "cancelled" if run.status == "cancelled" else "completed"
    elif inquiry.requests(context, held_run.questions.values()):
        status = "input_required"
    message = run.error.message if run.error is not None else held_run.message
    ended_at = run.finished_at if held_run.settled else None
    state = _fields(held_run.id, status, run.created_at, ended_at, run.id, message)
    return {**state, "lastUpdatedAt": _iso_time(held_run.updated_at)}


def _fields(
    task_id: str, status: str, created_at: float, ended_at: float | None, run_id: str, message: str
) -> dict[str, Any]:
    """Return a task as clients see it. Times are in seconds since 1970."""
    ttl = None if ended_at is None else int((ended_at + RESULT_LIFETIME_S - created_at) * 1000)
    state: dict[str, Any] = {
        "taskId": task_id,
        "status": status,
        "createdAt": _iso_time(created_at),
        "lastUpdatedAt": _iso_time(ended_at or created_at),
        "ttlMs": ttl,
        "pollIntervalMs": POLL_INTERVAL_MS,
        "_meta": {"portico/run": run_id},
    }
    return {**state, "statusMessage": message} if message else state


def _require_local(row: TaskRow) -> None:
    if row.status == "working":
        raise MCPError(
            types.INVALID_REQUEST,
            "This daemon is not running the task at the moment: the task is about to be resumed, or another "
            "daemon on the same database runs it. Try again, or send the request to the other daemon.",
        )


def _json(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def _iso_time(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds or time.time(), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


logger = logging.getLogger(__name__)

LEASE_S: Final = 30.0
"""Seconds after which the tasks of an unresponsive daemon count as lost, if several daemons share a database."""


RETRY_S: Final = 1.0


class KeptTasks:
    """The rows of all tasks. ``is_alone`` is whether no other daemon shares the database."""

    def __init__(self, database: Database, held_runs: HeldRuns, *, is_alone: bool) -> None:
        self._database = database
        self._held_runs = held_runs
        self._alone = is_alone

    async def start(self) -> None:
        """Mark the tasks that were running when their daemon stopped as failed, because their runs existed only in
        that daemon.

        Wait until the database can be written, and only then serve MCP: otherwise a task that is started before would
        be mistaken for an abandoned task.
        """
        while True:
            try:
                await self._mark_lost(at_start=True)
                await self._database.write(rows.forget, RESULT_LIFETIME_S)
                return
            except Unavailable as error:
                logger.warning("MCP waits for the database: %s", error.message)
            await asyncio.sleep(RETRY_S)

    async def run(self) -> None:
        """Renew the leases of the tasks that run on this daemon, until cancelled. Do nothing if no other daemon shares
        the database.
        """
        while not self._alone:
            await asyncio.sleep(LEASE_S / 3)
            working = [held_run.id for held_run in self._held_runs.tasks if not held_run.settled]
            try:
                if working:
                    await self._database.write_soon(rows.renew, working, LEASE_S)
            except PorticoError as error:
                logger.warning("the leases of MCP tasks were not renewed: %s", error.message)

    async def begin(self, held_run: HeldRun) -> None:
        """Store a task before the client learns of it."""
        run = held_run.run
        row = TaskRow(held_run.id, run.caller.id, run.id, run.created_at)
        await self._database.write(rows.begin, row, LEASE_S, RESULT_LIFETIME_S)

    async def end(
        self, task_id: str, status: TaskStatus, message: str, result: Mapping[str, Any] | None = None
    ) -> None:
        """Store how a task ended, before the client learns of it. If storing fails, the result exists only in
        memory.
        """
        try:
            await self._database.write(rows.end, task_id, status, message, result)
        except PorticoError as error:
            logger.error("the end of an MCP task was not stored: %s", error.message)

    async def run_of(self, run_id: str) -> RunRow | None:
        """Return the row of the task's run, if the run is durable."""
        return await self._database.read(runs.get, run_id)

    async def find(self, task_id: str, caller: Principal) -> TaskRow | None:
        """Return a task that this caller started on another daemon, or on this daemon before its last restart. Return
        ``None`` for tasks that ended too long ago.
        """
        row = await self._database.read(rows.get, task_id)
        if row is not None and row.status == "working" and await self._database.read(rows.is_left, task_id):
            await self._mark_lost(at_start=False)
            row = await self._database.read(rows.get, task_id)
        if row is None or row.owner != caller.id:
            return None
        return (
            None if row.finished_at is not None and row.finished_at + RESULT_LIFETIME_S < time.time() else row
        )

    async def _mark_lost(self, *, at_start: bool) -> None:
        await self._database.write(rows.lose, include_all=at_start and self._alone)
